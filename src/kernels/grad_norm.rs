//! Partial sums of squares of the flat gradient. See `shaders/grad_norm/`.

use crate::error::Result;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// Partial sums for a flat gradient of `n` elements.
pub fn partials(n: usize) -> usize {
    n.div_ceil(8192).min(64)
}

/// y[g] = Σ of squares over share g.
#[derive(Debug, Clone, Copy)]
pub struct Partial {
    /// (n).
    pub x: Tensor,
    /// (`partials(n)`).
    pub y: Tensor,
}

impl Partial {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let n = plan.len(self.x);
        let count = partials(n);
        plan.expect("grad_norm/partial", self.y, count)?;
        let group = if plan.target.software { 64 } else { 256 };
        let dispatch = Dispatch::new("grad_norm/partial", label)
            .constant("WG", group)
            .constant("LANES", group)
            .bind("x", self.x)
            .bind("y", self.y)
            .size("n", n)
            .size("share", n.div_ceil(count))
            .size("partials", count)
            .flops(2 * n);
        plan.record(dispatch, Grid::Groups(count))
    }
}
