//! Index of the largest element of each row. See `shaders/argmax/`.

use super::row_dispatch;
use crate::error::Result;
use crate::plan::{Plan, Tensor};

/// y = argmax over each row of x, the lowest index of equals.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// (rows, cols).
    pub x: Tensor,
    /// (rows) indices.
    pub y: Tensor,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
}

impl Forward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Forward { x, y, rows, cols } = self;
        plan.expect("argmax/forward", x, rows * cols)?;
        plan.expect("argmax/forward", y, rows)?;
        let (dispatch, grid) = row_dispatch(plan, "argmax/forward", label, rows, cols);
        plan.record(dispatch.bind("x", x).bind("y", y).flops(rows * cols), grid)
    }
}
