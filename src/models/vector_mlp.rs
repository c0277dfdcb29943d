//! Next vector by a network over the whole context.

use serde::{Deserialize, Serialize};

use super::model::{Build, Model, ModelKind, check, check_dropout, positive};
use super::vector::context_mean;
use crate::batch::{Inputs, Outputs};
use crate::config::Section;
use crate::error::Result;
use crate::kernels::matmul::Activation;
use crate::layers::{Fused, Layer, Linear, dropout};
use crate::losses::Gradients;
use crate::plan::Plan;

const NAME: &str = "model.kind = \"vector_mlp\"";

/// Linear → ReLU → dropout → Linear over the whole context.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorMlpConfig {
    /// Features of the hidden layer.
    pub hidden: usize,
    /// After the activation.
    #[serde(default)]
    pub dropout: f64,
    /// On the input vectors.
    #[serde(default)]
    pub input_dropout: f64,
    /// Predict the difference to the mean of the context.
    #[serde(default)]
    pub residual: bool,
}

impl Section for VectorMlpConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        positive("hidden", self.hidden, 1 << 18)?;
        check((0.0..1.0).contains(&self.input_dropout), &format!("input_dropout = {}", self.input_dropout), "in [0, 1)")?;
        check_dropout(self.dropout)
    }
}

impl ModelKind for VectorMlpConfig {
    fn build(&self, given: &Build<'_>) -> Result<Box<dyn Model>> {
        let [context, dim] = given.fields.shape(NAME, "context")?;
        let first = Linear::new("network.0", context * dim, self.hidden).activated(Activation::Relu);
        let second = Linear::new("network.3", self.hidden, dim);
        Ok(Box::new(Mlp { first, second, rate: self.dropout, input_rate: self.input_dropout, residual: self.residual }))
    }
}

#[derive(Debug)]
struct Mlp {
    first: Linear,
    second: Linear,
    rate: f64,
    input_rate: f64,
    residual: bool,
}

impl Model for Mlp {
    fn forward(&mut self, plan: &mut Plan, inputs: &Inputs) -> Result<Outputs> {
        let x = inputs.get(NAME, "context")?;
        let base = if self.residual { Some(context_mean(plan, x)?) } else { None };
        let x = match dropout(plan, self.input_rate) {
            Some(dropout) => {
                let y = plan.like("input.dropped", x)?;
                crate::kernels::dropout::Apply { x, y, dropout }.record(plan, "input")?;
                y
            }
            None => x,
        };
        self.first.dropout = dropout(plan, self.rate);
        let h = self.first.forward(plan, x)?;
        self.second.forward_fused(plan, h, base).map(Outputs::only)
    }

    fn backward(&mut self, plan: &mut Plan, gradients: &Gradients) -> Result<()> {
        let dr = gradients.main;
        self.second.backward_params(plan, dr)?;
        let below = Fused { derivative: self.first.derivative()?, dropout: self.first.dropout, residual: None };
        let dz = self.second.backward_input(plan, dr, below)?;
        self.first.backward_params(plan, dz)
    }
}
