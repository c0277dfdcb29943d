//! Next vector by residual GRU blocks over the context.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::{Build, Model, ModelKind};
use crate::batch::{Inputs, Outputs};
use crate::config::{Section, in_range};
use crate::error::Result;
use crate::layers::Last;
use crate::layers::{Fused, Gru, Head, HeadKind, Layer, LayerNorm, Linear, saved_by_forward};
use crate::losses::Gradients;
use crate::plan::Plan;

const NAME: &str = "model.kind = \"vector_gru\"";

/// Place of the normalisation in a GRU block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NormPlace {
    /// Before the GRU: x + GRU(LayerNorm(x)). The recurrent weights are named `blocks.N.mamba`.
    Before,
    /// After the sum: LayerNorm(x + GRU(x)). The recurrent weights are named `blocks.N.gru`.
    After,
}

/// Residual GRU network: input_proj → residual GRU blocks → last step → head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VectorGruConfig {
    /// Number of features of a position.
    #[schemars(range(min = 1, max = 1 << 16))]
    pub width: usize,
    /// Number of blocks.
    #[schemars(range(min = 1, max = 1 << 8))]
    pub layers: usize,
    /// Place of the normalisation.
    pub norm: NormPlace,
    /// Kind of head; a `relu` head has no dropout.
    pub head: HeadKind,
}

impl Section for VectorGruConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        in_range(self, "model")
    }
}

impl ModelKind for VectorGruConfig {
    fn time_major(&self) -> bool {
        true
    }

    fn build(&self, build: &Build<'_>) -> Result<Box<dyn Model>> {
        let [_, dim] = build.fields.shape(NAME, "context")?;
        let gru = if self.norm == NormPlace::Before { "mamba" } else { "gru" };
        let block = |i: usize| {
            (
                Gru::new(&format!("blocks.{i}.{gru}"), 0, self.width, self.width),
                LayerNorm::new(&format!("blocks.{i}.norm"), self.width, 1e-5),
            )
        };
        let name = if self.head == HeadKind::GeluNorm { "head" } else { "output_proj" };
        Ok(Box::new(GruModel {
            input: Linear::new("input_proj", dim, self.width),
            blocks: (0..self.layers).map(block).collect(),
            norm: self.norm,
            head: Head::new(name, self.head, self.width, dim, 0.0),
            last: None,
        }))
    }
}

#[derive(Debug)]
struct GruModel {
    input: Linear,
    blocks: Vec<(Gru, LayerNorm)>,
    norm: NormPlace,
    head: Head,
    last: Option<Last>,
}

impl Model for GruModel {
    fn forward(&mut self, plan: &mut Plan, inputs: &Inputs) -> Result<Outputs> {
        let x = inputs.get(NAME, "context")?;
        let mut x = self.input.forward(plan, x)?;
        for (gru, norm) in &mut self.blocks {
            x = match self.norm {
                NormPlace::Before => {
                    let normed = norm.forward(plan, x)?;
                    gru.forward(plan, normed, Some(x))?
                }
                NormPlace::After => {
                    let sum = gru.forward(plan, x, Some(x))?;
                    norm.forward(plan, sum)?
                }
            };
        }
        let (last, y) = Last::of(plan, x, true)?;
        self.last = Some(last);
        self.head.forward(plan, y).map(Outputs::only)
    }

    fn backward(&mut self, plan: &mut Plan, gradients: &Gradients) -> Result<()> {
        let dr = gradients.main;
        let d = self.head.backward(plan, dr)?;
        let mut d = saved_by_forward(&self.last, "last")?.backward(plan, d)?;
        for (gru, norm) in self.blocks.iter_mut().rev() {
            d = match self.norm {
                NormPlace::Before => {
                    let dn = gru.backward(plan, d, None)?;
                    norm.backward_fused(plan, dn, Fused { residual: Some(d), ..Fused::default() })?
                }
                NormPlace::After => {
                    let ds = norm.backward(plan, d)?;
                    gru.backward(plan, ds, Some(ds))?
                }
            };
        }
        self.input.backward_params(plan, d)
    }
}
