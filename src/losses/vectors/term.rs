//! What the terms of a sum have in common.

use std::fmt::Debug;

use crate::error::Result;
use crate::kernels::vector_loss::{Rows, Slot};
use crate::kernels::{moments, normalize};
use crate::losses::loss::Targets;
use crate::plan::{Plan, Section, Tensor};

/// A term of the weighted sum.
pub trait Term: Debug {
    /// Name of the term and of its column.
    fn name(&self) -> &'static str;

    /// Factor in the sum.
    fn weight(&self) -> f64;

    /// True if it takes a standard deviation over the batch, which needs two samples.
    fn needs_two(&self) -> bool {
        false
    }

    /// True if it compares the samples of a batch with each other.
    fn compares(&self) -> bool {
        self.needs_two()
    }

    /// True if the term takes part in some steps only, and in this one.
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

    /// Adds the term to the kernel that goes over the rows once, if it is a sum over rows.
    ///
    /// # Errors
    /// As `Plan::record`.
    fn rows(&self, _context: &mut Context<'_>, _slot: Slot, _rows: &mut Rows) -> Result<()> {
        Ok(())
    }

    /// Appends kernels of the term's own: its value goes into its column, weight · value to the loss, and its gradient to that of the loss.
    ///
    /// # Errors
    /// As `Plan::record`.
    fn record(&self, _context: &mut Context<'_>, _slot: Slot) -> Result<()> {
        Ok(())
    }
}

/// Plan, tensors and sizes that the terms of a sum share while they are recorded.
#[derive(Debug)]
pub struct Context<'a> {
    /// Plan that is recorded.
    pub plan: &'a mut Plan,
    /// Raw output r, shape (rows, width).
    pub x: Tensor,
    /// Target t, shape (rows, width).
    pub t: Tensor,
    /// Results, shape (rows, cols).
    pub y: Tensor,
    /// Gradient with respect to r, if it is asked for; the kernel over rows writes it, and others add to it.
    pub dx: Option<Tensor>,
    /// Number of samples.
    pub rows: usize,
    /// Number of features.
    pub width: usize,
    /// Number of columns of the results.
    pub cols: usize,
    pub(super) unit: Option<(Tensor, Tensor)>,
    pub(super) unit_gradient: Option<Tensor>,
    pub(super) unit_stats: Option<Tensor>,
}

impl Context<'_> {
    /// Unit prediction p = r / ‖r‖, shape (rows, width).
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

    /// Mean and standard deviation of p over the batch, shape (2, width).
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

    /// Gradient with respect to p, and true if another term has already written it, so that it has to be added to; none if no gradient is
    /// asked for.
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

    /// Records kernels of the backward pass.
    ///
    /// # Errors
    /// Errors of the passes.
    pub fn backward(&mut self, passes: impl FnOnce(&mut Plan) -> Result<()>) -> Result<()> {
        self.plan.within(Section::Backward, passes)
    }
}
