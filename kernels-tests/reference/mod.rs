//! Plain f64 references of the forward passes, generic over the scalar, one file per family. Run over a recorded plan they are an
//! oracle for whole models; on a tape, for their gradients.

pub mod activation;
pub mod adamw;
pub mod argmax;
pub mod attention;
pub mod attention_pool;
pub mod cross_entropy;
pub mod dropout;
pub mod embedding;
pub mod fourier;
pub mod gather;
pub mod grad_norm;
pub mod gru;
pub mod infonce;
pub mod joint_loss;
pub mod layer_norm;
pub mod lstm;
pub mod matmul;
pub mod max_pool;
pub mod mean;
pub mod metrics;
pub mod mmd;
pub mod moments;
pub mod normalize;
pub mod patches;
pub mod positions;
pub mod rope;
pub mod slice;
pub mod swiglu;
pub mod tokens;
pub mod upsample;
pub mod vae;
pub mod vector_loss;

use std::collections::{HashMap, HashSet};

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
    /// Floating-point tensors that references have set.
    pub set: HashSet<Tensor>,
}

impl<S: Scalar> Values<S> {
    /// Gives parts of weights the values of their weights, and joined weights those of their parts.
    pub fn fill_parts(&mut self, plan: &Plan) {
        for (part, whole, first) in plan.parts() {
            if let Some(values) = self.floats.get(part).cloned() {
                let whole = self.floats.entry(*whole).or_insert_with(|| vec![S::constant(0.0); plan.len(*whole)]);
                whole[*first..first + values.len()].copy_from_slice(&values);
            } else if let Some(values) = self.floats.get(whole) {
                let values = values[*first..first + plan.len(*part)].to_vec();
                self.floats.insert(*part, values);
            }
        }
    }
}

/// One entry with the values around it.
#[derive(Debug)]
pub struct Call<'a, S> {
    plan: &'a Plan,
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

    /// Elements of an output, 0 when it is not bound.
    pub fn output_len(&self, name: &str) -> usize {
        self.entry.tensor(name).map_or(0, |t| self.plan.len(t))
    }

    /// Step state.
    pub fn state(&self) -> State {
        self.values.state
    }

    /// Sets an output, if it is bound.
    pub fn set(&mut self, name: &str, values: Vec<S>) {
        if let Some(tensor) = self.entry.tensor(name) {
            self.values.floats.insert(tensor, values);
            self.values.set.insert(tensor);
        }
    }

    /// Sets an integer output.
    pub fn set_ints(&mut self, name: &str, values: Vec<u32>) {
        if let Some(tensor) = self.entry.tensor(name) {
            self.values.ints.insert(tensor, values);
        }
    }
}

/// Whether the pass has no reference of its own: a gradient, checked against the tape of its forward pass.
pub fn is_backward(entry: &Entry) -> bool {
    entry.shader.name.split_once('/').is_some_and(|(_, pass)| pass.starts_with("backward"))
}

/// Runs the reference of one entry.
///
/// # Errors
/// `Internal` when the pass has none.
pub fn evaluate<S: Scalar>(plan: &Plan, entry: &Entry, values: &mut Values<S>) -> Result<()> {
    let mut call = Call { plan, entry, values };
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
        "attention_pool/forward" => attention_pool::forward(&mut call),
        "gather/forward" => gather::forward(&mut call),
        "gru/forward" => gru::forward(&mut call),
        "infonce/forward" => infonce::forward(&mut call),
        "lstm/forward" => lstm::forward(&mut call),
        "mean/forward" => mean::forward(&mut call),
        "mmd/forward" => mmd::forward(&mut call),
        "moments/forward" => moments::forward(&mut call),
        "moments/value" => moments::value(&mut call),
        "normalize/forward" => normalize::forward(&mut call),
        "positions/forward" => positions::forward(&mut call),
        "slice/forward" => slice::forward(&mut call),
        "vector_loss/rows" => vector_loss::rows(&mut call),
        "embedding/add_positions" => embedding::add_positions(&mut call),
        "fourier/features" => fourier::features(&mut call),
        "joint_loss/rows" => joint_loss::rows(&mut call),
        "rope/rotate" => rope::rotate(&mut call),
        "swiglu/forward" => swiglu::forward(&mut call),
        "tokens/forward" => tokens::forward(&mut call),
        "vae/sample" => vae::sample(&mut call),
        "vae/kl" => vae::kl(&mut call),
        "activation/forward" => activation::forward(&mut call),
        "max_pool/forward" => max_pool::forward(&mut call),
        "patches/forward" => patches::forward(&mut call),
        "upsample/forward" => upsample::forward(&mut call),
        "adamw/update" => adamw::update(&mut call),
        other => return Err(Error::Internal(format!("plan {}: kernel {other} has no reference", plan.name))),
    }
    Ok(())
}
