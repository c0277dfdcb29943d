//! Multi-head self-attention with its projections.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layer::{Cache, Decoding, Gradient, Layer, Mask, axes, dropout, saved_by_forward, through_dropout};
use super::linear::{Fused, Linear};
use super::sequential::Step;
use super::stacked::{Sample, StackLayer};
use crate::error::{Error, Result};
use crate::gpu::Role;
use crate::kernels::Dropout;
use crate::kernels::attention::{Backward, Cached, Forward, Shape, Store};
use crate::plan::{Init, Plan, Tensor};

/// `torch.nn.MultiheadAttention` as self-attention, with its residual: x + dropout(out_proj(attention(in_proj(x)))).
#[derive(Debug, Clone)]
pub struct SelfAttention {
    name: String,
    features: usize,
    heads: usize,
    causal: bool,
    rate: f64,
    in_proj: Linear,
    out_proj: Linear,
    saved: Option<Saved>,
}

#[derive(Debug, Clone, Copy)]
struct Saved {
    qkv: Tensor,
    y: Tensor,
    lse: Tensor,
    shape: Shape,
    output_dropout: Option<Dropout>,
}

impl SelfAttention {
    /// A layer with the weights `name.in_proj_weight`, `name.in_proj_bias`, `name.out_proj.weight` and `name.out_proj.bias`, and with
    /// dropout of this rate on the attention probabilities and on the output.
    ///
    /// # Errors
    /// `Config` when the heads do not divide the features.
    pub fn new(name: &str, features: usize, heads: usize, mask: Mask, rate: f64) -> Result<Self> {
        // Xavier-uniform over the stacked (3·features, features) matrix, biases 0, as torch.nn.MultiheadAttention draws them.
        let xavier = Init::Uniform((6.0 / (4.0 * features as f64)).sqrt());
        let in_proj = Linear::new(&format!("{name}.in_proj"), features, 3 * features)
            .with([format!("{name}.in_proj_weight"), format!("{name}.in_proj_bias")], [xavier, Init::Zeros]);
        let out = format!("{name}.out_proj");
        let out_proj = Linear::new(&out, features, features)
            .with([format!("{out}.weight"), format!("{out}.bias")], [Init::Uniform(1.0 / (features as f64).sqrt()), Init::Zeros]);
        SelfAttention::between([in_proj, out_proj], name, features, heads, mask, rate)
    }

    /// A layer between these projections, of `features` to three times as many and of `features` to as many.
    ///
    /// # Errors
    /// As `new`.
    pub fn between(projections: [Linear; 2], name: &str, features: usize, heads: usize, mask: Mask, rate: f64) -> Result<Self> {
        if heads == 0 || !features.is_multiple_of(heads) {
            return Err(Error::Config(format!("model.heads = {heads} must divide the {features} features of the model")));
        }
        let [in_proj, out_proj] = projections;
        Ok(SelfAttention { name: name.into(), features, heads, causal: mask == Mask::Causal, rate, in_proj, out_proj, saved: None })
    }

    /// Appends the forward pass over whole sequences, added to `residual`: x itself, or the tensor whose normalisation x is.
    ///
    /// # Errors
    /// As `Layer::forward`.
    pub fn forward(&mut self, plan: &mut Plan, x: Tensor, residual: Tensor) -> Result<Tensor> {
        let [batch, length, _] = axes(plan, x, &self.name)?;
        let qkv = self.in_proj.forward_fused(plan, x, None)?;
        let shape = Shape {
            batch,
            length,
            heads: self.heads,
            head_dim: self.features / self.heads,
            causal: self.causal,
            dropout: dropout(plan, self.rate),
            rope: None,
        };
        let y = plan.like(format!("{}.y", self.name), x)?;
        let lse = plan.activation(format!("{}.lse", self.name), &[batch, self.heads, length])?;
        Forward { qkv, q: None, y, lse, shape }.record(plan, &self.name)?;
        let output_dropout = dropout(plan, self.rate);
        self.out_proj.dropout = output_dropout;
        self.saved = Some(Saved { qkv, y, lse, shape, output_dropout });
        self.out_proj.forward_fused(plan, y, Some(residual))
    }

    /// Appends the forward pass for one new position over the cache, or for whole sequences that fill it from its beginning, added to
    /// `residual`.
    ///
    /// # Errors
    /// As `Layer::forward`.
    pub fn forward_cached(&mut self, plan: &mut Plan, x: Tensor, residual: Tensor, cache: Cache) -> Result<Tensor> {
        let [batch, positions, _] = axes(plan, x, &self.name)?;
        let (heads, head_dim) = (self.heads, self.features / self.heads);
        let qkv = self.in_proj.forward_fused(plan, x, None)?;
        let y = plan.like(format!("{}.y", self.name), x)?;
        let shape = Shape { batch, length: positions, heads, head_dim, causal: true, dropout: None, rope: None };
        attend_cached(plan, &self.name, [qkv, y], shape, heads, cache)?;
        self.out_proj.forward_fused(plan, y, Some(residual))
    }

    /// Dropout on the output, before the residual is added.
    pub(super) fn output_dropout(&self) -> Option<Dropout> {
        self.saved.as_ref().and_then(|saved| saved.output_dropout)
    }

    /// Appends the backward pass and gives the gradient of x, with the gradient `residual` added to it if there is one.
    ///
    /// # Errors
    /// `Internal` before `forward`.
    pub fn backward(&mut self, plan: &mut Plan, dy: impl Into<Gradient>, residual: Option<Tensor>) -> Result<Tensor> {
        let Saved { qkv, y, lse, shape, output_dropout } = saved_by_forward(&self.saved, &self.name)?;
        let masked = through_dropout(plan, dy, output_dropout, &self.name)?;
        self.out_proj.backward_params(plan, masked)?;
        let da = self.out_proj.backward_input(plan, masked, Fused::default())?;
        let dqkv = plan.like(format!("{}.dqkv", self.name), qkv)?;
        Backward { qkv, q: None, y, lse, dy: da, dqkv, shape }.record(plan, &self.name)?;
        self.in_proj.backward_params(plan, dqkv)?;
        self.in_proj.backward_input(plan, dqkv, Fused { residual, ..Fused::default() })
    }
}

impl Layer for SelfAttention {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        self.forward(plan, x, x)
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        self.backward(plan, dy, Some(dy))
    }

    fn decoding(&self) -> Decoding {
        if self.causal { Decoding::Limited } else { Decoding::None }
    }

    fn forward_cached(&mut self, plan: &mut Plan, x: Tensor, cache: Cache) -> Result<Tensor> {
        self.forward_cached(plan, x, x, cache)
    }
}

/// Appends y = attention of qkv (batch, length, 3, heads, head_dim): of one new position over the cache of the layer `name`, or of whole
/// sequences that fill it from its beginning. Each of its `kv_heads` heads serves as many heads of queries.
pub(super) fn attend_cached(plan: &mut Plan, name: &str, [qkv, y]: [Tensor; 2], shape: Shape, kv_heads: usize, cache: Cache) -> Result<()> {
    let (Shape { batch, length: positions, heads, head_dim, .. }, Cache { sources, limit }) = (shape, cache);
    let mut kept = |what: &str| plan.persistent(Role::KvCache, &format!("{name}.{what}"), &[batch, kv_heads, limit, head_dim]);
    let (keys, values) = (kept("keys")?, kept("values")?);
    if positions == 1 {
        return Cached { qkv, sources, keys, values, y, batch, heads, kv_heads, head_dim, limit }.record(plan, name);
    }
    let lse = plan.activation(format!("{name}.lse"), &[batch, heads, positions])?;
    Forward { qkv, q: None, y, lse, shape }.record(plan, name)?;
    Store { qkv, keys, values, batch, positions, heads, kv_heads, head_dim, limit }.record(plan, name)
}

/// Self-attention of a stack, with its residual.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SelfAttentionConfig {
    /// Number of attention heads; they divide the features into heads of at most 128.
    #[schemars(range(min = 1, max = 1 << 12))]
    pub heads: usize,
    /// Causal attention: each position sees only itself and earlier ones.
    #[serde(default)]
    pub causal: bool,
    /// Dropout rate of attention probabilities and of the output.
    #[serde(default)]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub dropout: f64,
}

impl StackLayer for SelfAttentionConfig {
    fn make(&self, name: &str, at: &str, sample: &mut Sample) -> Result<Step> {
        let features = sample.in_heads(self.heads, at)?;
        Ok(Step::other(SelfAttention::new(name, features, self.heads, Mask::of(self.causal), self.dropout)?))
    }

    fn looks_ahead(&self) -> bool {
        !self.causal
    }
}
