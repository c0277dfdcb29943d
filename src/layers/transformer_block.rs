//! The transformer block, post-norm (Vaswani et al. 2017) or pre-norm (Xiong et al. 2020).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::feed_forward::FeedForward;
use super::layer::{Cache, Decoding, Layer, Mask};
use super::layer_norm::LayerNorm;
use super::linear::Fused;
use super::self_attention::SelfAttention;
use super::sequential::Step;
use super::stacked::{Sample, StackLayer};
use crate::error::Result;
use crate::kernels::matmul::Activation;
use crate::plan::{Plan, Tensor};

/// Sizes and options of a block.
#[derive(Debug, Clone, Copy)]
pub struct BlockConfig {
    /// Number of features.
    pub features: usize,
    /// Number of attention heads.
    pub heads: usize,
    /// Number of hidden features of the feed-forward network.
    pub hidden: usize,
    /// Activation of the feed-forward network.
    pub activation: Activation,
    /// Dropout rate of attention probabilities, hidden activations and sublayer outputs.
    pub dropout: f64,
    /// ε, added to the variances of the normalisation.
    pub eps: f64,
    /// Causal attention: each position sees only itself and earlier ones.
    pub causal: bool,
    /// Pre-norm: the inputs of the sublayers are normalised, instead of the sums after them.
    pub norm_first: bool,
}

/// `torch.nn.TransformerEncoderLayer`: s = norm1(x + attention(x)), y = norm2(s + feed_forward(s)), or with `norm_first`
/// s = x + attention(norm1(x)), y = s + feed_forward(norm2(s)).
#[derive(Debug)]
pub struct TransformerBlock {
    attention: SelfAttention,
    norm1: LayerNorm,
    feed_forward: FeedForward,
    norm2: LayerNorm,
    norm_first: bool,
}

impl TransformerBlock {
    /// A block with the weights `name.self_attn.*`, `name.linear1.*`, `name.linear2.*`, `name.norm1.*` and `name.norm2.*`.
    ///
    /// # Errors
    /// `Config` when the heads do not divide the features.
    pub fn new(name: &str, config: BlockConfig) -> Result<Self> {
        let BlockConfig { features, heads, hidden, activation, dropout, eps, causal, norm_first } = config;
        Ok(TransformerBlock {
            attention: SelfAttention::new(&format!("{name}.self_attn"), features, heads, Mask::of(causal), dropout)?,
            norm1: LayerNorm::new(&format!("{name}.norm1"), features, eps),
            feed_forward: FeedForward::new(name, features, hidden, activation, dropout),
            norm2: LayerNorm::new(&format!("{name}.norm2"), features, eps),
            norm_first,
        })
    }

    /// A pre-norm block of these parts: s = x + attention(norm1(x)), y = s + feed_forward(norm2(s)).
    pub fn pre_norm(attention: SelfAttention, norms: [LayerNorm; 2], feed_forward: FeedForward) -> Self {
        let [norm1, norm2] = norms;
        TransformerBlock { attention, norm1, feed_forward, norm2, norm_first: true }
    }

    /// Appends the forward pass over whole sequences, or for one position over a cache.
    ///
    /// # Errors
    /// As `Layer::forward`.
    pub fn forward(&mut self, plan: &mut Plan, x: Tensor, cache: Option<Cache>) -> Result<Tensor> {
        let normed = if self.norm_first { self.norm1.forward(plan, x)? } else { x };
        let sum = match cache {
            Some(cache) => self.attention.forward_cached(plan, normed, x, cache)?,
            None => self.attention.forward(plan, normed, x)?,
        };
        if self.norm_first {
            let normed = self.norm2.forward(plan, sum)?;
            return self.feed_forward.forward_from(plan, normed, sum);
        }
        let s = self.norm1.forward(plan, sum)?;
        let sum = self.feed_forward.forward(plan, s)?;
        self.norm2.forward(plan, sum)
    }

    /// Appends the backward pass.
    ///
    /// # Errors
    /// `Internal` before `forward`.
    pub fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        if self.norm_first {
            let below = |residual| Fused { residual: Some(residual), ..Fused::default() };
            let d = self.feed_forward.backward_from(plan, dy, None)?;
            let ds = self.norm2.backward_fused(plan, d, below(dy))?;
            let d = self.attention.backward(plan, ds, None)?;
            return self.norm1.backward_fused(plan, d, below(ds));
        }
        let d = self.norm2.backward_above(plan, dy, Fused::default(), self.feed_forward.output_dropout())?;
        let d = self.feed_forward.backward_from(plan, d, Some(d.unmasked))?;
        let d = self.norm1.backward_above(plan, d, Fused::default(), self.attention.output_dropout())?;
        self.attention.backward(plan, d, Some(d.unmasked))
    }
}

impl Layer for TransformerBlock {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        self.forward(plan, x, None)
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        self.backward(plan, dy)
    }

    fn decoding(&self) -> Decoding {
        self.attention.decoding()
    }

    fn forward_cached(&mut self, plan: &mut Plan, x: Tensor, cache: Cache) -> Result<Tensor> {
        self.forward(plan, x, Some(cache))
    }
}

/// A transformer block of a stack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TransformerBlockConfig {
    /// Number of attention heads; they divide the features into heads of at most 128.
    #[schemars(range(min = 1, max = 1 << 12))]
    pub heads: usize,
    /// Number of hidden features of the feed-forward network.
    #[schemars(range(min = 1, max = 1 << 18))]
    pub feed_forward: usize,
    /// Activation of the feed-forward network.
    #[serde(default = "relu")]
    pub activation: Activation,
    /// Causal attention: each position sees only itself and earlier ones.
    #[serde(default)]
    pub causal: bool,
    /// Dropout rate of attention probabilities, hidden activations and sublayer outputs.
    #[serde(default)]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub dropout: f64,
    /// Pre-norm: normalise the inputs of the sublayers instead of the sums after them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schemars(!skip_serializing_if)]
    pub norm_first: bool,
}

fn relu() -> Activation {
    Activation::Relu
}

impl StackLayer for TransformerBlockConfig {
    fn make(&self, name: &str, at: &str, sample: &mut Sample) -> Result<Step> {
        let features = sample.in_heads(self.heads, at)?;
        let TransformerBlockConfig { heads, feed_forward: hidden, activation, causal, dropout, norm_first } = *self;
        let config = BlockConfig { features, heads, hidden, activation, dropout, eps: 1e-5, causal, norm_first };
        Ok(Step::other(TransformerBlock::new(name, config)?))
    }

    fn looks_ahead(&self) -> bool {
        !self.causal
    }
}
