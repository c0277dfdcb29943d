//! Next vector by an LSTM over the context.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::{Build, Model, ModelKind};
use crate::batch::{Inputs, Outputs};
use crate::config::{Section, in_range};
use crate::error::Result;
use crate::layers::{Head, HeadKind, Layer, Lstm, Wanted};
use crate::losses::Gradients;
use crate::plan::Plan;

const NAME: &str = "model.kind = \"vector_lstm\"";

/// LSTM network: LSTM → last step → head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VectorLstmConfig {
    /// Number of features of the hidden state.
    #[schemars(range(min = 1, max = 1 << 16))]
    pub hidden: usize,
    /// Number of LSTM layers.
    #[schemars(range(min = 1, max = 1 << 8))]
    pub layers: usize,
    /// Kind of head.
    pub head: HeadKind,
    /// Dropout rate between layers, and in a `relu` head.
    #[serde(default)]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub dropout: f64,
}

impl Section for VectorLstmConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        in_range(self, "model")
    }
}

impl ModelKind for VectorLstmConfig {
    fn time_major(&self) -> bool {
        true
    }

    fn build(&self, build: &Build<'_>) -> Result<Box<dyn Model>> {
        let [_, dim] = build.fields.shape(NAME, "context")?;
        let layer = |k: usize| {
            let inputs = if k == 0 { dim } else { self.hidden };
            Lstm::new("lstm", k, inputs, self.hidden)
        };
        let name = if self.head == HeadKind::GeluNorm { "head" } else { "output_proj" };
        Ok(Box::new(LstmModel {
            layers: (0..self.layers).map(layer).collect(),
            head: Head::new(name, self.head, self.hidden, dim, self.dropout),
            rate: self.dropout,
        }))
    }
}

#[derive(Debug)]
struct LstmModel {
    layers: Vec<Lstm>,
    head: Head,
    rate: f64,
}

impl Model for LstmModel {
    fn forward(&mut self, plan: &mut Plan, inputs: &Inputs) -> Result<Outputs> {
        let x = inputs.get(NAME, "context")?;
        let (mut x, last) = (x, self.layers.len() - 1);
        for (k, layer) in self.layers.iter_mut().enumerate() {
            x = layer.forward(plan, x, if k == last { Wanted::Last } else { Wanted::All(self.rate) })?;
        }
        self.head.forward(plan, x).map(Outputs::only)
    }

    fn backward(&mut self, plan: &mut Plan, gradients: &Gradients) -> Result<()> {
        let dr = gradients.main;
        let mut d = self.head.backward(plan, dr)?;
        for layer in self.layers.iter_mut().rev() {
            d = layer.backward(plan, d)?;
        }
        Ok(())
    }
}
