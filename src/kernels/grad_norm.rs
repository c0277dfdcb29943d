//! Partial sums of squares of the flat gradient. See `shaders/grad_norm/`.

use crate::error::{Error, Result};
use crate::gpu::Target;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// Partial sums that a buffer must hold.
pub const PARTIALS: usize = 64;

/// Partial sums of a flat gradient of `n` elements: enough for every compute unit of a card, two for a processor.
pub fn partials(target: Target, n: usize) -> usize {
    n.div_ceil(8192).min(if target.software { 2 } else { PARTIALS })
}

/// y[g] = Σ of squares over share g, for g < `partials`.
#[derive(Debug, Clone, Copy)]
pub struct Partial {
    /// (n).
    pub x: Tensor,
    /// (`PARTIALS`).
    pub y: Tensor,
}

impl Partial {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let n = plan.len(self.x);
        let count = partials(plan.target, n);
        plan.expect("grad_norm/partial", self.y, PARTIALS)?;
        if !n.is_multiple_of(4) {
            return Err(Error::Internal(format!("grad_norm/partial: {n} elements are no multiple of 4")));
        }
        let group = if plan.target.software { 8 } else { 256 };
        let dispatch = Dispatch::new("grad_norm/partial", label)
            .constant("WG", group)
            .constant("LANES", group)
            .bind("x", self.x)
            .bind("y", self.y)
            .size("n", n)
            .size("share", n.div_ceil(count).next_multiple_of(4))
            .size("partials", count)
            .flops(2 * n);
        plan.record(dispatch, Grid::Groups(count))
    }
}
