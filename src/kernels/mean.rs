//! Mean over the positions of a sequence. See `shaders/mean/`.

use crate::error::Result;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// y[b] = mean of x[b].
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// (batch, length, cols).
    pub x: Tensor,
    /// (batch, cols).
    pub y: Tensor,
    /// Number of sequences.
    pub batch: usize,
    /// Number of positions.
    pub length: usize,
    /// Number of features.
    pub cols: usize,
    /// (batch): number of positions of each sequence that count, from 1 to all; without it all count.
    pub lengths: Option<Tensor>,
}

impl Forward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Forward { x, y, batch, length, cols, lengths } = self;
        lengths.map_or(Ok(()), |lengths| plan.expect("mean", lengths, batch))?;
        for (tensor, len) in [(x, batch * length * cols), (y, batch * cols)] {
            plan.expect("mean/forward", tensor, len)?;
        }
        let dispatch = Dispatch::new("mean/forward", label)
            .bind("x", x)
            .bind("y", y)
            .bind_if("LENGTHS", "lengths", lengths)
            .size("batch", batch)
            .size("length", length)
            .size("cols", cols)
            .flops(batch * length * cols);
        plan.record(dispatch, Grid::Threads(batch * cols))
    }
}

/// dx of the mean.
#[derive(Debug, Clone, Copy)]
pub struct Backward {
    /// (batch, cols).
    pub dy: Tensor,
    /// (batch, length, cols).
    pub dx: Tensor,
    /// Number of sequences.
    pub batch: usize,
    /// Number of positions.
    pub length: usize,
    /// Number of features.
    pub cols: usize,
    /// (batch): number of positions of each sequence that count, from 1 to all; without it all count.
    pub lengths: Option<Tensor>,
}

impl Backward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Backward { dy, dx, batch, length, cols, lengths } = self;
        lengths.map_or(Ok(()), |lengths| plan.expect("mean", lengths, batch))?;
        for (tensor, len) in [(dx, batch * length * cols), (dy, batch * cols)] {
            plan.expect("mean/backward", tensor, len)?;
        }
        let dispatch = Dispatch::new("mean/backward", label)
            .bind("dy", dy)
            .bind("dx", dx)
            .bind_if("LENGTHS", "lengths", lengths)
            .size("batch", batch)
            .size("length", length)
            .size("cols", cols)
            .flops(batch * length * cols);
        plan.record(dispatch, Grid::Threads(batch * length * cols))
    }
}
