//! Rotary positions. See `shaders/rope/`.

use super::state;
use crate::error::Result;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// Cosines and sines of t · θ^(−2c/D), (limit, D/2, 2), as the kernel takes them.
pub fn table(limit: usize, head_dim: usize, theta: f64) -> Vec<f32> {
    let angle = |t: usize, c: usize| t as f64 * theta.powf(-2.0 * c as f64 / head_dim as f64);
    let pairs = (0..limit).flat_map(|t| (0..head_dim / 2).map(move |c| angle(t, c)));
    pairs.flat_map(|a| [a.cos() as f32, a.sin() as f32]).collect()
}

/// y = x with queries and keys turned by their positions; with `back` turned back, which is the gradient.
#[derive(Debug, Clone, Copy)]
pub struct Rotate {
    /// (rows, 3, H, D).
    pub x: Tensor,
    /// (limit, D/2, 2).
    pub table: Tensor,
    /// (rows, 3, H, D).
    pub y: Tensor,
    /// Positions of a sequence.
    pub length: usize,
    /// H: heads.
    pub heads: usize,
    /// D: features of a head, an even number.
    pub head_dim: usize,
    /// Turn the other way.
    pub back: bool,
}

impl Rotate {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Rotate { x, table, y, length, heads, head_dim, back } = self;
        let n = plan.len(x);
        let (kernel, pairs) = if head_dim.is_multiple_of(8) { ("rope/rotate_vec4", 4) } else { ("rope/rotate", 1) };
        plan.expect(kernel, y, n)?;
        // A table may reach beyond the sequence.
        plan.expect(kernel, table, plan.len(table).max(length * head_dim))?;
        let dispatch = Dispatch::new(kernel, label)
            .bind("state", state(plan)?)
            .bind("x", x)
            .bind("table", table)
            .bind("y", y)
            .size("rows", n / (3 * heads * head_dim))
            .size("length", length)
            .size("heads", heads)
            .size("head_dim", head_dim)
            .scalar("sign", if back { -1.0 } else { 1.0 })
            .flops(2 * n);
        plan.record(dispatch, Grid::Threads(n / 2 / pairs))
    }
}
