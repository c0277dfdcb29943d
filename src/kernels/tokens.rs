//! The sequence of a mechanism: latent, type, start, joints. See `shaders/tokens/`.

use super::{adding, parts, state};
use crate::error::Result;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// Tokens before the first joint: latent, type, start.
pub const BEFORE_JOINTS: usize = 3;

/// y = latent, table[type] + position, sos + position, joints + positions; or one of them, of position state.position.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// (batch, cols).
    pub latent: Tensor,
    /// (batch) types.
    pub ids: Tensor,
    /// (types, cols).
    pub table: Tensor,
    /// (cols).
    pub sos: Tensor,
    /// (·, cols).
    pub positions: Tensor,
    /// (batch, joints, cols).
    pub joint: Tensor,
    /// (batch, length, cols).
    pub y: Tensor,
    /// Number of sequences.
    pub batch: usize,
    /// Tokens of a sequence.
    pub length: usize,
    /// Number of features.
    pub cols: usize,
    /// Joints given of each sequence.
    pub joints: usize,
}

impl Forward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Forward { latent, ids, table, sos, positions, joint, y, batch, length, cols, joints } = self;
        let n = batch * length * cols;
        for (tensor, len) in [(latent, batch * cols), (ids, batch), (sos, cols), (joint, batch * joints * cols), (y, n)] {
            plan.expect("tokens/forward", tensor, len)?;
        }
        plan.expect("tokens/forward", table, plan.len(table).next_multiple_of(cols))?;
        plan.expect("tokens/forward", positions, plan.len(positions).max((length - 1) * cols))?;
        let dispatch = Dispatch::new("tokens/forward", label)
            .bind("state", state(plan)?)
            .bind("latent", latent)
            .bind("ids", ids)
            .bind("table", table)
            .bind("sos", sos)
            .bind("positions", positions)
            .bind("joint", joint)
            .bind("y", y)
            .size("batch", batch)
            .size("length", length)
            .size("cols", cols)
            .size("joints", joints);
        plan.record(dispatch.flops(n), Grid::Threads(n))
    }
}

/// dlatent, dtype and djoint from dy of whole sequences.
#[derive(Debug, Clone, Copy)]
pub struct Backward {
    /// (batch, 3 + joints, cols).
    pub dy: Tensor,
    /// (batch, cols).
    pub dlatent: Tensor,
    /// (batch, cols): for the scatter into the table.
    pub dtype: Tensor,
    /// (batch, joints, cols).
    pub djoint: Tensor,
    /// Number of sequences.
    pub batch: usize,
    /// Number of features.
    pub cols: usize,
    /// Joints of each sequence.
    pub joints: usize,
}

impl Backward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Backward { dy, dlatent, dtype, djoint, batch, cols, joints } = self;
        let n = batch * (BEFORE_JOINTS + joints) * cols;
        for (tensor, len) in [(dy, n), (dlatent, batch * cols), (dtype, batch * cols), (djoint, batch * joints * cols)] {
            plan.expect("tokens/backward", tensor, len)?;
        }
        let dispatch = Dispatch::new("tokens/backward", label)
            .bind("dy", dy)
            .bind("dlatent", dlatent)
            .bind("dtype", dtype)
            .bind("djoint", djoint)
            .size("batch", batch)
            .size("cols", cols)
            .size("joints", joints);
        plan.record(dispatch, Grid::Threads(n))
    }
}

/// dpositions and dsos from dy of whole sequences.
#[derive(Debug, Clone, Copy)]
pub struct BackwardParams {
    /// (batch, length, cols).
    pub dy: Tensor,
    /// (at least length − 1, cols), `+=`.
    pub dpositions: Tensor,
    /// (cols), `+=`.
    pub dsos: Tensor,
    /// Number of sequences.
    pub batch: usize,
    /// Tokens of a sequence.
    pub length: usize,
    /// Number of features.
    pub cols: usize,
}

impl BackwardParams {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let BackwardParams { dy, dpositions, dsos, batch, length, cols } = self;
        plan.expect("tokens/backward_params", dy, batch * length * cols)?;
        plan.expect("tokens/backward_params", dsos, cols)?;
        let n = plan.len(dpositions);
        plan.expect("tokens/backward_params", dpositions, n.max((length - 1) * cols))?;
        for part in parts(&plan.target, batch, 1) {
            let dispatch = Dispatch::new("tokens/backward_params", label)
                .bind("dy", dy)
                .bind("dpositions", dpositions)
                .bind("dsos", dsos)
                .size("first", part.start)
                .size("end", part.end)
                .size("length", length)
                .size("cols", cols)
                .size("n", n)
                .flops(part.len() * length * cols);
            let dispatch = adding(plan, dispatch, &[dpositions, dsos])?;
            plan.record(dispatch, Grid::Threads(n))?;
        }
        Ok(())
    }
}
