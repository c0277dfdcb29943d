//! Activations by themselves. See `shaders/activation/`.

use super::matmul::Activation;
use crate::error::Result;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// y = f(x).
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// (n).
    pub x: Tensor,
    /// (n).
    pub y: Tensor,
    /// Activation function f.
    pub kind: Activation,
}

impl Forward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Forward { x, y, kind } = self;
        let n = plan.len(x);
        plan.expect("activation/forward", y, n)?;
        let dispatch = Dispatch::new("activation/forward", label).constant("KIND", kind as u32).bind("x", x).bind("y", y).size("n", n);
        plan.record(dispatch.flops(4 * n), Grid::Threads(n))
    }
}

/// dx = dy ⊙ f'(x).
#[derive(Debug, Clone, Copy)]
pub struct Backward {
    /// (n), input of the forward pass.
    pub x: Tensor,
    /// (n).
    pub dy: Tensor,
    /// (n).
    pub dx: Tensor,
    /// Activation function f.
    pub kind: Activation,
}

impl Backward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Backward { x, dy, dx, kind } = self;
        let n = plan.len(x);
        plan.expect("activation/backward", dy, n)?;
        plan.expect("activation/backward", dx, n)?;
        let dispatch = Dispatch::new("activation/backward", label).constant("KIND", kind as u32).bind("x", x).bind("dy", dy);
        plan.record(dispatch.bind("dx", dx).size("n", n).flops(6 * n), Grid::Threads(n))
    }
}
