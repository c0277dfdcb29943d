//! Time steps of the LSTM cell. See `shaders/lstm/`.

use std::ops::Range;

use super::matmul::in_blocks;
use super::{Dropout, features, state};
use crate::error::Result;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// Sizes that the passes share.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Number of time steps T.
    pub length: usize,
    /// Number of sequences B.
    pub batch: usize,
    /// Number of units H.
    pub units: usize,
}

impl Shape {
    fn slot(&self) -> usize {
        self.batch * self.units
    }

    /// True if a time step after the first is one launch on the plan's target.
    pub fn fuses(&self, plan: &Plan) -> bool {
        !plan.target.software && self.units.is_multiple_of(4)
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

/// State before a step.
#[derive(Debug, Clone, Copy)]
pub enum Before {
    /// h and c are 0: b_hh (4, H) alone.
    Zeros(Tensor),
    /// W_hh h + b_hh: (B, 4, H).
    Product(Tensor),
    /// W_hh (4, H, H) and b_hh (4, H), and h itself: where `Shape::fuses`.
    State(Tensor, Tensor),
}

/// Gates, cell and output of step t.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// (T, B, 4, H): W_ih x + b_ih.
    pub gx: Tensor,
    /// The state before.
    pub before: Before,
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
        let Forward { gx, before, gates, h, c, y, dropout, t, shape } = self;
        let Shape { length, batch, units } = shape;
        let slot = shape.slot();
        let name = if let Before::State(..) = before { "lstm/step" } else { "lstm/forward" };
        for (tensor, len) in [(gx, 4 * length * slot), (gates, 4 * length * slot), (h, (length + 1) * slot), (c, (length + 1) * slot)] {
            plan.expect(name, tensor, len)?;
        }
        let dispatch = Dispatch::new(name, label).bind("gx", gx).bind("gates", gates).bind("h", h).bind("c", c).size("t", t);
        let dispatch = dispatch.moves_part("gx", of(t, 4 * slot)).moves_part("gates", of(t, 4 * slot)).moves_part("y", of(t, slot));
        let dispatch = dispatch.moves_part("h", t * slot..(t + 2) * slot).moves_part("c", t * slot..(t + 2) * slot);
        let dispatch = output(plan, dispatch, y, dropout, ["y", "y_at"])?;
        let (dispatch, grid) = match before {
            Before::Zeros(u) | Before::Product(u) => {
                let first = matches!(before, Before::Zeros(_));
                plan.expect(name, u, if first { 4 * units } else { 4 * slot })?;
                let features = features(&plan.target, units);
                let dispatch = dispatch.constant("FEATURES", features as u32).constant("FIRST", first.into()).bind("u", u);
                (dispatch.size("batch", batch).size("units", units).flops(100 * slot), Grid::Threads(slot / features))
            }
            Before::State(weight, bias) => {
                plan.expect(name, weight, 4 * units * units)?;
                plan.expect(name, bias, 4 * units)?;
                let dispatch = dispatch.bind("b", weight).bind("bias", bias).size("m", batch).size("n", 4 * units).size("k", units);
                let dispatch = dispatch.size("batch", 1).size("a_at", t * slot).size("b_at", 0);
                in_blocks(dispatch.flops(slot * (8 * units + 100)), batch, 4 * units, units, 1)
            }
        };
        plan.record(dispatch, grid)
    }
}

/// The elements of step t, of `each` a step.
fn of(t: usize, each: usize) -> Range<usize> {
    t * each..(t + 1) * each
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
        let Backward { gates, c, dy, dropout, dh, dc, dgates, t, shape } = self;
        let Shape { length, batch, units } = shape;
        let slot = shape.slot();
        for (tensor, len) in [(gates, 4 * length * slot), (dgates, 4 * length * slot), (c, (length + 1) * slot), (dc, slot)] {
            plan.expect("lstm/backward", tensor, len)?;
        }
        let features = features(&plan.target, units);
        let dispatch = Dispatch::new("lstm/backward", label)
            .constant("FEATURES", features as u32)
            .bind("gates", gates)
            .bind("c", c)
            .bind_if("LATER", "dh", dh)
            .bind("dc", dc)
            .bind("dgates", dgates)
            .size("batch", batch)
            .size("units", units)
            .size("t", t)
            .moves_part("gates", of(t, 4 * slot))
            .moves_part("c", t * slot..(t + 2) * slot)
            .moves_part("dgates", of(t, 4 * slot))
            .moves_part("dy", of(t, slot))
            .flops(60 * slot);
        let dispatch = output(plan, dispatch, dy, dropout, ["dy", "dy_at"])?;
        plan.record(dispatch, Grid::Threads(slot / features))
    }
}
