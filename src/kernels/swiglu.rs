//! SwiGLU: a gate and what it lets through. See `shaders/swiglu/`.

use crate::error::Result;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// y = g σ(g) ⊙ u.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// (rows, 2, cols): g, u.
    pub x: Tensor,
    /// (rows, cols).
    pub y: Tensor,
    /// Columns of y.
    pub cols: usize,
}

impl Forward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Forward { x, y, cols } = self;
        let n = plan.len(y);
        let (kernel, each) = if cols.is_multiple_of(4) { ("swiglu/forward_vec4", 4) } else { ("swiglu/forward", 1) };
        plan.expect(kernel, x, 2 * n)?;
        let dispatch = Dispatch::new(kernel, label).bind("x", x).bind("y", y).size("rows", n / cols).size("cols", cols);
        plan.record(dispatch.flops(12 * n), Grid::Threads(n / each))
    }
}

/// dx from dy.
#[derive(Debug, Clone, Copy)]
pub struct Backward {
    /// (rows, 2, cols).
    pub x: Tensor,
    /// (rows, cols).
    pub dy: Tensor,
    /// (rows, 2, cols).
    pub dx: Tensor,
    /// Columns of dy.
    pub cols: usize,
}

impl Backward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Backward { x, dy, dx, cols } = self;
        let n = plan.len(dy);
        let (kernel, each) = if cols.is_multiple_of(4) { ("swiglu/backward_vec4", 4) } else { ("swiglu/backward", 1) };
        plan.expect(kernel, x, 2 * n)?;
        plan.expect(kernel, dx, 2 * n)?;
        let dispatch = Dispatch::new(kernel, label).bind("x", x).bind("dy", dy).bind("dx", dx).size("rows", n / cols).size("cols", cols);
        plan.record(dispatch.flops(30 * n), Grid::Threads(n / each))
    }
}
