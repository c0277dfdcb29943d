//! Time steps of the LSTM cell. See `shaders/lstm/`.

use super::matmul::in_blocks;
use super::{Dropout, state};
use crate::error::Result;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// Sizes that the passes share.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// T.
    pub length: usize,
    /// B.
    pub batch: usize,
    /// H.
    pub units: usize,
}

impl Shape {
    fn slot(&self) -> usize {
        self.batch * self.units
    }

    /// Whether a time step after the first is one launch on the plan's target.
    pub fn fuses(&self, plan: &Plan) -> bool {
        !plan.target.software && self.units.is_multiple_of(4)
    }

    /// Fails unless what the passes forward share has these sizes.
    fn expect(&self, plan: &Plan, kernel: &str, [gx, gates, h, c]: [Tensor; 4]) -> Result<()> {
        let (per_gate, states) = (4 * self.length * self.slot(), (self.length + 1) * self.slot());
        [(gx, per_gate), (gates, per_gate), (h, states), (c, states)].into_iter().try_for_each(|(t, len)| plan.expect(kernel, t, len))
    }
}

/// Binds the output of a step and its dropout.
fn output(
    plan: &mut Plan,
    dispatch: Dispatch,
    y: Option<(Tensor, usize)>,
    dropout: Option<Dropout>,
    names: [&'static str; 2],
) -> Result<Dispatch> {
    let dropout = dropout.filter(|_| y.is_some());
    let dispatch = dispatch
        .constant("DROPOUT", dropout.is_some().into())
        .bind_if("OUTPUT", names[0], y.map(|(y, _)| y))
        .size(names[1], y.map_or(0, |(_, at)| at))
        .size("stream", dropout.map_or(0, |d| d.stream as usize))
        .scalar("rate", dropout.map_or(0.0, |d| d.rate));
    Ok(if dropout.is_some() { dispatch.bind("state", state(plan)?) } else { dispatch })
}

/// Gates, cell and output of step t after the first, from the state before it, where `Shape::fuses`.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// (T, B, 4, H): W_ih x + b_ih.
    pub gx: Tensor,
    /// (4, H, H): W_hh.
    pub weight: Tensor,
    /// (4, H): b_hh.
    pub bias: Tensor,
    /// (T, B, 4, H).
    pub gates: Tensor,
    /// (T + 1, B, H).
    pub h: Tensor,
    /// (T + 1, B, H).
    pub c: Tensor,
    /// Output with the element at which this step's begins.
    pub y: Option<(Tensor, usize)>,
    /// On the output.
    pub dropout: Option<Dropout>,
    /// Step.
    pub t: usize,
    /// Sizes.
    pub shape: Shape,
}

impl Step {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Step { gx, weight, bias, gates, h, c, y, dropout, t, shape } = self;
        let Shape { batch, units, .. } = shape;
        shape.expect(plan, "lstm/step", [gx, gates, h, c])?;
        plan.expect("lstm/step", weight, 4 * units * units)?;
        plan.expect("lstm/step", bias, 4 * units)?;
        let dispatch = Dispatch::new("lstm/step", label)
            .bind("gx", gx)
            .bind("b", weight)
            .bind("bias", bias)
            .bind("gates", gates)
            .bind("h", h)
            .bind("c", c)
            .size("m", batch)
            .size("n", 4 * units)
            .size("k", units)
            .size("batch", 1)
            .size("a_at", t * shape.slot())
            .size("b_at", 0)
            .size("t", t)
            .flops(shape.slot() * (8 * units + 100));
        let dispatch = output(plan, dispatch, y, dropout, ["y", "y_at"])?;
        let (dispatch, grid) = in_blocks(dispatch, batch, 4 * units, units, 1);
        plan.record(dispatch, grid)
    }
}

/// Gates, cell and output of step t.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// (T, B, 4, H): W_ih x + b_ih.
    pub gx: Tensor,
    /// (B, 4, H): W_hh h + b_hh, or (4, H) b_hh alone where `first`.
    pub u: Tensor,
    /// (T, B, 4, H).
    pub gates: Tensor,
    /// (T + 1, B, H).
    pub h: Tensor,
    /// (T + 1, B, H).
    pub c: Tensor,
    /// Output with the element at which this step's begins.
    pub y: Option<(Tensor, usize)>,
    /// On the output.
    pub dropout: Option<Dropout>,
    /// h and c before are 0.
    pub first: bool,
    /// Step.
    pub t: usize,
    /// Sizes.
    pub shape: Shape,
}

impl Forward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Forward { gx, u, gates, h, c, y, dropout, first, t, shape } = self;
        let Shape { batch, units, .. } = shape;
        let slot = shape.slot();
        shape.expect(plan, "lstm/forward", [gx, gates, h, c])?;
        plan.expect("lstm/forward", u, if first { 4 * units } else { 4 * slot })?;
        let dispatch = Dispatch::new("lstm/forward", label)
            .constant("FIRST", first.into())
            .bind("gx", gx)
            .bind("u", u)
            .bind("gates", gates)
            .bind("h", h)
            .bind("c", c)
            .size("batch", batch)
            .size("units", units)
            .size("t", t)
            .flops(100 * slot);
        let dispatch = output(plan, dispatch, y, dropout, ["y", "y_at"])?;
        plan.record(dispatch, Grid::Threads(slot))
    }
}

/// Gradients of step t; the last step comes first.
#[derive(Debug, Clone, Copy)]
pub struct Backward {
    /// (T, B, 4, H), of the forward pass.
    pub gates: Tensor,
    /// (T + 1, B, H), of the forward pass.
    pub c: Tensor,
    /// Gradient of the output with the element at which this step's begins.
    pub dy: Option<(Tensor, usize)>,
    /// On the output.
    pub dropout: Option<Dropout>,
    /// (B, H): what step t + 1 sends back through W_hh; none at the last step.
    pub dh: Option<Tensor>,
    /// (B, H): carried from step t + 1 to t.
    pub dc: Tensor,
    /// (T, B, 4, H).
    pub dgates: Tensor,
    /// Step.
    pub t: usize,
    /// Sizes.
    pub shape: Shape,
}

impl Backward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Backward { gates, c, dy, dropout, dh, dc, dgates, t, shape } = self;
        let Shape { length, batch, units } = shape;
        let slot = shape.slot();
        for (tensor, len) in [(gates, 4 * length * slot), (dgates, 4 * length * slot), (c, (length + 1) * slot), (dc, slot)] {
            plan.expect("lstm/backward", tensor, len)?;
        }
        let dispatch = Dispatch::new("lstm/backward", label)
            .bind("gates", gates)
            .bind("c", c)
            .bind_if("LATER", "dh", dh)
            .bind("dc", dc)
            .bind("dgates", dgates)
            .size("batch", batch)
            .size("units", units)
            .size("t", t)
            .flops(60 * slot);
        let dispatch = output(plan, dispatch, dy, dropout, ["dy", "dy_at"])?;
        plan.record(dispatch, Grid::Threads(slot))
    }
}
