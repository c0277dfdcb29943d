//! Next vector by Mamba-2 blocks over the context.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::{Build, Model, ModelKind};
use crate::batch::{Inputs, Outputs};
use crate::config::{Section, in_range};
use crate::error::Result;
use crate::layers::{Head, HeadKind, Last, Layer, Linear, Mamba2Block, Mamba2Config, saved_by_forward};
use crate::losses::Gradients;
use crate::plan::Plan;

const NAME: &str = "model.kind = \"vector_mamba2\"";

/// Mamba-2 network: input_proj → blocks, x + mixer(RMSNorm(x)) → last step → head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VectorMamba2Config {
    /// Number of features of a position.
    #[schemars(range(min = 1, max = 1 << 16))]
    pub width: usize,
    /// Number of blocks.
    #[schemars(range(min = 1, max = 1 << 8))]
    pub layers: usize,
    /// Sizes of a mixer: `state`, `head`, `expand`, `conv`, `groups` and `chunk`.
    #[serde(default)]
    pub mixer: Mamba2Config,
    /// Kind of head; a `relu` head has no dropout.
    pub head: HeadKind,
}

impl Section for VectorMamba2Config {
    fn validate(&self) -> std::result::Result<(), String> {
        in_range(self, "model")
    }
}

impl ModelKind for VectorMamba2Config {
    fn build(&self, build: &Build<'_>) -> Result<Box<dyn Model>> {
        let [_, dim] = build.fields.shape(NAME, "context")?;
        let block = |i: usize| Mamba2Block::new(&format!("blocks.{i}"), self.width, self.layers, self.mixer.clone());
        let name = if self.head == HeadKind::GeluNorm { "head" } else { "output_proj" };
        Ok(Box::new(Mamba2Model {
            input: Linear::new("input_proj", dim, self.width),
            blocks: (0..self.layers).map(block).collect::<Result<_>>()?,
            head: Head::new(name, self.head, self.width, dim, 0.0),
            last: None,
        }))
    }
}

#[derive(Debug)]
struct Mamba2Model {
    input: Linear,
    blocks: Vec<Mamba2Block>,
    head: Head,
    last: Option<Last>,
}

impl Model for Mamba2Model {
    fn forward(&mut self, plan: &mut Plan, inputs: &Inputs) -> Result<Outputs> {
        let x = inputs.get(NAME, "context")?;
        let mut x = self.input.forward(plan, x)?;
        for block in &mut self.blocks {
            x = block.forward(plan, x)?;
        }
        let (last, y) = Last::of(plan, x, false)?;
        self.last = Some(last);
        self.head.forward(plan, y).map(Outputs::only)
    }

    fn backward(&mut self, plan: &mut Plan, gradients: &Gradients) -> Result<()> {
        let d = self.head.backward(plan, gradients.main)?;
        let mut d = saved_by_forward(&self.last, "last")?.backward(plan, d)?;
        for block in self.blocks.iter_mut().rev() {
            d = block.backward(plan, d)?;
        }
        self.input.backward_params(plan, d)
    }
}
