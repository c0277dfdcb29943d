//! Plain f64 references of the forward passes, generic over the scalar, one file per family. Run over a recorded plan they are an
//! oracle for whole models; on a tape, for their gradients.

pub mod adamw;
pub mod argmax;
pub mod attention;
pub mod cross_entropy;
pub mod dropout;
pub mod embedding;
pub mod grad_norm;
pub mod layer_norm;
pub mod matmul;
pub mod metrics;

use std::collections::HashMap;

use super::scalar::Scalar;
use crate::error::{Error, Result};
use crate::kernels::State;
use crate::plan::{Entry, Plan, Tensor};

/// Contents of the tensors of a plan.
#[derive(Debug, Clone)]
pub struct Values<S> {
    /// Floating-point tensors.
    pub floats: HashMap<Tensor, Vec<S>>,
    /// Integer tensors.
    pub ints: HashMap<Tensor, Vec<u32>>,
    /// Step state.
    pub state: State,
}

/// One entry with the values around it.
#[derive(Debug)]
pub struct Call<'a, S> {
    /// The launch.
    pub entry: &'a Entry,
    values: &'a mut Values<S>,
}

impl<S: Scalar> Call<'_, S> {
    /// Input of that name.
    pub fn floats(&self, name: &str) -> Vec<S> {
        self.maybe(name).unwrap_or_else(|| panic!("{}: no values for {name}", self.entry.shader.name))
    }

    /// Input of that name, if it is bound.
    pub fn maybe(&self, name: &str) -> Option<Vec<S>> {
        self.values.floats.get(&self.entry.tensor(name)?).cloned()
    }

    /// Integer input of that name.
    pub fn ints(&self, name: &str) -> Vec<u32> {
        self.entry.tensor(name).and_then(|t| self.values.ints.get(&t).cloned()).expect("an integer input")
    }

    /// Step state.
    pub fn state(&self) -> State {
        self.values.state
    }

    /// Sets an output, if it is bound.
    pub fn set(&mut self, name: &str, values: Vec<S>) {
        if let Some(tensor) = self.entry.tensor(name) {
            self.values.floats.insert(tensor, values);
        }
    }

    /// Sets an integer output.
    pub fn set_ints(&mut self, name: &str, values: Vec<u32>) {
        if let Some(tensor) = self.entry.tensor(name) {
            self.values.ints.insert(tensor, values);
        }
    }
}

/// Passes without a reference of their own: gradients, checked against the tape of their forward pass.
pub const BACKWARD: [&str; 5] = [
    "layer_norm/backward_input",
    "layer_norm/backward_params",
    "embedding/backward_table",
    "embedding/backward_positions",
    "attention/backward",
];

/// Runs the reference of one entry.
///
/// # Errors
/// `Internal` when the pass has none.
pub fn evaluate<S: Scalar>(plan: &Plan, entry: &Entry, values: &mut Values<S>) -> Result<()> {
    let mut call = Call { entry, values };
    match entry.shader.name.as_str() {
        "matmul/tile" | "matmul/lanes" | "matmul/register" => matmul::forward(&mut call),
        "layer_norm/forward" => layer_norm::forward(&mut call),
        "attention/forward" => attention::forward(&mut call),
        "attention/cached" => attention::cached(&mut call),
        "embedding/forward" => embedding::forward(&mut call),
        "embedding/fixed" => embedding::fixed(&mut call),
        "cross_entropy/forward" => cross_entropy::forward(&mut call),
        "dropout/apply" => dropout::apply(&mut call),
        "argmax/forward" => argmax::forward(&mut call),
        "metrics/accumulate" => metrics::accumulate(&mut call),
        "grad_norm/partial" => grad_norm::partial(&mut call),
        "adamw/update" => adamw::update(&mut call),
        other => return Err(Error::Internal(format!("plan {}: kernel {other} has no reference", plan.name))),
    }
    Ok(())
}
