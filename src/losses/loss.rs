//! What losses have in common.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use crate::batch::{Inputs, Outputs};
use crate::config::Section;
use crate::error::Result;
use crate::plan::{Plan, Tensor};

/// The results of a loss, a number each for every row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Columns {
    /// Their names, the loss first.
    pub names: Vec<&'static str>,
    /// Of a weighted sum, its terms' names and weights, in the order of the last columns.
    pub terms: Vec<(&'static str, f64)>,
    /// Columns for which a batch of one sample makes no sense: a standard deviation over it is 0/0.
    pub need_two: Vec<&'static str>,
    /// Whether the samples of a micro-batch are compared with each other: another micro-batch makes another loss.
    pub compares: bool,
}

/// The targets of the training samples.
pub trait TargetVectors: Debug + Send + Sync {
    /// Unit target of a sample.
    fn unit(&self, sample: usize) -> Vec<f64>;

    /// Means and unbiased standard deviations of the targets, by feature.
    fn statistics(&self) -> [Vec<f64>; 2];
}

/// What a loss may know of the training targets.
#[derive(Debug, Clone)]
pub struct Targets {
    /// How many.
    pub count: usize,
    /// Their values, once they are loaded.
    pub vectors: Option<Arc<dyn TargetVectors>>,
}

/// The gradient of a loss by what the model gives.
#[derive(Debug, Clone)]
pub struct Gradients {
    /// By the main output.
    pub main: Tensor,
    /// Factors of terms whose gradient the model forms on its way, such as the divergence of a posterior.
    pub factors: Vec<(&'static str, f64)>,
    /// Records whose loss scale the main gradient was multiplied with, and those terms have to be.
    pub scale: Option<Tensor>,
}

impl Gradients {
    /// By the main output alone.
    pub fn only(main: Tensor) -> Self {
        Gradients { main, factors: vec![], scale: None }
    }

    /// The factor of a term, 0 where there is none.
    pub fn factor(&self, name: &str) -> f64 {
        self.factors.iter().find(|(n, _)| *n == name).map_or(0.0, |(_, v)| *v)
    }
}

/// A recorded loss.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// (rows, columns).
    pub rows: Tensor,
    /// Of state.scale · mean loss, where it was asked for.
    pub gradients: Option<Gradients>,
    /// Whether means are taken over samples, whose rows share their weight, and not over what counts of a batch.
    pub per_sample: bool,
}

/// What is minimised.
pub trait Loss: Debug {
    /// Its results.
    fn columns(&self) -> Columns;

    /// Takes what it needs of the training targets, for a run of that seed.
    ///
    /// # Errors
    /// `Data` when there are too few.
    fn prepare(&mut self, _targets: &Targets, _seed: u64) -> Result<()> {
        Ok(())
    }

    /// Whether the terms that are left out of some batches are in those of this step.
    fn drawn(&self, _seed: u64, _step: u64) -> bool {
        false
    }

    /// Its results for guessing each of so many classes with equal probability, of a classifier.
    fn uniform_guess(&self, _classes: usize) -> Vec<(&'static str, f64)> {
        vec![]
    }

    /// Appends the loss of what a model gives for these inputs, and with `gradient` its gradient.
    ///
    /// # Errors
    /// `Config` when the shapes are not what it compares.
    fn record(&self, plan: &mut Plan, outputs: &Outputs, inputs: &Inputs, gradient: bool) -> Result<Recorded>;
}

/// The table `loss` of a run file.
pub trait LossKind: Section + Debug + Any {
    /// The loss that it describes.
    fn build(&self) -> Box<dyn Loss>;
}
