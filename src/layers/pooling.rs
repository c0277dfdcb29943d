//! One vector of a sequence: the mean of its positions, or the last.

use serde::{Deserialize, Serialize};

use super::layer::{Layer, lengths, saved_by_forward};
use super::sequential::Step;
use super::stacked::{Sample, StackLayer};
use crate::error::{Error, Result};
use crate::kernels::mean;
use crate::kernels::slice::{self, Rows};
use crate::plan::{Plan, Tensor};

/// Axes (batch, length, features) of a tensor of sequences, or (length, batch, features) in time-major order.
pub(crate) fn sizes(plan: &Plan, x: Tensor) -> Result<[usize; 3]> {
    plan.shape(x).try_into().map_err(|_| Error::Internal(format!("sequences of shape {:?}", plan.shape(x))))
}

/// Appends the mean over the context: (batch, context, dim) → (batch, dim).
pub(crate) fn context_mean(plan: &mut Plan, x: Tensor) -> Result<Tensor> {
    let [batch, length, cols] = sizes(plan, x)?;
    let y = plan.activation("context.mean", &[batch, cols])?;
    let lengths = lengths(plan);
    mean::Forward { x, y, batch, length, cols, lengths }.record(plan, "context")?;
    Ok(y)
}

/// Selection of the last position of each sequence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Last {
    x: Tensor,
    rows: Rows,
    lengths: Option<Tensor>,
}

impl Last {
    /// Appends y (batch, features), the last position of each sequence of x (batch, length, features), or (length, batch, features).
    pub(crate) fn of(plan: &mut Plan, x: Tensor, time_major: bool) -> Result<(Last, Tensor)> {
        let [a, b, cols] = sizes(plan, x)?;
        let (batch, length) = if time_major { (b, a) } else { (a, b) };
        let (first, stride) = if time_major { ((length - 1) * batch, 1) } else { (length - 1, length) };
        let rows = Rows { rows: batch * length, cols, picked: batch, first, stride };
        let y = plan.activation("last", &[batch, cols])?;
        let lengths = lengths(plan).filter(|_| !time_major);
        slice::Forward { x, y, rows, lengths }.record(plan, "last")?;
        Ok((Last { x, rows, lengths }, y))
    }

    /// Appends the gradient of all positions from that of the last ones.
    pub(crate) fn backward(self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        let dx = plan.like("last.dx", self.x)?;
        slice::Backward { dy, dx, rows: self.rows, lengths: self.lengths }.record(plan, "last")?;
        Ok(dx)
    }
}

/// Mean over the positions of a sequence, as a layer.
#[derive(Debug, Default)]
struct MeanPool {
    saved: Option<[usize; 3]>,
}

impl Layer for MeanPool {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        self.saved = Some(sizes(plan, x)?);
        context_mean(plan, x)
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        let [batch, length, cols] = saved_by_forward(&self.saved, "mean_pool")?;
        let dx = plan.activation("context.dmean", &[batch, length, cols])?;
        mean::Backward { dy, dx, batch, length, cols, lengths: lengths(plan) }.record(plan, "context")?;
        Ok(dx)
    }
}

/// The last position of a sequence, as a layer.
#[derive(Debug, Default)]
struct LastPosition {
    saved: Option<Last>,
}

impl Layer for LastPosition {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        let (last, y) = Last::of(plan, x, false)?;
        self.saved = Some(last);
        Ok(y)
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        saved_by_forward(&self.saved, "last")?.backward(plan, dy)
    }
}

/// Mean over the positions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeanPoolConfig {}

impl StackLayer for MeanPoolConfig {
    fn make(&self, _name: &str, at: &str, sample: &mut Sample) -> Result<Step> {
        let [_, features] = sample.sequence(at)?;
        sample.padded = false;
        sample.shape = vec![features];
        Ok(Step::other(MeanPool::default()))
    }
}

/// Last position.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastConfig {}

impl StackLayer for LastConfig {
    fn make(&self, _name: &str, at: &str, sample: &mut Sample) -> Result<Step> {
        let [_, features] = sample.sequence(at)?;
        sample.padded = false;
        sample.shape = vec![features];
        Ok(Step::other(LastPosition::default()))
    }
}
