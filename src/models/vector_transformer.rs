//! Next vector by transformer blocks over the context.

use serde::{Deserialize, Serialize};

use super::model::{Build, Model, ModelKind, check, check_dropout, positive};
use crate::batch::{Inputs, Outputs};
use crate::config::Section;
use crate::error::Result;
use crate::kernels::matmul::Activation;
use crate::kernels::positions;
use crate::layers::Last;
use crate::layers::{BlockConfig, DecoderBlock, Head, HeadKind, Layer, Linear, TransformerBlock, saved_by_forward};
use crate::losses::Gradients;
use crate::plan::Plan;

const NAME: &str = "model.kind = \"vector_transformer\"";

/// Kinds of transformer blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blocks {
    /// `torch.nn.TransformerEncoder` without a mask.
    Encoder,
    /// `torch.nn.TransformerDecoder` with causal masks; its own input is also its memory.
    Decoder,
}

/// Transformer: input_proj → sinusoidal positions → post-norm blocks → last position → head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorTransformerConfig {
    /// Kind of blocks: `encoder` or `decoder`.
    pub blocks: Blocks,
    /// Number of features of a position.
    pub width: usize,
    /// Number of attention heads; they divide `width`.
    pub heads: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Number of hidden features of the feed-forward networks.
    pub feed_forward: usize,
    /// Kind of head: `relu`, `gelu_norm` or `linear`.
    pub head: HeadKind,
    /// Dropout rate of attention probabilities, hidden activations, sublayer outputs and a `relu` head.
    #[serde(default)]
    pub dropout: f64,
}

impl Section for VectorTransformerConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        let sizes = [
            ("width", self.width, 1 << 16),
            ("heads", self.heads, 1 << 12),
            ("layers", self.layers, 1 << 10),
            ("feed_forward", self.feed_forward, 1 << 18),
        ];
        sizes.into_iter().try_for_each(|(key, value, most)| positive(key, value, most))?;
        check(self.width.is_multiple_of(self.heads), &format!("heads = {}", self.heads), &format!("a divisor of width = {}", self.width))?;
        check(self.width / self.heads <= 128, &format!("heads = {}", self.heads), "so many that a head has at most 128 features")?;
        let decoder = self.blocks == Blocks::Decoder;
        check(!decoder || self.width.is_multiple_of(64), &format!("width = {}", self.width), "a multiple of 64 with decoder blocks")?;
        check_dropout(self.dropout)
    }
}

impl ModelKind for VectorTransformerConfig {
    fn build(&self, build: &Build<'_>) -> Result<Box<dyn Model>> {
        let [_, dim] = build.fields.shape(NAME, "context")?;
        let causal = self.blocks == Blocks::Decoder;
        let config = BlockConfig {
            features: self.width,
            heads: self.heads,
            hidden: self.feed_forward,
            activation: Activation::Relu,
            dropout: self.dropout,
            eps: 1e-5,
            causal,
            norm_first: false,
        };
        let stack = match self.blocks {
            Blocks::Encoder => Stack::Encoder(
                (0..self.layers).map(|i| TransformerBlock::new(&format!("transformer.layers.{i}"), config)).collect::<Result<_>>()?,
            ),
            Blocks::Decoder => Stack::Decoder(
                (0..self.layers).map(|i| DecoderBlock::new(&format!("transformer_decoder.layers.{i}"), config)).collect::<Result<_>>()?,
            ),
        };
        let name = if self.head == HeadKind::Linear { "output_proj" } else { "head" };
        Ok(Box::new(Transformer {
            input: Linear::new("input_proj", dim, self.width),
            stack,
            head: Head::new(name, self.head, self.width, dim, self.dropout),
            last: None,
        }))
    }
}

#[derive(Debug)]
enum Stack {
    Encoder(Vec<TransformerBlock>),
    Decoder(Vec<DecoderBlock>),
}

#[derive(Debug)]
struct Transformer {
    input: Linear,
    stack: Stack,
    head: Head,
    last: Option<Last>,
}

impl Model for Transformer {
    fn forward(&mut self, plan: &mut Plan, inputs: &Inputs) -> Result<Outputs> {
        let x = inputs.get(NAME, "context")?;
        let projected = self.input.forward(plan, x)?;
        let (length, cols) = (plan.shape(projected)[1], plan.shape(projected)[2]);
        let memory = plan.like("positions.y", projected)?;
        positions::Forward { x: projected, y: memory, cols, length }.record(plan, "positions")?;
        let mut x = memory;
        match &mut self.stack {
            Stack::Encoder(blocks) => {
                for block in blocks {
                    x = block.forward(plan, x, None)?;
                }
            }
            Stack::Decoder(blocks) => {
                for block in blocks {
                    x = block.forward(plan, x, memory)?;
                }
            }
        }
        let (last, y) = Last::of(plan, x, false)?;
        self.last = Some(last);
        self.head.forward(plan, y).map(Outputs::only)
    }

    fn backward(&mut self, plan: &mut Plan, gradients: &Gradients) -> Result<()> {
        let dr = gradients.main;
        let d = self.head.backward(plan, dr)?;
        let mut d = saved_by_forward(&self.last, "last")?.backward(plan, d)?;
        match &mut self.stack {
            Stack::Encoder(blocks) => {
                for block in blocks.iter_mut().rev() {
                    d = block.backward(plan, d)?;
                }
                self.input.backward_params(plan, d)
            }
            Stack::Decoder(blocks) => {
                let mut dmemory = None;
                for block in blocks.iter_mut().rev() {
                    let (dx, dm) = block.backward(plan, d, dmemory)?;
                    (d, dmemory) = (dx, Some(dm));
                }
                // The input is the memory as well: both gradients meet in the projection, which is linear.
                self.input.backward_params(plan, d)?;
                dmemory.map_or(Ok(()), |dm| self.input.backward_params(plan, dm))
            }
        }
    }
}
