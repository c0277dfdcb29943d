//! What the terms of a sum have in common.

use std::fmt::Debug;

use crate::error::Result;
use crate::kernels::vector_loss::{Rows, Slot};
use crate::kernels::{moments, normalize};
use crate::losses::loss::Targets;
use crate::plan::{Plan, Section, Tensor};

/// A term of the sum.
pub trait Term: Debug {
    /// Name of its column.
    fn name(&self) -> &'static str;

    /// Factor in the sum.
    fn weight(&self) -> f64;

    /// Fails on options out of range.
    ///
    /// # Errors
    /// What is wrong, in words.
    fn validate(&self) -> std::result::Result<(), String> {
        Ok(())
    }

    /// Whether it takes a standard deviation over the batch.
    fn needs_two(&self) -> bool {
        false
    }

    /// Whether it compares the samples of a batch with each other.
    fn compares(&self) -> bool {
        self.needs_two()
    }

    /// Whether it is in the batches of this step, where it is left out of some.
    fn drawn(&self, _seed: u64, _step: u64) -> bool {
        false
    }

    /// Takes what it needs of the training targets.
    ///
    /// # Errors
    /// `Data` when there are too few.
    fn prepare(&mut self, _targets: &Targets, _seed: u64) -> Result<()> {
        Ok(())
    }

    /// Puts itself into the one pass over rows, where it is a sum over them.
    ///
    /// # Errors
    /// As `Plan::record`.
    fn rows(&self, _context: &mut Context<'_>, _slot: Slot, _rows: &mut Rows) -> Result<()> {
        Ok(())
    }

    /// Appends passes of its own: its value into its column, weight · value to the loss, and its gradient.
    ///
    /// # Errors
    /// As `Plan::record`.
    fn record(&self, _context: &mut Context<'_>, _slot: Slot) -> Result<()> {
        Ok(())
    }
}

/// What the terms of a sum share while they are recorded.
#[derive(Debug)]
pub struct Context<'a> {
    /// Plan.
    pub plan: &'a mut Plan,
    /// r (rows, width).
    pub x: Tensor,
    /// t (rows, width).
    pub t: Tensor,
    /// Results (rows, cols).
    pub y: Tensor,
    /// Gradient by r, where it is asked for; the pass over rows writes it, others add.
    pub dx: Option<Tensor>,
    /// Samples.
    pub rows: usize,
    /// Features.
    pub width: usize,
    /// Columns of the results.
    pub cols: usize,
    pub(super) unit: Option<(Tensor, Tensor)>,
    pub(super) unit_gradient: Option<Tensor>,
    pub(super) unit_stats: Option<Tensor>,
}

impl Context<'_> {
    /// p.
    ///
    /// # Errors
    /// As `Plan::record`.
    pub fn unit(&mut self) -> Result<Tensor> {
        if let Some((p, _)) = self.unit {
            return Ok(p);
        }
        let (p, norm) = (self.plan.like("loss.p", self.x)?, self.plan.activation("loss.norm", &[self.rows])?);
        normalize::Forward { x: self.x, y: p, norm, rows: self.rows, cols: self.width }.record(self.plan, "loss.p")?;
        self.unit = Some((p, norm));
        Ok(p)
    }

    /// Mean and deviation of p over the batch, (2, width).
    ///
    /// # Errors
    /// As `Plan::record`.
    pub fn unit_stats(&mut self) -> Result<Tensor> {
        if let Some(stats) = self.unit_stats {
            return Ok(stats);
        }
        let p = self.unit()?;
        let stats = self.plan.activation("loss.stats", &[2, self.width])?;
        moments::Forward { x: p, stats, rows: self.rows, width: self.width }.record(self.plan, "loss.stats")?;
        self.unit_stats = Some(stats);
        Ok(stats)
    }

    /// The gradient by p, and whether another term has written it, so that it is to be added to; none where no gradient is asked for.
    ///
    /// # Errors
    /// As `Plan::record`.
    pub fn unit_gradient(&mut self) -> Result<Option<(Tensor, bool)>> {
        if self.dx.is_none() {
            return Ok(None);
        }
        if let Some(dp) = self.unit_gradient {
            return Ok(Some((dp, true)));
        }
        let dp = self.plan.like("loss.dp", self.x)?;
        self.unit_gradient = Some(dp);
        Ok(Some((dp, false)))
    }

    /// Records passes of a gradient.
    ///
    /// # Errors
    /// Those of the passes.
    pub fn backward(&mut self, passes: impl FnOnce(&mut Plan) -> Result<()>) -> Result<()> {
        self.plan.within(Section::Backward, passes)
    }
}
