//! Sinusoidal positions. See `shaders/positions/`.

use crate::error::Result;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// y = x + positions; the gradient passes through.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// (rows, cols).
    pub x: Tensor,
    /// (rows, cols).
    pub y: Tensor,
    /// Number of features.
    pub cols: usize,
    /// Positions of a sequence.
    pub length: usize,
}

impl Forward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Forward { x, y, cols, length } = self;
        let n = plan.len(x);
        plan.expect("positions/forward", y, n)?;
        let dispatch = Dispatch::new("positions/forward", label)
            .bind("x", x)
            .bind("y", y)
            .size("rows", n / cols)
            .size("cols", cols)
            .size("length", length)
            .flops(60 * n);
        plan.record(dispatch, Grid::Threads(n))
    }
}
