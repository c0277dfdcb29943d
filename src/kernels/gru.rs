//! Time steps of the GRU cell. See `shaders/gru/`.

use super::features;
use super::lstm::Shape;
use crate::error::Result;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// Gates, state and output of step t.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// (T, B, 3, H): W_ih x + b_ih.
    pub gx: Tensor,
    /// (B, 3, H): W_hh h + b_hh, or (3, H) b_hh alone where `first`.
    pub u: Tensor,
    /// (T, B, H), added to the output.
    pub residual: Option<Tensor>,
    /// (T, B, 4, H).
    pub gates: Tensor,
    /// (T + 1, B, H).
    pub h: Tensor,
    /// (T, B, H).
    pub y: Tensor,
    /// h before is 0.
    pub first: bool,
    /// Number of the time step.
    pub t: usize,
    /// Sizes of the tensors.
    pub shape: Shape,
}

impl Forward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Forward { gx, u, residual, gates, h, y, first, t, shape } = self;
        let Shape { length, batch, units } = shape;
        let slot = batch * units;
        for (tensor, len) in [
            (gx, 3 * length * slot),
            (gates, 4 * length * slot),
            (h, (length + 1) * slot),
            (y, length * slot),
            (u, if first { 3 * units } else { 3 * slot }),
        ] {
            plan.expect("gru/forward", tensor, len)?;
        }
        let of = |each: usize| t * each..(t + 1) * each;
        let features = features(&plan.target, units);
        let dispatch = Dispatch::new("gru/forward", label)
            .constant("FEATURES", features as u32)
            .constant("FIRST", first.into())
            .bind("gx", gx)
            .bind("u", u)
            .bind_if("RESIDUAL", "residual", residual)
            .bind("gates", gates)
            .bind("h", h)
            .bind("y", y)
            .size("batch", batch)
            .size("units", units)
            .size("t", t)
            .moves_part("gx", of(3 * slot))
            .moves_part("gates", of(4 * slot))
            .moves_part("h", t * slot..(t + 2) * slot)
            .moves_part("y", of(slot))
            .moves_part("residual", of(slot))
            .flops(80 * slot);
        plan.record(dispatch, Grid::Threads(slot / features))
    }
}

/// Gradients of step t; the last step comes first.
#[derive(Debug, Clone, Copy)]
pub struct Backward {
    /// (T, B, 4, H), of the forward pass.
    pub gates: Tensor,
    /// (T + 1, B, H), of the forward pass.
    pub h: Tensor,
    /// (T, B, H).
    pub dy: Tensor,
    /// (B, H): what step t + 1 sends back through W_hh; none at the last step.
    pub dh: Option<Tensor>,
    /// (B, H): carried from step t + 1 to t.
    pub direct: Tensor,
    /// (T, B, 3, H).
    pub dgx: Tensor,
    /// (T, B, 3, H).
    pub du: Tensor,
    /// Number of the time step.
    pub t: usize,
    /// Sizes of the tensors.
    pub shape: Shape,
}

impl Backward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Backward { gates, h, dy, dh, direct, dgx, du, t, shape } = self;
        let Shape { length, batch, units } = shape;
        let slot = batch * units;
        for (tensor, len) in [
            (gates, 4 * length * slot),
            (h, (length + 1) * slot),
            (dy, length * slot),
            (direct, slot),
            (dgx, 3 * length * slot),
            (du, 3 * length * slot),
        ] {
            plan.expect("gru/backward", tensor, len)?;
        }
        let of = |each: usize| t * each..(t + 1) * each;
        let features = features(&plan.target, units);
        let dispatch = Dispatch::new("gru/backward", label)
            .constant("FEATURES", features as u32)
            .bind("gates", gates)
            .bind("h", h)
            .bind("dy", dy)
            .bind_if("LATER", "dh", dh)
            .bind("direct", direct)
            .bind("dgx", dgx)
            .bind("du", du)
            .size("batch", batch)
            .size("units", units)
            .size("t", t)
            .moves_part("gates", of(4 * slot))
            .moves_part("h", t * slot..(t + 2) * slot)
            .moves_part("dy", of(slot))
            .moves_part("dgx", of(3 * slot))
            .moves_part("du", of(3 * slot))
            .flops(30 * slot);
        plan.record(dispatch, Grid::Threads(slot / features))
    }
}
