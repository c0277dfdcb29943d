//! Next vector by transformer blocks over the context.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::{Build, Model, ModelKind};
use crate::batch::{Inputs, Outputs};
use crate::config::{Section, in_range, within};
use crate::error::Result;
use crate::kernels::matmul::Activation;
use crate::kernels::positions;
use crate::layers::Last;
use crate::layers::{BlockConfig, DecoderBlock, Head, HeadKind, Layer, Linear, TransformerBlock, saved_by_forward};
use crate::losses::Gradients;
use crate::plan::Plan;

const NAME: &str = "model.kind = \"vector_transformer\"";

/// Kinds of transformer blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Blocks {
    /// `torch.nn.TransformerEncoder` without a mask.
    Encoder,
    /// `torch.nn.TransformerDecoder` with causal masks; its own input is also its memory.
    Decoder,
}

/// Transformer: input_proj → sinusoidal positions → post-norm blocks → last position → head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VectorTransformerConfig {
    /// Kind of blocks.
    pub blocks: Blocks,
    /// Number of features of a position; with `decoder` blocks a multiple of 64.
    #[schemars(range(min = 1, max = 1 << 16))]
    pub width: usize,
    /// Number of attention heads; they divide `width` into heads of at most 128 features.
    #[schemars(range(min = 1, max = 1 << 12))]
    pub heads: usize,
    /// Number of blocks.
    #[schemars(range(min = 1, max = 1 << 10))]
    pub layers: usize,
    /// Number of hidden features of the feed-forward networks.
    #[schemars(range(min = 1, max = 1 << 18))]
    pub feed_forward: usize,
    /// Kind of head.
    pub head: HeadKind,
    /// Dropout rate of attention probabilities, hidden activations, sublayer outputs and a `relu` head.
    #[serde(default)]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub dropout: f64,
}

impl Section for VectorTransformerConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        in_range(self, "model")?;
        let (width, heads) = (self.width, self.heads);
        within(width.is_multiple_of(heads), "model.heads", heads as f64, &format!("a divisor of width = {width}"))?;
        within(width / heads <= 128, "model.heads", heads as f64, "so many that a head has at most 128 features")?;
        let decoder = self.blocks == Blocks::Decoder;
        within(!decoder || width.is_multiple_of(64), "model.width", width as f64, "a multiple of 64 with decoder blocks")
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
