//! Attention of one query over the positions of its sequence. See `shaders/attention_pool/`.

use super::row_lanes;
use crate::error::{Error, Result};
use crate::plan::{Dispatch, Grid, Plan, Tensor};

fn pool(plan: &Plan, kernel: &'static str, label: &str, [rows, length, features, cols]: [usize; 4]) -> Result<(Dispatch, Grid)> {
    if length > 64 {
        return Err(Error::Config(format!("attention pooling over {length} positions: at most 64 fit an invocation's registers")));
    }
    let (group, lanes) = row_lanes(&plan.target, cols);
    let dispatch = Dispatch::new(kernel, label)
        .constant("WG", group)
        .constant("LANES", lanes)
        .constant("T", length as u32)
        .size("rows", rows)
        .size("features", features)
        .size("cols", cols);
    Ok((dispatch, Grid::Groups(rows.div_ceil((group / lanes) as usize))))
}

/// a = softmax(q·k / √H), y = [b; Σ a x].
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// (rows, H).
    pub q: Tensor,
    /// (rows, T, H).
    pub k: Tensor,
    /// (rows, T, C).
    pub x: Tensor,
    /// (rows, C).
    pub b: Tensor,
    /// (rows, T).
    pub a: Tensor,
    /// (rows, 2, C).
    pub y: Tensor,
    /// Number of sequences.
    pub rows: usize,
    /// T: positions, at most 64.
    pub length: usize,
    /// H: features of query and keys.
    pub features: usize,
    /// C: features of what is averaged.
    pub cols: usize,
}

impl Forward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Forward { q, k, x, b, a, y, rows, length, features, cols } = self;
        for (tensor, len) in [
            (q, rows * features),
            (k, rows * length * features),
            (x, rows * length * cols),
            (b, rows * cols),
            (a, rows * length),
            (y, 2 * rows * cols),
        ] {
            plan.expect("attention_pool/forward", tensor, len)?;
        }
        let (dispatch, grid) = pool(plan, "attention_pool/forward", label, [rows, length, features, cols])?;
        let dispatch = dispatch.bind("q", q).bind("k", k).bind("x", x).bind("b", b).bind("a", a).bind("y", y);
        plan.record(dispatch.flops(2 * rows * length * (features + cols)), grid)
    }
}

/// dq and dk from dy; x and b are data.
#[derive(Debug, Clone, Copy)]
pub struct Backward {
    /// (rows, H).
    pub q: Tensor,
    /// (rows, T, H).
    pub k: Tensor,
    /// (rows, T, C).
    pub x: Tensor,
    /// (rows, T), of the forward pass.
    pub a: Tensor,
    /// (rows, 2, C).
    pub dy: Tensor,
    /// (rows, H).
    pub dq: Tensor,
    /// (rows, T, H).
    pub dk: Tensor,
    /// Number of sequences.
    pub rows: usize,
    /// T: positions, at most 64.
    pub length: usize,
    /// H: features of query and keys.
    pub features: usize,
    /// C: features of what is averaged.
    pub cols: usize,
}

impl Backward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Backward { q, k, x, a, dy, dq, dk, rows, length, features, cols } = self;
        for (tensor, len) in [
            (q, rows * features),
            (k, rows * length * features),
            (x, rows * length * cols),
            (a, rows * length),
            (dy, 2 * rows * cols),
            (dq, rows * features),
            (dk, rows * length * features),
        ] {
            plan.expect("attention_pool/backward", tensor, len)?;
        }
        let (dispatch, grid) = pool(plan, "attention_pool/backward", label, [rows, length, features, cols])?;
        let dispatch = dispatch.bind("q", q).bind("k", k).bind("x", x).bind("a", a).bind("dy", dy).bind("dq", dq).bind("dk", dk);
        plan.record(dispatch.flops(2 * rows * length * (2 * features + cols)), grid)
    }
}
