//! The integer-sequence transformer: causal, post-norm, a class for each value.

use serde::{Deserialize, Serialize};

use crate::datasets::integer_sequences::{CONTEXT, VALUES};
use crate::error::Result;
use crate::kernels::matmul::Activation;
use crate::layers::{BlockConfig, Cache, Embedding, FixedEmbedding, Fused, Layer, Linear, TransformerBlock};
use crate::plan::{Plan, Tensor};

/// How a number becomes a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmbeddingKind {
    /// (value / 255, position / 7), no weights; needs d_model = 2. Normalisation over two features leaves one number per position, so
    /// that the logits are affine in one number: such a model cannot become accurate.
    Fixed,
    /// Learned value and position vectors.
    Learned,
}

/// Sizes of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SequenceTransformerConfig {
    /// `fixed` or `learned`.
    pub embedding: EmbeddingKind,
    /// Features.
    pub d_model: usize,
    /// Heads; they divide `d_model`.
    pub heads: usize,
    /// Blocks.
    pub layers: usize,
    /// Features of the feed-forward network.
    pub feed_forward: usize,
    /// Activation of the feed-forward network.
    #[serde(default = "gelu")]
    pub activation: Activation,
    /// Dropout on probabilities, activations and sublayer outputs.
    #[serde(default)]
    pub dropout: f64,
    /// Added to the variance of the normalisation.
    #[serde(default = "eps")]
    pub norm_eps: f64,
}

fn gelu() -> Activation {
    Activation::Gelu
}

fn eps() -> f64 {
    1e-5
}

pub(super) fn positive(key: &str, value: usize, most: usize) -> std::result::Result<(), String> {
    if (1..=most).contains(&value) {
        return Ok(());
    }
    Err(format!("model.{key} = {value} is out of range: it must be from 1 to {most}"))
}

impl SequenceTransformerConfig {
    pub(crate) fn validate(&self) -> std::result::Result<(), String> {
        let sizes = [
            ("d_model", self.d_model, 1 << 16),
            ("heads", self.heads, 1 << 12),
            ("layers", self.layers, 1 << 10),
            ("feed_forward", self.feed_forward, 1 << 18),
        ];
        sizes.into_iter().try_for_each(|(key, value, most)| positive(key, value, most))?;
        if !self.d_model.is_multiple_of(self.heads) {
            return Err(format!("model.heads = {} must divide model.d_model = {}", self.heads, self.d_model));
        }
        if self.d_model / self.heads > 128 {
            return Err(format!("model.heads = {} leaves heads of {} features: at most 128", self.heads, self.d_model / self.heads));
        }
        if self.embedding == EmbeddingKind::Fixed && self.d_model != 2 {
            return Err(format!("model.d_model = {} must be 2 with model.embedding = \"fixed\" (value and position)", self.d_model));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(format!("model.dropout = {} is out of range: it must be in [0, 1)", self.dropout));
        }
        if !(self.norm_eps > 0.0 && self.norm_eps.is_finite()) {
            return Err(format!("model.norm_eps = {} is out of range: it must be above 0", self.norm_eps));
        }
        Ok(())
    }
}

#[derive(Debug, Clone)]
enum InputLayer {
    Fixed(FixedEmbedding),
    Learned(Embedding),
}

/// The layers of the model.
#[derive(Debug, Clone)]
pub struct SequenceTransformer {
    input: InputLayer,
    blocks: Vec<TransformerBlock>,
    output: Linear,
}

impl SequenceTransformer {
    /// Layers for `batch` sequences. Without `training` there is no dropout and nothing is kept for a backward pass.
    ///
    /// # Errors
    /// `Config` when the heads do not divide the features.
    pub fn new(config: &SequenceTransformerConfig, batch: usize, training: bool) -> Result<Self> {
        let block = BlockConfig {
            features: config.d_model,
            heads: config.heads,
            hidden: config.feed_forward,
            activation: config.activation,
            dropout: config.dropout,
            eps: config.norm_eps,
            causal: true,
            training,
        };
        let input = match config.embedding {
            EmbeddingKind::Fixed => InputLayer::Fixed(FixedEmbedding { max_value: VALUES - 1, max_position: CONTEXT - 1 }),
            EmbeddingKind::Learned => InputLayer::Learned(Embedding::new("embedding", VALUES, CONTEXT, config.d_model)),
        };
        Ok(SequenceTransformer {
            input,
            blocks: (0..config.layers)
                .map(|i| TransformerBlock::new(&format!("transformer.layers.{i}"), batch, block))
                .collect::<Result<_>>()?,
            output: Linear::new("output", config.d_model, VALUES),
        })
    }

    /// Appends (rows, vocab) logits of (rows) tokens, `length` positions a sequence: over whole sequences, or of one new position.
    ///
    /// # Errors
    /// As `Layer::forward`.
    pub fn forward(&mut self, plan: &mut Plan, tokens: Tensor, length: usize, cache: Option<Cache>) -> Result<Tensor> {
        let mut x = match &mut self.input {
            InputLayer::Fixed(layer) => layer.forward(plan, tokens, length)?,
            InputLayer::Learned(layer) => layer.forward(plan, tokens, length)?,
        };
        for block in &mut self.blocks {
            x = block.forward(plan, x, cache)?;
        }
        self.output.forward(plan, x)
    }

    /// Appends the gradients of all weights from the gradient of the logits.
    ///
    /// # Errors
    /// `Internal` before `forward`.
    pub fn backward(&mut self, plan: &mut Plan, dlogits: Tensor) -> Result<()> {
        self.output.backward_params(plan, dlogits)?;
        let mut dy = self.output.backward_input(plan, dlogits, Fused::default())?;
        let learned = matches!(self.input, InputLayer::Learned(_));
        for (i, block) in self.blocks.iter_mut().enumerate().rev() {
            match block.backward(plan, dy, i > 0 || learned)? {
                Some(dx) => dy = dx,
                None => return Ok(()),
            }
        }
        match &mut self.input {
            InputLayer::Learned(layer) => layer.backward(plan, dy),
            InputLayer::Fixed(_) => Ok(()),
        }
    }
}
