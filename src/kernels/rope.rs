//! Rotary positions. See `shaders/rope/`.

use super::state;
use crate::error::{Error, Result};
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// Cosines and sines of t · θ^(−2c/D), (limit, D/2, 2), as the kernel takes them.
pub fn table(limit: usize, head_dim: usize, theta: f64) -> Vec<f32> {
    let angle = |t: usize, c: usize| t as f64 * theta.powf(-2.0 * c as f64 / head_dim as f64);
    let pairs = (0..limit).flat_map(|t| (0..head_dim / 2).map(move |c| angle(t, c)));
    pairs.flat_map(|a| [a.cos() as f32, a.sin() as f32]).collect()
}

/// Sizes that the passes share.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Positions of a sequence.
    pub length: usize,
    /// H: heads of the queries.
    pub heads: usize,
    /// KV: heads of keys and values, each of which serves H / KV heads of queries.
    pub kv_heads: usize,
    /// D: features of a head, an even number.
    pub head_dim: usize,
}

impl Shape {
    /// Records a pass over these rows, which is `kernel`, or `vec4` where vectors fit, of so many pairs of the output.
    fn dispatch(self, plan: &mut Plan, [kernel, vec4]: [&'static str; 2], label: &str, n: usize) -> Result<(Dispatch, usize)> {
        let Shape { length, heads, kv_heads, head_dim } = self;
        if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
            return Err(Error::Internal(format!("{kernel}: {kv_heads} heads of keys do not divide {heads} of queries")));
        }
        let (kernel, pairs) = if head_dim.is_multiple_of(8) { (vec4, 4) } else { (kernel, 1) };
        let dispatch = Dispatch::new(kernel, label)
            .bind("state", state(plan)?)
            .size("rows", n / (3 * heads * head_dim))
            .size("length", length)
            .size("heads", heads)
            .size("kv_heads", kv_heads)
            .size("head_dim", head_dim)
            .flops(2 * n);
        Ok((dispatch, pairs))
    }

    /// Fails unless the tensors have these sizes: `narrow` (rows, H + 2 KV, D), `wide` (rows, 3, H, D), and the table.
    fn expect(self, plan: &Plan, name: &str, [narrow, wide, table]: [Tensor; 3]) -> Result<()> {
        let Shape { length, heads, kv_heads, head_dim } = self;
        let rows = plan.len(wide) / (3 * heads * head_dim);
        plan.expect(name, wide, rows * 3 * heads * head_dim)?;
        plan.expect(name, narrow, rows * (heads + 2 * kv_heads) * head_dim)?;
        // A table may reach beyond the sequence.
        plan.expect(name, table, plan.len(table).max(length * head_dim))
    }
}

/// y = x with queries and keys turned by their positions, and keys and values repeated for the heads that they serve.
#[derive(Debug, Clone, Copy)]
pub struct Rotate {
    /// (rows, H + 2 KV, D).
    pub x: Tensor,
    /// (limit, D/2, 2).
    pub table: Tensor,
    /// (rows, 3, H, D).
    pub y: Tensor,
    /// Sizes of the tensors.
    pub shape: Shape,
}

impl Rotate {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Rotate { x, table, y, shape } = self;
        shape.expect(plan, "rope/rotate", [x, y, table])?;
        let n = plan.len(y);
        let (dispatch, pairs) = shape.dispatch(plan, ["rope/rotate", "rope/rotate_vec4"], label, n)?;
        plan.record(dispatch.bind("x", x).bind("table", table).bind("y", y), Grid::Threads(n / 2 / pairs))
    }
}

/// dx from dy.
#[derive(Debug, Clone, Copy)]
pub struct Backward {
    /// (rows, 3, H, D).
    pub dy: Tensor,
    /// (limit, D/2, 2).
    pub table: Tensor,
    /// (rows, H + 2 KV, D).
    pub dx: Tensor,
    /// Sizes of the tensors.
    pub shape: Shape,
}

impl Backward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Backward { dy, table, dx, shape } = self;
        shape.expect(plan, "rope/backward", [dx, dy, table])?;
        let (dispatch, pairs) = shape.dispatch(plan, ["rope/backward", "rope/backward_vec4"], label, plan.len(dy))?;
        plan.record(dispatch.bind("dy", dy).bind("table", table).bind("dx", dx), Grid::Threads(plan.len(dx) / 2 / pairs))
    }
}
