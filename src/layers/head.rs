//! What turns features into outputs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layer::Layer;
use super::layer_norm::LayerNorm;
use super::linear::Linear;
use super::sequential::{Sequential, Step};
use crate::error::Result;
use crate::kernels::matmul::Activation;
use crate::plan::{Plan, Tensor};

/// Kinds of output heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeadKind {
    /// Hidden layer with ReLU: Linear → ReLU → dropout → Linear.
    Relu,
    /// Hidden layer with GELU and normalisation: Linear → GELU → LayerNorm → Linear.
    GeluNorm,
    /// Linear layer alone.
    Linear,
}

/// Output head: a linear layer, with a hidden layer of the same width before it in all kinds but `Linear`.
#[derive(Debug)]
pub struct Head(Sequential);

impl Head {
    /// A head with the weights `name.0`, `name.2` (norm) and `name.3`, or `name` alone for a linear head.
    pub fn new(name: &str, kind: HeadKind, features: usize, outputs: usize, rate: f64) -> Self {
        let hidden = |activation| Linear::new(&format!("{name}.0"), features, features).activated(activation);
        let output = |name: &str| Step::linear(Linear::new(name, features, outputs), 0.0);
        let last = format!("{name}.3");
        Head(Sequential(match kind {
            HeadKind::Relu => vec![Step::linear(hidden(Activation::Relu), rate), output(&last)],
            HeadKind::GeluNorm => {
                let norm = LayerNorm::new(&format!("{name}.2"), features, 1e-5);
                vec![Step::linear(hidden(Activation::Gelu), 0.0), Step::Norm(Box::new(norm)), output(&last)]
            }
            HeadKind::Linear => vec![output(name)],
        }))
    }
}

impl Layer for Head {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        self.0.forward(plan, x)
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        self.0.backward(plan, dy)
    }
}
