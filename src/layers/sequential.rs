//! Layers one after another, as `torch.nn.Sequential` has them.

use super::layer::{Cache, Decoding, Gradient, Layer, dropout};
use super::layer_norm::LayerNorm;
use super::linear::{Fused, Linear};
use crate::error::Result;
use crate::kernels::Dropout;
use crate::kernels::matmul::Activation;
use crate::plan::{Plan, Tensor};

/// A layer of a sequence. Linear layers and normalisations have variants of their own, because they fuse with their neighbours.
#[derive(Debug)]
pub enum Step {
    /// A linear layer with its activation and dropout.
    Linear {
        /// Weights and activation.
        linear: Box<Linear>,
        /// Dropout rate after the activation.
        rate: f64,
    },
    /// A normalisation; its backward pass includes the activation of the linear layer below it.
    Norm(Box<LayerNorm>),
    /// Any other layer, which fuses with no neighbour.
    Other(Box<dyn Layer>),
}

impl Step {
    /// A linear layer followed by dropout with this rate.
    pub fn linear(linear: Linear, rate: f64) -> Step {
        Step::Linear { linear: Box::new(linear), rate }
    }

    /// A layer that fuses with no neighbour.
    pub fn other(layer: impl Layer + 'static) -> Step {
        Step::Other(Box::new(layer))
    }

    /// Gives a linear layer the activation or the dropout that follows it, and says whether it takes it along.
    pub(super) fn takes_along(&mut self, activation: Option<Activation>, dropout: Option<f64>) -> bool {
        match (self, activation, dropout) {
            (Step::Linear { linear, rate }, Some(activation), None) if linear.activation == Activation::Identity && *rate == 0.0 => {
                linear.activation = activation;
            }
            (Step::Linear { rate, .. }, None, Some(dropout)) if *rate == 0.0 => *rate = dropout,
            _ => return false,
        }
        true
    }
}

/// Layers one after another, as in `torch.nn.Sequential`: y = stepₙ(… step₁(x)).
#[derive(Debug)]
pub struct Sequential(pub Vec<Step>);

impl Sequential {
    /// Appends the forward pass; `residual` is added if the last layer is linear.
    ///
    /// # Errors
    /// As `Layer::forward`.
    pub fn forward_from(&mut self, plan: &mut Plan, x: Tensor, residual: Option<Tensor>) -> Result<Tensor> {
        self.run(plan, x, residual, None)
    }

    fn run(&mut self, plan: &mut Plan, x: Tensor, residual: Option<Tensor>, cache: Option<Cache>) -> Result<Tensor> {
        let mut x = x;
        let last = self.0.len().saturating_sub(1);
        for (i, step) in self.0.iter_mut().enumerate() {
            x = match step {
                Step::Linear { linear, rate } => {
                    linear.dropout = dropout(plan, *rate);
                    linear.forward_fused(plan, x, residual.filter(|_| i == last))?
                }
                Step::Norm(norm) => norm.forward(plan, x)?,
                Step::Other(layer) => match cache {
                    Some(cache) => layer.forward_cached(plan, x, cache)?,
                    None => layer.forward(plan, x)?,
                },
            };
        }
        Ok(x)
    }

    /// Dropout after the last layer, if that is linear.
    pub(super) fn output_dropout(&self) -> Option<Dropout> {
        match self.0.last() {
            Some(Step::Linear { linear, .. }) => linear.dropout,
            _ => None,
        }
    }

    /// Appends the backward pass; that of a linear layer or normalisation includes dropout and activation of the linear layer below, and
    /// `residual` is added to the gradient of the input if the first layer is linear.
    ///
    /// # Errors
    /// `Internal` before `forward`.
    pub fn backward_from(&mut self, plan: &mut Plan, dy: impl Into<Gradient>, residual: Option<Tensor>) -> Result<Tensor> {
        let (mut d, mut undone) = (dy.into(), false);
        for i in (0..self.0.len()).rev() {
            let (before, rest) = self.0.split_at_mut(i);
            match &mut rest[0] {
                Step::Linear { linear, .. } => {
                    let dz = if undone { d.unmasked } else { linear.before_activation(plan, d)? };
                    linear.backward_params(plan, dz)?;
                    let fused = below(before)?;
                    undone = fused.is_some();
                    let fused = Fused { residual: residual.filter(|_| i == 0), ..fused.unwrap_or_default() };
                    d = linear.backward_input(plan, dz, fused)?.into();
                }
                Step::Norm(norm) => {
                    let fused = below(before)?;
                    undone = fused.is_some();
                    d = match fused {
                        Some(fused) => norm.backward_fused(plan, d.unmasked, fused)?.into(),
                        None => norm.backward(plan, d.unmasked)?.into(),
                    };
                }
                Step::Other(layer) => {
                    d = layer.backward(plan, d.unmasked)?.into();
                    undone = false;
                }
            }
        }
        Ok(d.unmasked)
    }
}

/// Activation and dropout of a linear layer below a step, which the backward pass of that step can include; none below other layers.
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

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        self.backward_from(plan, dy, None)
    }

    fn decoding(&self) -> Decoding {
        let other = |step: &Step| if let Step::Other(layer) = step { layer.decoding() } else { Decoding::Endless };
        self.0.iter().map(other).min().unwrap_or(Decoding::Endless)
    }

    fn keeps_state(&self) -> bool {
        self.0.iter().any(|step| matches!(step, Step::Other(layer) if layer.keeps_state()))
    }

    fn forward_cached(&mut self, plan: &mut Plan, x: Tensor, cache: Cache) -> Result<Tensor> {
        self.run(plan, x, None, Some(cache))
    }
}
