//! The two-layer network of a transformer block.

use super::layer::{Gradient, Layer, dropout, through_dropout};
use super::linear::{Fused, Linear};
use crate::error::Result;
use crate::kernels::Dropout;
use crate::kernels::matmul::Activation;
use crate::plan::{Plan, Tensor};

/// Feed-forward network with its residual: x + dropout(linear2(dropout(activation(linear1(x))))).
#[derive(Debug, Clone)]
pub struct FeedForward {
    name: String,
    rate: f64,
    linear1: Linear,
    linear2: Linear,
}

impl FeedForward {
    /// A layer with the weights `name.linear1.*` and `name.linear2.*`.
    pub fn new(name: &str, features: usize, hidden: usize, activation: Activation, rate: f64) -> Self {
        let linear1 = Linear::new(&format!("{name}.linear1"), features, hidden).activated(activation);
        FeedForward { name: name.into(), rate, linear1, linear2: Linear::new(&format!("{name}.linear2"), hidden, features) }
    }

    /// Appends the forward pass, added to `residual`: x itself, or the tensor whose normalisation x is.
    ///
    /// # Errors
    /// As `Layer::forward`.
    pub fn forward_from(&mut self, plan: &mut Plan, x: Tensor, residual: Tensor) -> Result<Tensor> {
        self.linear1.dropout = dropout(plan, self.rate);
        self.linear2.dropout = dropout(plan, self.rate);
        let h = self.linear1.forward(plan, x)?;
        self.linear2.forward_fused(plan, h, Some(residual))
    }

    /// Dropout on the output, before the residual is added.
    pub(super) fn output_dropout(&self) -> Option<Dropout> {
        self.linear2.dropout
    }

    /// Appends the backward pass and gives the gradient of x, with the gradient `residual` added to it if there is one.
    ///
    /// # Errors
    /// `Internal` before `forward`.
    pub fn backward_from(&mut self, plan: &mut Plan, dy: impl Into<Gradient>, residual: Option<Tensor>) -> Result<Tensor> {
        let masked = through_dropout(plan, dy, self.linear2.dropout, &self.name)?;
        self.linear2.backward_params(plan, masked)?;
        let below = Fused { derivative: self.linear1.derivative()?, dropout: self.linear1.dropout, residual: None };
        let dz = self.linear2.backward_input(plan, masked, below)?;
        self.linear1.backward_params(plan, dz)?;
        self.linear1.backward_input(plan, dz, Fused { residual, ..Fused::default() })
    }
}

impl Layer for FeedForward {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        self.forward_from(plan, x, x)
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        self.backward_from(plan, dy, Some(dy))
    }
}
