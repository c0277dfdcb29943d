//! What turns the last hidden vector into the prediction.

use serde::{Deserialize, Serialize};

use super::layer::{Layer, dropout};
use super::layer_norm::LayerNorm;
use super::linear::{Fused, Linear};
use crate::error::Result;
use crate::kernels::matmul::Activation;
use crate::plan::{Plan, Tensor};

/// Kinds of heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadKind {
    /// Linear → ReLU → dropout → Linear.
    Relu,
    /// Linear → GELU → LayerNorm → Linear.
    GeluNorm,
    /// Linear.
    Linear,
}

/// Linear, or a hidden layer of the same width before it.
#[derive(Debug, Clone)]
pub struct Head {
    hidden: Option<Linear>,
    norm: Option<LayerNorm>,
    output: Linear,
    rate: f64,
}

impl Head {
    /// Weights `name.0`, `name.2` (norm) and `name.3`, or `name` alone for a linear head.
    pub fn new(name: &str, kind: HeadKind, features: usize, outputs: usize, rate: f64) -> Self {
        let hidden = |activation| Some(Linear::new(&format!("{name}.0"), features, features).activated(activation));
        let (hidden, norm, last) = match kind {
            HeadKind::Relu => (hidden(Activation::Relu), None, format!("{name}.3")),
            HeadKind::GeluNorm => {
                (hidden(Activation::Gelu), Some(LayerNorm::new(&format!("{name}.2"), features, 1e-5)), format!("{name}.3"))
            }
            HeadKind::Linear => (None, None, name.to_string()),
        };
        let rate = if kind == HeadKind::Relu { rate } else { 0.0 };
        Head { hidden, norm, output: Linear::new(&last, features, outputs), rate }
    }
}

impl Layer for Head {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        let mut x = x;
        if let Some(hidden) = &mut self.hidden {
            hidden.dropout = dropout(plan, self.rate);
            x = hidden.forward(plan, x)?;
        }
        if let Some(norm) = &mut self.norm {
            x = norm.forward(plan, x)?;
        }
        self.output.forward(plan, x)
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        self.output.backward_params(plan, dy)?;
        let Some(hidden) = &mut self.hidden else { return self.output.backward_input(plan, dy, Fused::default()) };
        let below = Fused { derivative: hidden.derivative()?, dropout: hidden.dropout, residual: None };
        let dz = match &mut self.norm {
            Some(norm) => {
                let d = self.output.backward_input(plan, dy, Fused::default())?;
                norm.backward_fused(plan, d, below)?
            }
            None => self.output.backward_input(plan, dy, below)?,
        };
        hidden.backward(plan, dz)
    }
}
