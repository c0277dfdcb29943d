//! What models over a context of vectors share.

use crate::error::{Error, Result};
use crate::kernels::mean;
use crate::kernels::slice::{self, Rows};
use crate::plan::{Plan, Tensor};

/// Axes of a tensor of sequences.
pub(super) fn sizes(plan: &Plan, x: Tensor) -> Result<[usize; 3]> {
    plan.shape(x).try_into().map_err(|_| Error::Internal(format!("sequences of shape {:?}", plan.shape(x))))
}

/// Mean of the context (batch, context, dim).
pub(super) fn context_mean(plan: &mut Plan, x: Tensor) -> Result<Tensor> {
    let [batch, length, cols] = sizes(plan, x)?;
    let y = plan.activation("context.mean", &[batch, cols])?;
    mean::Forward { x, y, batch, length, cols }.record(plan, "context")?;
    Ok(y)
}

/// The last positions of sequences.
#[derive(Debug, Clone, Copy)]
pub(super) struct Last {
    x: Tensor,
    rows: Rows,
}

impl Last {
    /// Appends y (batch, features), the last position of each sequence of x (batch, length, features), or (length, batch, features).
    pub(super) fn of(plan: &mut Plan, x: Tensor, time_major: bool) -> Result<(Last, Tensor)> {
        let [a, b, cols] = sizes(plan, x)?;
        let (batch, length) = if time_major { (b, a) } else { (a, b) };
        let (first, stride) = if time_major { ((length - 1) * batch, 1) } else { (length - 1, length) };
        let rows = Rows { rows: batch * length, cols, picked: batch, first, stride };
        let y = plan.activation("last", &[batch, cols])?;
        slice::Forward { x, y, rows }.record(plan, "last")?;
        Ok((Last { x, rows }, y))
    }

    /// Appends the gradient of all positions from that of the last ones.
    pub(super) fn backward(self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        let dx = plan.like("last.dx", self.x)?;
        slice::Backward { dy, dx, rows: self.rows }.record(plan, "last")?;
        Ok(dx)
    }
}
