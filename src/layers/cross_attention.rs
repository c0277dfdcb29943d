//! Multi-head attention from one sequence to another.

use super::layer::{Gradient, Mask, axes, dropout, saved_by_forward, through_dropout};
use super::linear::{Fused, Linear};
use crate::error::{Error, Result};
use crate::kernels::Dropout;
use crate::kernels::attention::{Backward, Forward, Shape};
use crate::plan::{Init, Plan, Tensor};

/// `torch.nn.MultiheadAttention` with queries of x and keys and values of a memory of the same length:
/// x + dropout(out_proj(attention(q_proj(x), kv_proj(memory)))).
#[derive(Debug, Clone)]
pub struct CrossAttention {
    name: String,
    features: usize,
    heads: usize,
    causal: bool,
    rate: f64,
    q_proj: Linear,
    kv_proj: Linear,
    out_proj: Linear,
    saved: Option<Saved>,
}

#[derive(Debug, Clone, Copy)]
struct Saved {
    q: Tensor,
    kv: Tensor,
    y: Tensor,
    lse: Tensor,
    shape: Shape,
    output_dropout: Option<Dropout>,
}

impl CrossAttention {
    /// A layer with the weights of `SelfAttention`: the first third of the stacked projection makes the queries, the rest keys and values.
    ///
    /// # Errors
    /// `Config` when the heads do not divide the features.
    pub fn new(name: &str, features: usize, heads: usize, mask: Mask, rate: f64) -> Result<Self> {
        if heads == 0 || !features.is_multiple_of(heads) {
            return Err(Error::Config(format!("model.heads = {heads} must divide the {features} features of the model")));
        }
        let init = [Init::Uniform((6.0 / (4.0 * features as f64)).sqrt()), Init::Zeros];
        let stacked = |part: &str, outputs: usize, first: usize| {
            let names = [format!("{name}.in_proj_weight"), format!("{name}.in_proj_bias")];
            let mut linear = Linear::new(&format!("{name}.{part}"), features, outputs).with(names, init);
            linear.rows_of = Some((3 * features, first));
            linear
        };
        let out = format!("{name}.out_proj");
        let out_init = [Init::Uniform(1.0 / (features as f64).sqrt()), Init::Zeros];
        Ok(CrossAttention {
            name: name.into(),
            features,
            heads,
            causal: mask == Mask::Causal,
            rate,
            q_proj: stacked("q_proj", features, 0),
            kv_proj: stacked("kv_proj", 2 * features, features),
            out_proj: Linear::new(&out, features, features).with([format!("{out}.weight"), format!("{out}.bias")], out_init),
            saved: None,
        })
    }

    /// Appends the forward pass, residual included.
    ///
    /// # Errors
    /// As `Layer::forward`.
    pub fn forward(&mut self, plan: &mut Plan, x: Tensor, memory: Tensor) -> Result<Tensor> {
        let [batch, length, _] = axes(plan, x, &self.name)?;
        let q = self.q_proj.forward_fused(plan, x, None)?;
        let kv = self.kv_proj.forward_fused(plan, memory, None)?;
        let (heads, head_dim) = (self.heads, self.features / self.heads);
        let shape = Shape { batch, length, heads, head_dim, causal: self.causal, dropout: dropout(plan, self.rate), rope: None };
        let y = plan.like(format!("{}.y", self.name), x)?;
        let lse = plan.activation(format!("{}.lse", self.name), &[shape.batch, shape.heads, shape.length])?;
        Forward { qkv: kv, q: Some(q), y, lse, shape }.record(plan, &self.name)?;
        let output_dropout = dropout(plan, self.rate);
        self.out_proj.dropout = output_dropout;
        self.saved = Some(Saved { q, kv, y, lse, shape, output_dropout });
        self.out_proj.forward_fused(plan, y, Some(x))
    }

    /// Dropout on the output, before the residual is added.
    pub(super) fn output_dropout(&self) -> Option<Dropout> {
        self.saved.as_ref().and_then(|saved| saved.output_dropout)
    }

    /// Appends the backward pass: gives the gradients of x and of the memory; `later`, the memory's gradient from later
    /// layers, is added.
    ///
    /// # Errors
    /// `Internal` before `forward`.
    pub fn backward(&mut self, plan: &mut Plan, dy: impl Into<Gradient>, later: Option<Tensor>) -> Result<(Tensor, Tensor)> {
        let Saved { q, kv, y, lse, shape, output_dropout } = saved_by_forward(&self.saved, &self.name)?;
        let dy: Gradient = dy.into();
        let masked = through_dropout(plan, dy, output_dropout, &self.name)?;
        self.out_proj.backward_params(plan, masked)?;
        let da = self.out_proj.backward_input(plan, masked, Fused::default())?;
        let (dkv, dq) = (plan.like(format!("{}.dkv", self.name), kv)?, plan.like(format!("{}.dq", self.name), q)?);
        Backward { qkv: kv, q: Some((q, dq)), y, lse, dy: da, dqkv: dkv, shape }.record(plan, &self.name)?;
        self.q_proj.backward_params(plan, dq)?;
        self.kv_proj.backward_params(plan, dkv)?;
        let dx = self.q_proj.backward_input(plan, dq, Fused { residual: Some(dy.unmasked), ..Fused::default() })?;
        Ok((dx, self.kv_proj.backward_input(plan, dkv, Fused { residual: later, ..Fused::default() })?))
    }
}
