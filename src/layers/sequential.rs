//! Layers one after another, as `torch.nn.Sequential` has them.

use super::layer::{Layer, dropout};
use super::layer_norm::LayerNorm;
use super::linear::{Fused, Linear};
use crate::error::Result;
use crate::plan::{Plan, Tensor};

/// A layer of a sequence. What products and normalisations fuse with their neighbours is known of them.
#[derive(Debug)]
pub enum Step {
    /// A product, with its activation and a dropout of this rate.
    Linear {
        /// The product.
        linear: Box<Linear>,
        /// Of the dropout behind it.
        rate: f64,
    },
    /// A normalisation that goes back through the activation of the product below it.
    Norm(Box<LayerNorm>),
    /// Any other layer.
    Other(Box<dyn Layer>),
}

impl Step {
    /// A product, with a dropout of this rate behind it.
    pub fn linear(linear: Linear, rate: f64) -> Step {
        Step::Linear { linear: Box::new(linear), rate }
    }
}

/// y = stepₙ(… step₁(x)).
#[derive(Debug)]
pub struct Sequential(pub Vec<Step>);

impl Sequential {
    /// Appends the forward pass; a last product adds `residual`.
    ///
    /// # Errors
    /// As `Layer::forward`.
    pub fn forward_from(&mut self, plan: &mut Plan, x: Tensor, residual: Option<Tensor>) -> Result<Tensor> {
        let mut x = x;
        let last = self.0.len().saturating_sub(1);
        for (i, step) in self.0.iter_mut().enumerate() {
            x = match step {
                Step::Linear { linear, rate } => {
                    linear.dropout = dropout(plan, *rate);
                    linear.forward_fused(plan, x, residual.filter(|_| i == last))?
                }
                Step::Norm(norm) => norm.forward(plan, x)?,
                Step::Other(layer) => layer.forward(plan, x)?,
            };
        }
        Ok(x)
    }
}

/// What a gradient goes through at once with what is above a step: the activation and the dropout of a product.
fn below(before: &[Step]) -> Result<Option<Fused>> {
    match before.last() {
        Some(Step::Linear { linear, .. }) => Ok(Some(Fused { derivative: linear.derivative()?, dropout: linear.dropout, residual: None })),
        _ => Ok(None),
    }
}

impl Layer for Sequential {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        self.forward_from(plan, x, None)
    }

    /// A product goes back through the dropout and the activation of the product below it at once.
    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        let (mut d, mut undone) = (dy, false);
        for i in (0..self.0.len()).rev() {
            let (before, rest) = self.0.split_at_mut(i);
            match &mut rest[0] {
                Step::Linear { linear, .. } => {
                    let dz = if undone { d } else { linear.before_activation(plan, d)? };
                    linear.backward_params(plan, dz)?;
                    let fused = below(before)?;
                    undone = fused.is_some();
                    d = linear.backward_input(plan, dz, fused.unwrap_or_default())?;
                }
                Step::Norm(norm) => {
                    let fused = below(before)?;
                    undone = fused.is_some();
                    d = match fused {
                        Some(fused) => norm.backward_fused(plan, d, fused)?,
                        None => norm.backward(plan, d)?,
                    };
                }
                Step::Other(layer) => {
                    d = layer.backward(plan, d)?;
                    undone = false;
                }
            }
        }
        Ok(d)
    }
}
