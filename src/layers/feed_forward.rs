//! The two-layer network of a transformer block.

use super::layer::{Gradient, Layer};
use super::linear::Linear;
use super::sequential::{Sequential, Step};
use crate::error::Result;
use crate::kernels::Dropout;
use crate::kernels::matmul::Activation;
use crate::plan::{Plan, Tensor};

/// Feed-forward network with its residual: x + dropout(linear2(dropout(activation(linear1(x))))).
#[derive(Debug)]
pub struct FeedForward(Sequential);

impl FeedForward {
    /// A layer with the weights `name.linear1.*` and `name.linear2.*`.
    pub fn new(name: &str, features: usize, hidden: usize, activation: Activation, rate: f64) -> Self {
        let linear1 = Linear::new(&format!("{name}.linear1"), features, hidden).activated(activation);
        let linear2 = Linear::new(&format!("{name}.linear2"), hidden, features);
        FeedForward::of([(linear1, rate), (linear2, rate)])
    }

    /// A layer of these two, the first with its activation, each with the rate of the dropout after it.
    pub fn of(layers: [(Linear, f64); 2]) -> Self {
        FeedForward(Sequential(layers.map(|(linear, rate)| Step::linear(linear, rate)).into()))
    }

    /// Appends the forward pass, added to `residual`: x itself, or the tensor whose normalisation x is.
    ///
    /// # Errors
    /// As `Layer::forward`.
    pub fn forward_from(&mut self, plan: &mut Plan, x: Tensor, residual: Tensor) -> Result<Tensor> {
        self.0.forward_from(plan, x, Some(residual))
    }

    /// Dropout on the output, before the residual is added.
    pub(super) fn output_dropout(&self) -> Option<Dropout> {
        self.0.output_dropout()
    }

    /// Appends the backward pass and gives the gradient of x, with the gradient `residual` added to it if there is one.
    ///
    /// # Errors
    /// `Internal` before `forward`.
    pub fn backward_from(&mut self, plan: &mut Plan, dy: impl Into<Gradient>, residual: Option<Tensor>) -> Result<Tensor> {
        self.0.backward_from(plan, dy, residual)
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
