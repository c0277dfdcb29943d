//! One vector of a sequence: the mean of its positions, a mean by learned weights, or the last position.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layer::{Layer, lengths, saved_by_forward};
use super::linear::{Fused, Linear};
use super::sequential::Step;
use super::stacked::{Sample, StackLayer};
use crate::error::{Error, Result};
use crate::kernels::mean;
use crate::kernels::slice::{self, Rows};
use crate::kernels::weighted_mean;
use crate::plan::{Init, Plan, Tensor};

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

/// Mean over the positions by weights that are the softmax of a learned score of each, by head: a = softmax_t(W x_t), y = Σ_t a_t x_t (the
/// self-attentive embedding of Lin et al. 2017 with a linear score).
#[derive(Debug)]
struct AttentionPool {
    name: String,
    score: Linear,
    heads: usize,
    saved: Option<Pooled>,
}

#[derive(Debug, Clone, Copy)]
struct Pooled {
    a: Tensor,
    x: Tensor,
    y: Tensor,
    sizes: weighted_mean::Sizes,
}

impl Layer for AttentionPool {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        let [batch, length, cols] = sizes(plan, x)?;
        let sizes = weighted_mean::Sizes { batch, length, heads: self.heads, cols };
        let s = self.score.forward(plan, x)?;
        let a = plan.activation(format!("{}.weights", self.name), &[batch, length, self.heads])?;
        weighted_mean::Weights { s, a, lengths: lengths(plan), sizes }.record(plan, &self.name)?;
        let y = plan.activation(format!("{}.mean", self.name), &[batch, cols])?;
        weighted_mean::Forward { a, x, y, sizes }.record(plan, &self.name)?;
        self.saved = Some(Pooled { a, x, y, sizes });
        Ok(y)
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        let Pooled { a, x, y, sizes } = saved_by_forward(&self.saved, &self.name)?;
        let ds = plan.like(format!("{}.dscores", self.name), a)?;
        let dx = plan.like(format!("{}.dmean", self.name), x)?;
        weighted_mean::Backward { a, x, y, dy, ds, dx, sizes }.record(plan, &self.name)?;
        self.score.backward_params(plan, ds)?;
        self.score.backward_input(plan, ds, Fused { residual: Some(dx), ..Fused::default() })
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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

/// Mean over the positions by learned weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttentionPoolConfig {
    /// Number of heads, each of which weighs its own part of the features; they divide the features.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1 << 10))]
    pub heads: usize,
}

fn one() -> usize {
    1
}

impl StackLayer for AttentionPoolConfig {
    fn make(&self, name: &str, at: &str, sample: &mut Sample) -> Result<Step> {
        let ([_, features], heads) = (sample.sequence(at)?, self.heads);
        if !features.is_multiple_of(heads) {
            return Err(Error::Config(format!("{at}.heads = {heads} must divide the {features} features that it is given")));
        }
        sample.padded = false;
        sample.shape = vec![features];
        // A softmax ignores what is added to all scores, so there is no bias.
        let (label, bound) = (format!("{name}.score"), Init::Uniform(1.0 / (features as f64).sqrt()));
        let score = Linear::without_bias(&label, &[format!("{label}.weight")], features, heads, bound);
        Ok(Step::other(AttentionPool { name: name.into(), score, heads, saved: None }))
    }
}

/// Last position.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
