//! Time steps of the LSTM cell. See `shaders/lstm/`.

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
        let Shape { length, batch, units } = shape;
        let slot = shape.slot();
        for (tensor, len) in [
            (gx, 4 * length * slot),
            (gates, 4 * length * slot),
            (h, (length + 1) * slot),
            (c, (length + 1) * slot),
            (u, if first { 4 * units } else { 4 * slot }),
        ] {
            plan.expect("lstm/forward", tensor, len)?;
        }
        let dropout = dropout.filter(|_| y.is_some());
        let mut dispatch = Dispatch::new("lstm/forward", label)
            .constant("FIRST", first.into())
            .constant("DROPOUT", dropout.is_some().into())
            .bind("gx", gx)
            .bind("u", u)
            .bind("gates", gates)
            .bind("h", h)
            .bind("c", c)
            .bind_if("OUTPUT", "y", y.map(|(y, _)| y))
            .size("batch", batch)
            .size("units", units)
            .size("t", t)
            .size("y_at", y.map_or(0, |(_, at)| at))
            .size("stream", dropout.map_or(0, |d| d.stream as usize))
            .scalar("rate", dropout.map_or(0.0, |d| d.rate))
            .flops(100 * slot);
        if dropout.is_some() {
            dispatch = dispatch.bind("state", state(plan)?);
        }
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
        let dropout = dropout.filter(|_| dy.is_some());
        let mut dispatch = Dispatch::new("lstm/backward", label)
            .constant("DROPOUT", dropout.is_some().into())
            .bind("gates", gates)
            .bind("c", c)
            .bind_if("OUTPUT", "dy", dy.map(|(dy, _)| dy))
            .bind_if("LATER", "dh", dh)
            .bind("dc", dc)
            .bind("dgates", dgates)
            .size("batch", batch)
            .size("units", units)
            .size("t", t)
            .size("dy_at", dy.map_or(0, |(_, at)| at))
            .size("stream", dropout.map_or(0, |d| d.stream as usize))
            .scalar("rate", dropout.map_or(0.0, |d| d.rate))
            .flops(60 * slot);
        if dropout.is_some() {
            dispatch = dispatch.bind("state", state(plan)?);
        }
        plan.record(dispatch, Grid::Threads(slot))
    }
}
