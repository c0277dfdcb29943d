//! The post-norm transformer block with attention to a memory (Vaswani et al. 2017).

use super::cross_attention::CrossAttention;
use super::feed_forward::FeedForward;
use super::layer::{Layer, Mask};
use super::layer_norm::LayerNorm;
use super::linear::Fused;
use super::self_attention::SelfAttention;
use super::transformer_block::BlockConfig;
use crate::error::Result;
use crate::plan::{Plan, Tensor};

/// `torch.nn.TransformerDecoderLayer` with norm_first = False:
/// s = norm1(x + attention(x)), r = norm2(s + attention(s, memory)), y = norm3(r + feed_forward(r)).
#[derive(Debug)]
pub struct DecoderBlock {
    attention: SelfAttention,
    norm1: LayerNorm,
    cross: CrossAttention,
    norm2: LayerNorm,
    feed_forward: FeedForward,
    norm3: LayerNorm,
}

impl DecoderBlock {
    /// A block with the weights `name.self_attn.*`, `name.multihead_attn.*`, `name.linear1.*`, `name.linear2.*`, `name.norm1.*` to
    /// `name.norm3.*`.
    ///
    /// # Errors
    /// `Config` when the heads do not divide the features.
    pub fn new(name: &str, config: BlockConfig) -> Result<Self> {
        let BlockConfig { features, heads, hidden, activation, dropout, eps, causal, .. } = config;
        let norm = |which: &str| LayerNorm::new(&format!("{name}.{which}"), features, eps);
        Ok(DecoderBlock {
            attention: SelfAttention::new(&format!("{name}.self_attn"), features, heads, Mask::of(causal), dropout)?,
            norm1: norm("norm1"),
            cross: CrossAttention::new(&format!("{name}.multihead_attn"), features, heads, Mask::of(causal), dropout)?,
            norm2: norm("norm2"),
            feed_forward: FeedForward::new(name, features, hidden, activation, dropout),
            norm3: norm("norm3"),
        })
    }

    /// Appends the forward pass.
    ///
    /// # Errors
    /// As `Layer::forward`.
    pub fn forward(&mut self, plan: &mut Plan, x: Tensor, memory: Tensor) -> Result<Tensor> {
        let sum = self.attention.forward(plan, x, x)?;
        let s = self.norm1.forward(plan, sum)?;
        let sum = self.cross.forward(plan, s, memory)?;
        let r = self.norm2.forward(plan, sum)?;
        let sum = self.feed_forward.forward(plan, r)?;
        self.norm3.forward(plan, sum)
    }

    /// Appends the backward pass: gives the gradients of x and of the memory; `later`, the memory's gradient from later
    /// blocks, is added.
    ///
    /// # Errors
    /// `Internal` before `forward`.
    pub fn backward(&mut self, plan: &mut Plan, dy: Tensor, later: Option<Tensor>) -> Result<(Tensor, Tensor)> {
        let d = self.norm3.backward_above(plan, dy, Fused::default(), self.feed_forward.output_dropout())?;
        let d = self.feed_forward.backward_from(plan, d, Some(d.unmasked))?;
        let d = self.norm2.backward_above(plan, d, Fused::default(), self.cross.output_dropout())?;
        let (d, dmemory) = self.cross.backward(plan, d, later)?;
        let d = self.norm1.backward_above(plan, d, Fused::default(), self.attention.output_dropout())?;
        Ok((self.attention.backward(plan, d, Some(d.unmasked))?, dmemory))
    }
}
