//! The pre-norm transformer block of Llama (Touvron et al. 2023): RMS normalisation, rotary positions, SwiGLU, no biases.

use super::layer::{Cache, Layer, axes, dropout, saved_by_forward};
use super::layer_norm::LayerNorm;
use super::linear::{Fused, Linear};
use crate::error::{Error, Result};
use crate::gpu::Role;
use crate::kernels::attention::{Backward, Cached, Forward, Shape, Store};
use crate::kernels::{rope, swiglu};
use crate::plan::{Init, Plan, Tensor};

/// Sizes and options of a block.
#[derive(Debug, Clone, Copy)]
pub struct LlamaBlockConfig {
    /// Number of features.
    pub features: usize,
    /// Number of attention heads.
    pub heads: usize,
    /// Number of hidden features of the feed-forward network.
    pub hidden: usize,
    /// Dropout rate of the attention probabilities.
    pub dropout: f64,
    /// ε, added to the mean squares of the normalisation.
    pub eps: f64,
}

/// `transformers.LlamaDecoderLayer`: s = x + attention(norm(x)), y = s + down(silu(gate(n)) ⊙ up(n)), n = norm(s).
#[derive(Debug, Clone)]
pub struct LlamaBlock {
    name: String,
    config: LlamaBlockConfig,
    norm: LayerNorm,
    qkv: Linear,
    output: Linear,
    norm_after: LayerNorm,
    gate_up: Linear,
    down: Linear,
    saved: Option<Saved>,
}

#[derive(Debug, Clone, Copy)]
struct Saved {
    table: Tensor,
    qkv: Tensor,
    y: Tensor,
    lse: Tensor,
    shape: Shape,
    gate_up: Tensor,
}

impl LlamaBlock {
    /// A block with the weights `name.input_layernorm`, `name.self_attn.{q,k,v,o}_proj`, `name.post_attention_layernorm` and
    /// `name.mlp.{gate,up,down}_proj`.
    ///
    /// # Errors
    /// `Config` when the heads do not divide the features into parts of even size.
    pub fn new(name: &str, config: LlamaBlockConfig) -> Result<Self> {
        let LlamaBlockConfig { features, heads, hidden, eps, .. } = config;
        if heads == 0 || !features.is_multiple_of(2 * heads) {
            return Err(Error::Config(format!("model.heads = {heads} must divide the {features} features into even parts")));
        }
        let init = Init::Normal(0.02);
        let linear = |label: &str, names: &[&str], inputs: usize, outputs: usize| {
            let names: Vec<String> = names.iter().map(|n| format!("{name}.{n}_proj.weight")).collect();
            Linear::without_bias(&format!("{name}.{label}"), &names, inputs, outputs, init)
        };
        Ok(LlamaBlock {
            name: name.into(),
            config,
            norm: LayerNorm::rms(&format!("{name}.input_layernorm"), features, eps),
            qkv: linear("qkv", &["self_attn.q", "self_attn.k", "self_attn.v"], features, 3 * features),
            output: linear("self_attn.o", &["self_attn.o"], features, features),
            norm_after: LayerNorm::rms(&format!("{name}.post_attention_layernorm"), features, eps),
            gate_up: linear("gate_up", &["mlp.gate", "mlp.up"], features, 2 * hidden),
            down: linear("mlp.down", &["mlp.down"], hidden, features),
            saved: None,
        })
    }

    /// Appends the forward pass over whole sequences, or for one position over a cache, or for whole sequences that fill it. `table` holds
    /// the rotary angles (`rope::table`).
    ///
    /// # Errors
    /// As `Layer::forward`.
    pub fn forward(&mut self, plan: &mut Plan, x: Tensor, table: Tensor, cache: Option<Cache>) -> Result<Tensor> {
        let LlamaBlockConfig { features, heads, hidden, .. } = self.config;
        let [batch, length, _] = axes(plan, x, &self.name)?;
        let head_dim = features / heads;
        let name = |what: &str| format!("{}.{what}", self.name);
        let normed = self.norm.forward(plan, x)?;
        let projected = self.qkv.forward(plan, normed)?;
        let mut shape = Shape { batch, length, heads, head_dim, causal: true, dropout: None, rope: None };
        let qkv = if cache.is_none() && shape.turns(plan) {
            shape.rope = Some(table);
            projected
        } else {
            let qkv = plan.like(name("turned"), projected)?;
            rope::Rotate { x: projected, table, y: qkv, length, heads, head_dim, back: false }.record(plan, &self.name)?;
            qkv
        };
        let y = plan.like(name("y"), x)?;
        let attended = match cache {
            Some(Cache { sources, limit }) => {
                let sizes = [batch, heads, limit, head_dim];
                let keys = plan.persistent(Role::KvCache, &name("keys"), &sizes)?;
                let values = plan.persistent(Role::KvCache, &name("values"), &sizes)?;
                if length == 1 {
                    Cached { qkv, sources, keys, values, y, batch, heads, head_dim, limit }.record(plan, &self.name)?;
                } else {
                    let lse = plan.activation(name("lse"), &[batch, heads, length])?;
                    Forward { qkv, q: None, y, lse, shape }.record(plan, &self.name)?;
                    Store { qkv, keys, values, batch, positions: length, heads, head_dim, limit }.record(plan, &self.name)?;
                }
                None
            }
            None => {
                shape.dropout = dropout(plan, self.config.dropout);
                let lse = plan.activation(name("lse"), &[batch, heads, length])?;
                Forward { qkv, q: None, y, lse, shape }.record(plan, &self.name)?;
                Some((lse, shape))
            }
        };
        let s = self.output.forward_fused(plan, y, Some(x))?;
        let normed = self.norm_after.forward(plan, s)?;
        let gate_up = self.gate_up.forward(plan, normed)?;
        let gated = plan.activation(format!("{}.gated", self.name), &[batch, length, hidden])?;
        swiglu::Forward { x: gate_up, y: gated, cols: hidden }.record(plan, &self.name)?;
        self.saved = attended.map(|(lse, shape)| Saved { table, qkv, y, lse, shape, gate_up });
        self.down.forward_fused(plan, gated, Some(s))
    }

    /// Appends the backward pass.
    ///
    /// # Errors
    /// `Internal` before `forward`.
    pub fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        let Saved { table, qkv, y, lse, shape, gate_up } = saved_by_forward(&self.saved, &self.name)?;
        let hidden = self.config.hidden;
        self.down.backward_params(plan, dy)?;
        let dgated = self.down.backward_input(plan, dy, Fused::default())?;
        let dgate_up = plan.like(format!("{}.dgate_up", self.name), gate_up)?;
        swiglu::Backward { x: gate_up, dy: dgated, dx: dgate_up, cols: hidden }.record(plan, &self.name)?;
        let dn = self.gate_up.backward(plan, dgate_up)?;
        let ds = self.norm_after.backward_fused(plan, dn, Fused { residual: Some(dy), ..Fused::default() })?;
        let da = self.output.backward(plan, ds)?;
        let dqkv = plan.like(format!("{}.dqkv", self.name), qkv)?;
        let Shape { length, heads, head_dim, .. } = shape;
        if shape.rope.is_some() {
            Backward { qkv, q: None, y, lse, dy: da, dqkv, shape }.record(plan, &self.name)?;
        } else {
            let dturned = plan.like(format!("{}.dturned", self.name), qkv)?;
            Backward { qkv, q: None, y, lse, dy: da, dqkv: dturned, shape }.record(plan, &self.name)?;
            rope::Rotate { x: dturned, table, y: dqkv, length, heads, head_dim, back: true }.record(plan, &self.name)?;
        }
        let dn = self.qkv.backward(plan, dqkv)?;
        self.norm.backward_fused(plan, dn, Fused { residual: Some(ds), ..Fused::default() })
    }
}
