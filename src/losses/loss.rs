//! What losses have in common.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use crate::batch::{Inputs, Outputs};
use crate::config::Section;
use crate::error::Result;
use crate::plan::{Plan, Tensor};

/// Results of a loss: one number for each row and column.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Columns {
    /// Names of the columns, the loss first.
    pub names: Vec<&'static str>,
    /// Names and weights of the terms of a weighted sum, in the order of the last columns.
    pub terms: Vec<(&'static str, f64)>,
    /// Names of columns that need a batch of at least two samples: the standard deviation over one sample is 0/0.
    pub need_two: Vec<&'static str>,
    /// True if the loss compares the samples of a micro-batch with each other, so that its value depends on the size of the micro-batch.
    pub compares: bool,
}

/// The targets of the training samples.
pub trait TargetVectors: Debug + Send + Sync {
    /// Target of a sample, scaled to unit length.
    fn unit(&self, sample: usize) -> Vec<f64>;

    /// Means and unbiased standard deviations of the targets, by feature.
    fn statistics(&self) -> [Vec<f64>; 2];
}

/// Number and values of the training targets, as far as they are known when a loss is prepared.
#[derive(Debug, Clone)]
pub struct Targets {
    /// Number of training targets.
    pub count: usize,
    /// Values of the training targets, once they are loaded.
    pub vectors: Option<Arc<dyn TargetVectors>>,
}

/// Gradient of a loss with respect to the output of the model.
#[derive(Debug, Clone)]
pub struct Gradients {
    /// Gradient with respect to the main output.
    pub main: Tensor,
    /// Names and factors of terms whose gradient the model itself computes in its backward pass, such as the divergence of a posterior.
    pub factors: Vec<(&'static str, f64)>,
    /// Records that hold the loss scale, if there is one: the main gradient is already multiplied by it, and those terms still have to be.
    pub scale: Option<Tensor>,
}

impl Gradients {
    /// The gradient with respect to the main output alone.
    pub fn only(main: Tensor) -> Self {
        Gradients { main, factors: vec![], scale: None }
    }

    /// Factor of a term, 0 if it is not listed.
    pub fn factor(&self, name: &str) -> f64 {
        self.factors.iter().find(|(n, _)| *n == name).map_or(0.0, |(_, v)| *v)
    }
}

/// Tensors of a loss that has been recorded in a plan.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Results, shape (rows, columns).
    pub rows: Tensor,
    /// Gradient of state.scale · mean loss, if it was asked for.
    pub gradients: Option<Gradients>,
    /// True if means are taken over samples, whose rows share the weight of the sample; otherwise each valid row has the same weight.
    pub per_sample: bool,
}

/// A loss function: it compares the output of a model with the targets of a batch.
pub trait Loss: Debug {
    /// Columns of its results.
    fn columns(&self) -> Columns;

    /// Takes what the loss needs from the training targets, in a run with this seed.
    ///
    /// # Errors
    /// `Data` when there are too few.
    fn prepare(&mut self, _targets: &Targets, _seed: u64) -> Result<()> {
        Ok(())
    }

    /// True if terms that take part in some steps only take part in this one.
    fn drawn(&self, _seed: u64, _step: u64) -> bool {
        false
    }

    /// Expected results of a classifier that gives each of so many classes the same probability.
    fn uniform_guess(&self, _classes: usize) -> Vec<(&'static str, f64)> {
        vec![]
    }

    /// Appends the loss of these outputs to the plan, and its gradient if `gradient` is true.
    ///
    /// # Errors
    /// `Config` when the shapes do not fit.
    fn record(&self, plan: &mut Plan, outputs: &Outputs, inputs: &Inputs, gradient: bool) -> Result<Recorded>;
}

/// Configuration of a loss: the table `loss` of a run file.
pub trait LossKind: Section + Debug + Any {
    /// Builds the loss from its configuration.
    fn build(&self) -> Box<dyn Loss>;
}

/// What to do about outputs that are there for each position of a sequence where one is wanted; empty for outputs of another kind.
pub(super) fn of_positions(shape: &[usize], given: usize, wanted: usize) -> &'static str {
    if shape.len() < 3 || given <= wanted {
        return "";
    }
    ". That is an output for each position of a sequence: put { kind = \"last\" } or { kind = \"mean_pool\" } before the last layer of model.layers"
}
