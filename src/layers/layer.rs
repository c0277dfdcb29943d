//! What layers have in common.

use crate::error::{Error, Result};
use crate::kernels::{self, Dropout};
use crate::plan::{Plan, Tensor};

/// Cache for decoding: what earlier positions have left.
#[derive(Debug, Clone, Copy)]
pub struct Cache {
    /// Index of the batch row that holds each position of a sequence, shape (batch, limit).
    pub sources: Tensor,
    /// Number of positions that fit.
    pub limit: usize,
}

/// Way in which a layer or a model continues sequences, feed after feed; that of several is the least of theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Decoding {
    /// It takes whole sequences only.
    None,
    /// A sequence to begin with, then one new position after another, as many as the cache holds.
    Limited,
    /// Any number of new positions at once, without an end: what it keeps of a sequence does not grow.
    Endless,
}

/// A layer with one input and one output.
pub trait Layer: std::fmt::Debug {
    /// Appends the forward pass.
    ///
    /// # Errors
    /// `Config` when sizes overflow, `Internal` when shapes differ.
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor>;

    /// Appends the backward pass: gradients of the weights, and the gradient of the input, which it returns.
    ///
    /// # Errors
    /// `Internal` when called before `forward`.
    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor>;

    /// Way in which the layer continues sequences.
    fn decoding(&self) -> Decoding {
        Decoding::None
    }

    /// True if it keeps a state of all positions that it was fed, which no later feed undoes.
    fn keeps_state(&self) -> bool {
        false
    }

    /// Appends the forward pass for new positions from state.position on, over a cache of the earlier ones: several only from position 0 on,
    /// unless its decoding is endless. A layer whose positions have
    /// nothing to do with each other needs none.
    ///
    /// # Errors
    /// As `forward`.
    fn forward_cached(&mut self, plan: &mut Plan, x: Tensor, _cache: Cache) -> Result<Tensor> {
        self.forward(plan, x)
    }
}

/// Mask of an attention: the positions that each position sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// No mask: all positions.
    None,
    /// Causal mask: the position itself and earlier ones.
    Causal,
}

impl Mask {
    /// A causal mask if `causal` is true, else none.
    pub fn of(causal: bool) -> Self {
        if causal { Mask::Causal } else { Mask::None }
    }
}

/// Name of the tensor (batch) with the number of positions of each sequence that count, in a plan of this name.
pub fn lengths_name(plan: &str) -> String {
    format!("{plan}.lengths")
}

/// Number of positions of each sequence that count, if they differ in the data.
pub(super) fn lengths(plan: &Plan) -> Option<Tensor> {
    plan.find(&lengths_name(&plan.name))
}

/// Dropout with this rate and a random stream of its own; none at rate 0 or in a plan without a backward pass.
pub fn dropout(plan: &mut Plan, rate: f64) -> Option<Dropout> {
    (rate > 0.0 && plan.options.trains).then(|| Dropout { rate, stream: plan.stream() })
}

/// Gradient of a layer's input, with the part that passes the dropout below it if the same kernel made that, too.
#[derive(Debug, Clone, Copy)]
pub struct Gradient {
    /// Gradient without the dropout.
    pub unmasked: Tensor,
    /// Gradient times the dropout mask.
    pub masked: Option<Tensor>,
}

impl From<Tensor> for Gradient {
    fn from(unmasked: Tensor) -> Self {
        Gradient { unmasked, masked: None }
    }
}

/// The gradient below a dropout: the mask applied to dy, or dy itself without a dropout.
pub(super) fn through_dropout(plan: &mut Plan, dy: impl Into<Gradient>, dropout: Option<Dropout>, name: &str) -> Result<Tensor> {
    let Gradient { unmasked: dy, masked } = dy.into();
    let Some(dropout) = dropout else { return Ok(dy) };
    if let Some(masked) = masked {
        return Ok(masked);
    }
    let dx = plan.like(format!("{name}.dropped"), dy)?;
    kernels::dropout::Apply { x: dy, y: dx, dropout }.record(plan, name)?;
    Ok(dx)
}

/// Shape of a tensor with its last axis replaced.
pub(super) fn with_features(plan: &Plan, x: Tensor, features: usize) -> Vec<usize> {
    let mut shape = plan.shape(x).to_vec();
    if let Some(last) = shape.last_mut() {
        *last = features;
    }
    shape
}

/// Batch, length and features of a tensor of sequences.
pub(super) fn axes(plan: &Plan, x: Tensor, name: &str) -> Result<[usize; 3]> {
    let wrong = |_| Error::Config(format!("{name} takes sequences (batch, length, features), and is given {:?}", plan.shape(x)));
    plan.shape(x).try_into().map_err(wrong)
}

/// Tensors that `forward` saved, or an error if `backward` is called first.
pub(crate) fn saved_by_forward<T: Copy>(saved: &Option<T>, name: &str) -> Result<T> {
    saved.ok_or_else(|| Error::Internal(format!("{name}: backward before forward")))
}
