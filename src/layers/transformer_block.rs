//! The post-norm transformer block (Vaswani et al. 2017).

use super::feed_forward::FeedForward;
use super::layer::Layer;
use super::layer_norm::LayerNorm;
use super::self_attention::{Cache, SelfAttention};
use crate::error::Result;
use crate::kernels::matmul::Activation;
use crate::plan::{Plan, Tensor};

/// Sizes and options of a block.
#[derive(Debug, Clone, Copy)]
pub struct BlockConfig {
    /// Features.
    pub features: usize,
    /// Heads.
    pub heads: usize,
    /// Features of the feed-forward network.
    pub hidden: usize,
    /// Activation of the feed-forward network.
    pub activation: Activation,
    /// On probabilities, activations and sublayer outputs.
    pub dropout: f64,
    /// Added to variances.
    pub eps: f64,
    /// A position sees only itself and earlier ones.
    pub causal: bool,
}

/// `torch.nn.TransformerEncoderLayer` with norm_first = False:
/// s = norm1(x + attention(x)), y = norm2(s + feed_forward(s)).
#[derive(Debug, Clone)]
pub struct TransformerBlock {
    attention: SelfAttention,
    norm1: LayerNorm,
    feed_forward: FeedForward,
    norm2: LayerNorm,
}

impl TransformerBlock {
    /// Weights `name.self_attn.*`, `name.linear1.*`, `name.linear2.*`, `name.norm1.*`, `name.norm2.*`.
    ///
    /// # Errors
    /// `Config` when the heads do not divide the features.
    pub fn new(name: &str, config: BlockConfig) -> Result<Self> {
        let BlockConfig { features, heads, hidden, activation, dropout, eps, causal } = config;
        Ok(TransformerBlock {
            attention: SelfAttention::new(&format!("{name}.self_attn"), features, heads, causal, dropout)?,
            norm1: LayerNorm::new(&format!("{name}.norm1"), features, eps),
            feed_forward: FeedForward::new(name, features, hidden, activation, dropout),
            norm2: LayerNorm::new(&format!("{name}.norm2"), features, eps),
        })
    }

    /// Appends the forward pass: over whole sequences, or of one position over a cache.
    ///
    /// # Errors
    /// As `Layer::forward`.
    pub fn forward(&mut self, plan: &mut Plan, x: Tensor, cache: Option<Cache>) -> Result<Tensor> {
        let sum = match cache {
            Some(cache) => self.attention.forward_cached(plan, x, cache)?,
            None => self.attention.forward(plan, x)?,
        };
        let s = self.norm1.forward(plan, sum)?;
        let sum = self.feed_forward.forward(plan, s)?;
        self.norm2.forward(plan, sum)
    }

    /// Appends the backward pass.
    ///
    /// # Errors
    /// `Internal` before `forward`.
    pub fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        let d = self.norm2.backward(plan, dy)?;
        let d = self.feed_forward.backward(plan, d)?;
        let d = self.norm1.backward(plan, d)?;
        self.attention.backward(plan, d)
    }
}
