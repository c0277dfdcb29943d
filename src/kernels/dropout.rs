//! Dropout by itself. See `shaders/dropout/`.

use super::{Dropout, state};
use crate::error::Result;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// y = x ⊙ keep / (1 − rate); the backward pass is the same with dy for x.
#[derive(Debug, Clone, Copy)]
pub struct Apply {
    /// (n).
    pub x: Tensor,
    /// (n).
    pub y: Tensor,
    /// Rate and stream.
    pub dropout: Dropout,
}

impl Apply {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Apply { x, y, dropout } = self;
        let n = plan.len(x);
        plan.expect("dropout/apply", y, n)?;
        let dispatch = Dispatch::new("dropout/apply", label)
            .bind("state", state(plan)?)
            .bind("x", x)
            .bind("y", y)
            .size("n", n)
            .size("stream", dropout.stream as usize)
            .scalar("rate", dropout.rate)
            .flops(2 * n);
        plan.record(dispatch, Grid::Threads(n))
    }
}
