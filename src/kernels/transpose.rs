//! Sequences batch after batch into step after step, and back. See `shaders/transpose/`.

use crate::error::Result;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// y[b, a] = x[a, b]; its gradient is the same pass with the axes exchanged.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// (first, second, cols).
    pub x: Tensor,
    /// (second, first, cols).
    pub y: Tensor,
    /// Length of the first axis of x.
    pub first: usize,
    /// Length of its second axis.
    pub second: usize,
    /// Numbers of a row.
    pub cols: usize,
}

impl Forward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Forward { x, y, first, second, cols } = self;
        let n = first * second * cols;
        plan.expect("transpose/forward", x, n)?;
        plan.expect("transpose/forward", y, n)?;
        let dispatch = Dispatch::new("transpose/forward", label).bind("x", x).bind("y", y);
        plan.record(dispatch.size("first", first).size("second", second).size("cols", cols), Grid::Threads(n))
    }
}
