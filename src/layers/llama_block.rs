//! The pre-norm transformer block of Llama (Touvron et al. 2023): RMS normalisation, rotary positions, grouped queries (Ainslie et al.
//! 2023), SwiGLU, no biases.

use super::layer::{Cache, Decoding, Layer, axes, dropout, saved_by_forward};
use super::layer_norm::LayerNorm;
use super::linear::{Fused, Linear};
use super::low_rank::LowRank;
use super::self_attention::attend_cached;
use crate::error::{Error, Result};
use crate::gpu::Role;
use crate::kernels::attention::{Backward, Forward, Shape};
use crate::kernels::{rope, swiglu};
use crate::plan::{Fill, Init, Plan, Tensor};

/// Sizes and options of a block.
#[derive(Debug, Clone, Copy)]
pub struct LlamaBlockConfig {
    /// Number of features.
    pub features: usize,
    /// Number of attention heads.
    pub heads: usize,
    /// Number of heads of keys and values, each of which serves as many heads of queries.
    pub kv_heads: usize,
    /// Number of hidden features of the feed-forward network.
    pub hidden: usize,
    /// Dropout rate of the attention probabilities.
    pub dropout: f64,
    /// ε, added to the mean squares of the normalisation.
    pub eps: f64,
    /// θ, the base of the rotary angles; all blocks of a model have the same.
    pub theta: f64,
    /// Number of positions that the model sees, which a plan has the angles of, whatever the length of its sequences.
    pub limit: usize,
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
    /// Queries, keys and values before they turn.
    projected: Tensor,
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
    /// `Config` when the heads do not divide the features into parts of even size, or those of keys and values do not divide the heads.
    pub fn new(name: &str, config: LlamaBlockConfig) -> Result<Self> {
        let LlamaBlockConfig { features, heads, kv_heads, hidden, eps, .. } = config;
        if heads == 0 || !features.is_multiple_of(2 * heads) {
            return Err(Error::Config(format!("model.heads = {heads} must divide the {features} features into even parts")));
        }
        if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
            return Err(Error::Config(format!("model.kv_heads = {kv_heads} must divide model.heads = {heads}")));
        }
        let init = Init::Normal(0.02);
        let linear = |label: &str, parts: &[(&str, usize)], inputs: usize| {
            let weights = parts.iter().map(|(part, rows)| (format!("{name}.{part}_proj.weight"), *rows)).collect();
            Linear::stacked(&format!("{name}.{label}"), weights, inputs, init)
        };
        let shared = features / heads * kv_heads;
        Ok(LlamaBlock {
            name: name.into(),
            config,
            norm: LayerNorm::rms(&format!("{name}.input_layernorm"), features, eps),
            qkv: linear("qkv", &[("self_attn.q", features), ("self_attn.k", shared), ("self_attn.v", shared)], features),
            output: linear("self_attn.o", &[("self_attn.o", features)], features),
            norm_after: LayerNorm::rms(&format!("{name}.post_attention_layernorm"), features, eps),
            gate_up: linear("gate_up", &[("mlp.gate", hidden), ("mlp.up", hidden)], features),
            down: linear("mlp.down", &[("mlp.down", features)], hidden),
            saved: None,
        })
    }

    /// The block with adapters of the projections of its attention, and of those of its feed-forward network.
    pub fn adapted(mut self, [attention, feed_forward]: [Option<LowRank>; 2]) -> Self {
        (self.qkv, self.output) = (self.qkv.adapted(attention), self.output.adapted(attention));
        (self.gate_up, self.down) = (self.gate_up.adapted(feed_forward), self.down.adapted(feed_forward));
        self
    }

    /// Sizes of the rotation of queries and keys of sequences of this length.
    fn turning(&self, length: usize) -> rope::Shape {
        let LlamaBlockConfig { features, heads, kv_heads, .. } = self.config;
        rope::Shape { length, heads, kv_heads, head_dim: features / heads }
    }

    /// Rotary angles of so many positions, of which a plan has one table.
    fn angles(&self, plan: &mut Plan, limit: usize) -> Result<Tensor> {
        const NAME: &str = "rope.table";
        let head_dim = self.config.features / self.config.heads;
        match plan.find(NAME) {
            Some(found) => Ok(found),
            None => {
                let angles = Fill::floats(rope::table(limit, head_dim, self.config.theta));
                plan.constant(Role::Workspace, NAME, &[limit, head_dim / 2, 2], Some(angles))
            }
        }
    }

    /// Appends the forward pass over whole sequences, or for one position over a cache, or for whole sequences that fill it.
    ///
    /// # Errors
    /// As `Layer::forward`.
    pub fn forward(&mut self, plan: &mut Plan, x: Tensor, cache: Option<Cache>) -> Result<Tensor> {
        let LlamaBlockConfig { features, heads, kv_heads, hidden, .. } = self.config;
        let [batch, length, _] = axes(plan, x, &self.name)?;
        let head_dim = features / heads;
        let table = self.angles(plan, cache.map_or(length, |cache| cache.limit).max(self.config.limit))?;
        let name = |what: &str| format!("{}.{what}", self.name);
        let normed = self.norm.forward(plan, x)?;
        let projected = self.qkv.forward(plan, normed)?;
        let mut shape = Shape { batch, length, heads, head_dim, causal: true, dropout: None, rope: None };
        let qkv = if cache.is_none() && kv_heads == heads && shape.turns(plan) {
            shape.rope = Some(table);
            projected
        } else {
            let qkv = plan.activation(name("turned"), &[batch, length, 3 * features])?;
            rope::Rotate { x: projected, table, y: qkv, shape: self.turning(length) }.record(plan, &self.name)?;
            qkv
        };
        let y = plan.like(name("y"), x)?;
        let attended = match cache {
            Some(cache) => {
                attend_cached(plan, &self.name, [qkv, y], shape, kv_heads, cache)?;
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
        self.saved = attended.map(|(lse, shape)| Saved { table, projected, qkv, y, lse, shape, gate_up });
        self.down.forward_fused(plan, gated, Some(s))
    }

    /// Appends the backward pass.
    ///
    /// # Errors
    /// `Internal` before `forward`.
    pub fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        let Saved { table, projected, qkv, y, lse, shape, gate_up } = saved_by_forward(&self.saved, &self.name)?;
        let hidden = self.config.hidden;
        self.down.backward_params(plan, dy)?;
        let dgated = self.down.backward_input(plan, dy, Fused::default())?;
        let dgate_up = plan.like(format!("{}.dgate_up", self.name), gate_up)?;
        swiglu::Backward { x: gate_up, dy: dgated, dx: dgate_up, cols: hidden }.record(plan, &self.name)?;
        let dn = self.gate_up.backward(plan, dgate_up)?;
        let ds = self.norm_after.backward_fused(plan, dn, Fused { residual: Some(dy), ..Fused::default() })?;
        let da = self.output.backward(plan, ds)?;
        let dqkv = plan.like(format!("{}.dqkv", self.name), projected)?;
        if shape.rope.is_some() {
            Backward { qkv, q: None, y, lse, dy: da, dqkv, shape }.record(plan, &self.name)?;
        } else {
            let dturned = plan.like(format!("{}.dturned", self.name), qkv)?;
            Backward { qkv, q: None, y, lse, dy: da, dqkv: dturned, shape }.record(plan, &self.name)?;
            rope::Backward { dy: dturned, table, dx: dqkv, shape: self.turning(shape.length) }.record(plan, &self.name)?;
        }
        let dn = self.qkv.backward(plan, dqkv)?;
        self.norm.backward_fused(plan, dn, Fused { residual: Some(ds), ..Fused::default() })
    }
}

impl Layer for LlamaBlock {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        self.forward(plan, x, None)
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        self.backward(plan, dy)
    }

    fn decoding(&self) -> Decoding {
        Decoding::Limited
    }

    fn forward_cached(&mut self, plan: &mut Plan, x: Tensor, cache: Cache) -> Result<Tensor> {
        self.forward(plan, x, Some(cache))
    }
}
