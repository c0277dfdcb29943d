//! A model that the run file itself composes of the library's layers, as `torch.nn.Sequential` does: layer i has the weights `i.…`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::{Build, Model, ModelKind};
use crate::batch::{Inputs, Outputs};
use crate::config::{Section, in_range};
use crate::error::{Error, Result};
use crate::layers::{Cache, Decoding, Layer, LayerConfig, Sample, Sequential, layer_by_layer, make_layers, validate_layers};
use crate::losses::Gradients;
use crate::plan::Plan;

/// Layers of the model, from the input to the output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StackConfig {
    /// Name of the data field that is the input; without it, the first field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// Layers, from the input to the output: at most a thousand, with those inside of others.
    #[serde(deserialize_with = "layer_by_layer")]
    #[schemars(length(min = 1))]
    pub layers: Vec<LayerConfig>,
}

impl Section for StackConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        in_range(self, "model")?;
        if self.layers.is_empty() {
            return Err("model.layers is empty: give at least one, as in layers = [{ kind = \"linear\", out = 512 }]".into());
        }
        validate_layers(&self.layers, "model.layers")
    }
}

const NAME: &str = "model.kind = \"stack\"";

impl ModelKind for StackConfig {
    fn build(&self, build: &Build<'_>) -> Result<Box<dyn Model>> {
        let first = build.fields.0.first().map_or("", |f| f.name);
        let input = self.input.as_deref().unwrap_or(first);
        let field = build.fields.0.iter().find(|f| f.name == input);
        let field = field.ok_or_else(|| Error::Config(format!("{NAME}: the data have no field `{input}`: {}", build.fields.list())))?;
        if field.answer {
            return Err(Error::Config(format!("model.input = \"{input}\" is what is to be predicted: give what it is predicted from")));
        }
        let target = build.fields.0.iter().find(|f| f.answer).map(|f| [&f.shape[..], &f.below.into_iter().collect::<Vec<_>>()].concat());
        let mut sample = Sample {
            shape: field.shape.clone(),
            integers: field.below,
            target,
            padded: build.fields.0.iter().any(|f| f.name == "lengths"),
        };
        let layers = make_layers(&self.layers, "", "model.layers", &mut sample)?;
        Ok(Box::new(Stack { input: field.name, layers }))
    }
}

/// Model that applies its layers to one field of the data.
#[derive(Debug)]
struct Stack {
    input: &'static str,
    layers: Sequential,
}

impl Model for Stack {
    fn forward(&mut self, plan: &mut Plan, inputs: &Inputs) -> Result<Outputs> {
        let x = inputs.get(NAME, self.input)?;
        self.layers.forward(plan, x).map(Outputs::only)
    }

    fn decoding(&self) -> Decoding {
        self.layers.decoding()
    }

    fn keeps_state(&self) -> bool {
        self.layers.keeps_state()
    }

    fn forward_cached(&mut self, plan: &mut Plan, inputs: &Inputs, cache: Cache) -> Result<Outputs> {
        let x = inputs.get(NAME, self.input)?;
        self.layers.forward_cached(plan, x, cache).map(Outputs::only)
    }

    fn backward(&mut self, plan: &mut Plan, gradients: &Gradients) -> Result<()> {
        self.layers.backward(plan, gradients.main).map(|_| ())
    }
}
