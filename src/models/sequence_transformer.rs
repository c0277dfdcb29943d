//! The integer-sequence transformer: causal, post-norm or pre-norm, a class for each value.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::{Build, Model, ModelKind};
use crate::batch::{Inputs, Outputs};
use crate::config::{Section, in_range};
use crate::error::Result;
use crate::kernels::matmul::Activation;
use crate::layers::{BlockConfig, Cache, Decoding, Embedding, FixedEmbedding, Layer, LayerNorm, Linear, TransformerBlock};
use crate::losses::Gradients;
use crate::plan::Plan;

/// Kinds of embeddings, which turn an integer into a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EmbeddingKind {
    /// Fixed embedding (value / 255, position / 7) without weights; it needs d_model = 2. Normalisation over two features leaves one number
    /// per position, so the logits are affine in one number: such a model cannot become accurate.
    Fixed,
    /// Learned value and position embeddings.
    Learned,
}

/// Sizes and options of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SequenceTransformerConfig {
    /// Embedding of the integers.
    pub embedding: EmbeddingKind,
    /// Number of features of a position.
    #[schemars(range(min = 1, max = 1 << 16))]
    pub d_model: usize,
    /// Number of attention heads; they divide `d_model` into heads of at most 128 features.
    #[schemars(range(min = 1, max = 1 << 12))]
    pub heads: usize,
    /// Number of blocks.
    #[schemars(range(min = 1, max = 1 << 10))]
    pub layers: usize,
    /// Number of hidden features of the feed-forward networks.
    #[schemars(range(min = 1, max = 1 << 18))]
    pub feed_forward: usize,
    /// Activation of the feed-forward networks.
    #[serde(default = "gelu")]
    pub activation: Activation,
    /// Dropout rate of attention probabilities, hidden activations and sublayer outputs.
    #[serde(default)]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub dropout: f64,
    /// Pre-norm: normalise the inputs of attention and feed-forward network instead of the sums after them, and once more before the
    /// output. That is `torch.nn.TransformerEncoder` with `norm_first=True` and a `norm`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schemars(!skip_serializing_if)]
    pub norm_first: bool,
    /// ε, added to the variance of the normalisation.
    #[serde(default = "eps")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub norm_eps: f64,
}

fn gelu() -> Activation {
    Activation::Gelu
}

fn eps() -> f64 {
    1e-5
}

const NAME: &str = "model.kind = \"sequence_transformer\"";

impl Section for SequenceTransformerConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        in_range(self, "model")?;
        if !self.d_model.is_multiple_of(self.heads) {
            return Err(format!("model.heads = {} must divide model.d_model = {}", self.heads, self.d_model));
        }
        if self.d_model / self.heads > 128 {
            return Err(format!("model.heads = {} leaves heads of {} features: at most 128", self.heads, self.d_model / self.heads));
        }
        if self.embedding == EmbeddingKind::Fixed && self.d_model != 2 {
            return Err(format!("model.d_model = {} must be 2 with model.embedding = \"fixed\" (value and position)", self.d_model));
        }
        Ok(())
    }
}

impl ModelKind for SequenceTransformerConfig {
    fn build(&self, build: &Build<'_>) -> Result<Box<dyn Model>> {
        let [length] = build.fields.shape(NAME, "tokens")?;
        let vocabulary = build.fields.below(NAME, "tokens")?;
        let block = BlockConfig {
            features: self.d_model,
            heads: self.heads,
            hidden: self.feed_forward,
            activation: self.activation,
            dropout: self.dropout,
            eps: self.norm_eps,
            causal: true,
            norm_first: self.norm_first,
        };
        let input = match self.embedding {
            EmbeddingKind::Fixed => InputLayer::Fixed(FixedEmbedding { max_value: vocabulary - 1, max_position: length - 1 }),
            EmbeddingKind::Learned => InputLayer::Learned(Embedding::new("embedding", vocabulary, Some(length), self.d_model)),
        };
        Ok(Box::new(SequenceTransformer {
            input,
            blocks: (0..self.layers).map(|i| TransformerBlock::new(&format!("transformer.layers.{i}"), block)).collect::<Result<_>>()?,
            norm: self.norm_first.then(|| LayerNorm::new("transformer.norm", self.d_model, self.norm_eps)),
            output: Linear::new("output", self.d_model, vocabulary),
        }))
    }
}

#[derive(Debug, Clone)]
enum InputLayer {
    Fixed(FixedEmbedding),
    Learned(Embedding),
}

/// Maps tokens (batch, length) to logits (batch, length, vocabulary).
#[derive(Debug)]
struct SequenceTransformer {
    input: InputLayer,
    blocks: Vec<TransformerBlock>,
    /// Normalisation before the output, for pre-norm blocks.
    norm: Option<LayerNorm>,
    output: Linear,
}

impl SequenceTransformer {
    fn logits(&mut self, plan: &mut Plan, inputs: &Inputs, cache: Option<Cache>) -> Result<Outputs> {
        let tokens = inputs.get(NAME, "tokens")?;
        let mut x = match &mut self.input {
            InputLayer::Fixed(layer) => layer.forward(plan, tokens)?,
            InputLayer::Learned(layer) => layer.forward(plan, tokens)?,
        };
        for block in &mut self.blocks {
            x = block.forward(plan, x, cache)?;
        }
        if let Some(norm) = &mut self.norm {
            x = norm.forward(plan, x)?;
        }
        self.output.forward(plan, x).map(Outputs::only)
    }
}

impl Model for SequenceTransformer {
    fn forward(&mut self, plan: &mut Plan, inputs: &Inputs) -> Result<Outputs> {
        self.logits(plan, inputs, None)
    }

    fn decoding(&self) -> Decoding {
        Decoding::Limited
    }

    fn forward_cached(&mut self, plan: &mut Plan, inputs: &Inputs, cache: Cache) -> Result<Outputs> {
        self.logits(plan, inputs, Some(cache))
    }

    fn backward(&mut self, plan: &mut Plan, gradients: &Gradients) -> Result<()> {
        let mut dy = self.output.backward(plan, gradients.main)?;
        if let Some(norm) = &mut self.norm {
            dy = norm.backward(plan, dy)?;
        }
        for block in self.blocks.iter_mut().rev() {
            dy = block.backward(plan, dy)?;
        }
        match &mut self.input {
            InputLayer::Learned(layer) => layer.backward(plan, dy),
            InputLayer::Fixed(_) => Ok(()),
        }
    }
}
