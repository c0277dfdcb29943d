//! L2 normalisation of rows. See `shaders/normalize/`.

use super::row_dispatch;
use crate::error::Result;
use crate::plan::{Plan, Tensor};

/// y = x / max(‖x‖, 1e-12).
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// (rows, cols).
    pub x: Tensor,
    /// (rows, cols).
    pub y: Tensor,
    /// (rows).
    pub norm: Tensor,
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
        let Forward { x, y, norm, rows, cols } = self;
        for (tensor, len) in [(x, rows * cols), (y, rows * cols), (norm, rows)] {
            plan.expect("normalize/forward", tensor, len)?;
        }
        let (dispatch, grid) = row_dispatch(plan, "normalize/forward", label, rows, cols);
        plan.record(dispatch.bind("x", x).bind("y", y).bind("norm", norm).flops(3 * rows * cols), grid)
    }
}

/// dx = (dy − y (y·dy)) / ‖x‖.
#[derive(Debug, Clone, Copy)]
pub struct Backward {
    /// (rows, cols), of the forward pass.
    pub y: Tensor,
    /// (rows), of the forward pass.
    pub norm: Tensor,
    /// (rows, cols).
    pub dy: Tensor,
    /// (rows, cols).
    pub dx: Tensor,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// dx is `+=`.
    pub accumulate: bool,
}

impl Backward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Backward { y, norm, dy, dx, rows, cols, accumulate } = self;
        for (tensor, len) in [(y, rows * cols), (norm, rows), (dy, rows * cols), (dx, rows * cols)] {
            plan.expect("normalize/backward", tensor, len)?;
        }
        let (dispatch, grid) = row_dispatch(plan, "normalize/backward", label, rows, cols);
        let dispatch = dispatch.constant("ACCUMULATE", accumulate.into());
        let dispatch = dispatch.bind("y", y).bind("norm", norm).bind("dy", dy).bind("dx", dx);
        plan.record(dispatch.flops(5 * rows * cols), grid)
    }
}
