//! Partial sums of squares of the flat gradient. See `shaders/grad_norm/`.

use crate::error::{Error, Result};
use crate::gpu::Target;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// Partial sums that a buffer must hold.
pub const PARTIALS: usize = 128;

/// Elements of a share at most, where a processor adds them up: 32,768 iterations of 8 invocations that take 16 elements each.
const SOFTWARE_SHARE: usize = 1 << 22;

/// Partial sums of a flat gradient of `n` elements: enough for every compute unit of a card; for a processor eight, which the optimiser
/// adds up without a loop, or as many as keep each invocation's loop short.
pub fn partials(target: Target, n: usize) -> usize {
    if target.software { n.div_ceil(SOFTWARE_SHARE).clamp(8, PARTIALS) } else { n.div_ceil(8192).min(64) }
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
        let group = if plan.target.software { plan.target.vector() } else { 256 };
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
