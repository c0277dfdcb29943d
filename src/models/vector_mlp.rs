//! Next vector by a network over the whole context.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::{Build, Model, ModelKind};
use crate::batch::{Inputs, Outputs};
use crate::config::{Section, in_range};
use crate::error::Result;
use crate::kernels::matmul::Activation;
use crate::layers::{Fused, Layer, Linear, Sequential, Step, context_mean, dropout};
use crate::losses::Gradients;
use crate::plan::Plan;

const NAME: &str = "model.kind = \"vector_mlp\"";

/// Multilayer perceptron over the flattened context: Linear → activation → dropout for each hidden layer, then Linear.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VectorMlpConfig {
    /// Number of features of a hidden layer.
    #[schemars(range(min = 1, max = 1 << 18))]
    pub hidden: usize,
    /// Number of hidden layers.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[schemars(!skip_serializing_if, range(min = 1, max = 100))]
    pub layers: usize,
    /// Activation of the hidden layers.
    #[serde(default = "relu", skip_serializing_if = "is_relu")]
    #[schemars(!skip_serializing_if)]
    pub activation: Activation,
    /// Residual connections: from the second hidden layer on, the input of a layer is added to its output. They need `layers = 2` or more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schemars(!skip_serializing_if)]
    pub skip: bool,
    /// Dropout rate after each activation.
    #[serde(default)]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub dropout: f64,
    /// Dropout rate of the input vectors.
    #[serde(default)]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub input_dropout: f64,
    /// Predict the difference to the mean of the context instead of the vector itself.
    #[serde(default)]
    pub residual: bool,
}

fn one() -> usize {
    1
}

fn is_one(layers: &usize) -> bool {
    *layers == 1
}

fn relu() -> Activation {
    Activation::Relu
}

fn is_relu(activation: &Activation) -> bool {
    *activation == Activation::Relu
}

impl Section for VectorMlpConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        in_range(self, "model")?;
        if self.skip && self.layers == 1 {
            return Err("model.skip = true adds what goes into the second hidden layer: give model.layers = 2 or more".into());
        }
        Ok(())
    }
}

impl ModelKind for VectorMlpConfig {
    fn build(&self, build: &Build<'_>) -> Result<Box<dyn Model>> {
        let [context, dim] = build.fields.shape(NAME, "context")?;
        // Numbered as in a torch.nn.Sequential of Linear, activation and Dropout.
        let layer = |i: usize| {
            let inputs = if i == 0 { context * dim } else { self.hidden };
            Linear::new(&format!("network.{}", 3 * i), inputs, self.hidden).activated(self.activation)
        };
        let output = Linear::new(&format!("network.{}", 3 * self.layers), self.hidden, dim);
        let hidden = (0..self.layers).map(layer);
        let network = match self.skip {
            true => Network::Skipping { hidden: hidden.collect(), output: Box::new(output) },
            false => {
                let steps = hidden.map(|linear| Step::linear(linear, self.dropout)).chain([Step::linear(output, 0.0)]);
                Network::Plain(Sequential(steps.collect()))
            }
        };
        Ok(Box::new(Mlp { network, config: self.clone() }))
    }
}

/// Hidden layers and output layer, without or with residual connections.
#[derive(Debug)]
enum Network {
    Plain(Sequential),
    /// Network in which each hidden layer but the first adds its input to its output.
    Skipping {
        hidden: Vec<Linear>,
        output: Box<Linear>,
    },
}

#[derive(Debug)]
struct Mlp {
    network: Network,
    config: VectorMlpConfig,
}

impl Model for Mlp {
    fn forward(&mut self, plan: &mut Plan, inputs: &Inputs) -> Result<Outputs> {
        let x = inputs.get(NAME, "context")?;
        let base = if self.config.residual { Some(context_mean(plan, x)?) } else { None };
        let mut h = match dropout(plan, self.config.input_dropout) {
            Some(dropout) => {
                let y = plan.like("input.dropped", x)?;
                crate::kernels::dropout::Apply { x, y, dropout }.record(plan, "input")?;
                y
            }
            None => x,
        };
        match &mut self.network {
            Network::Plain(layers) => layers.forward_from(plan, h, base).map(Outputs::only),
            Network::Skipping { hidden, output } => {
                for (i, layer) in hidden.iter_mut().enumerate() {
                    layer.dropout = dropout(plan, self.config.dropout);
                    h = layer.forward_fused(plan, h, (i > 0).then_some(h))?;
                }
                output.forward_fused(plan, h, base).map(Outputs::only)
            }
        }
    }

    fn backward(&mut self, plan: &mut Plan, gradients: &Gradients) -> Result<()> {
        let dr = gradients.main;
        match &mut self.network {
            Network::Plain(layers) => layers.backward(plan, dr).map(|_| ()),
            Network::Skipping { hidden, output } => {
                output.backward_params(plan, dr)?;
                // y = dropout(activation(W·x + b)) + x: the gradient of x is that of y and what comes through the layer.
                let mut dy = output.backward_input(plan, dr, Fused::default())?;
                for (i, layer) in hidden.iter().enumerate().rev() {
                    let dz = layer.before_activation(plan, dy)?;
                    layer.backward_params(plan, dz)?;
                    if i > 0 {
                        dy = layer.backward_input(plan, dz, Fused { residual: Some(dy), ..Fused::default() })?;
                    }
                }
                Ok(())
            }
        }
    }
}
