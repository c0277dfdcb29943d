//! What layers have in common.

use crate::error::{Error, Result};
use crate::kernels::{self, Dropout};
use crate::plan::{Plan, Tensor};

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
}

/// The positions that a position of an attention sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// All of them.
    None,
    /// Itself and the earlier ones.
    Causal,
}

impl Mask {
    /// A causal mask, or none.
    pub fn of(causal: bool) -> Self {
        if causal { Mask::Causal } else { Mask::None }
    }
}

/// A dropout of that rate with a stream of its own, or none at rate 0 and where nothing is trained.
pub fn dropout(plan: &mut Plan, rate: f64) -> Option<Dropout> {
    (rate > 0.0 && plan.trains).then(|| Dropout { rate, stream: plan.stream() })
}

/// A gradient, and what of it passes the dropout below where that was made with it.
#[derive(Debug, Clone, Copy)]
pub struct Gradient {
    /// All of it.
    pub whole: Tensor,
    /// What passes.
    pub dropped: Option<Tensor>,
}

impl From<Tensor> for Gradient {
    fn from(whole: Tensor) -> Self {
        Gradient { whole, dropped: None }
    }
}

/// The gradient below a dropout: masked again, or itself where there was none.
pub(super) fn through_dropout(plan: &mut Plan, dy: impl Into<Gradient>, dropout: Option<Dropout>, name: &str) -> Result<Tensor> {
    let Gradient { whole: dy, dropped } = dy.into();
    let Some(dropout) = dropout else { return Ok(dy) };
    if let Some(dropped) = dropped {
        return Ok(dropped);
    }
    let dx = plan.like(format!("{name}.dropped"), dy)?;
    kernels::dropout::Apply { x: dy, y: dx, dropout }.record(plan, name)?;
    Ok(dx)
}

/// The last axis of a tensor replaced by another.
pub(super) fn with_features(plan: &Plan, x: Tensor, features: usize) -> Vec<usize> {
    let mut shape = plan.shape(x).to_vec();
    if let Some(last) = shape.last_mut() {
        *last = features;
    }
    shape
}

/// The three axes of a tensor of sequences.
pub(super) fn axes(plan: &Plan, x: Tensor, name: &str) -> Result<[usize; 3]> {
    let wrong = |_| Error::Config(format!("{name} takes sequences (batch, length, features), and is given {:?}", plan.shape(x)));
    plan.shape(x).try_into().map_err(wrong)
}

/// What `forward` kept, or the error of calling `backward` first.
pub(crate) fn kept<T: Copy>(saved: &Option<T>, name: &str) -> Result<T> {
    saved.ok_or_else(|| Error::Internal(format!("{name}: backward before forward")))
}
