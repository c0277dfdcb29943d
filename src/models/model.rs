//! What models have in common.

use std::any::Any;
use std::fmt::Debug;

use super::hugging_face::HuggingFace;
use crate::batch::{Fields, Inputs, Outputs};
use crate::config::{AdaptConfig, Adapted, Section};
use crate::error::{Error, Result};
use crate::layers::{Cache, Decoding, LowRank};
use crate::losses::Gradients;
use crate::plan::{Buffer, Plan};

/// Inputs for building a model.
#[derive(Debug, Clone, Copy)]
pub struct Build<'a> {
    /// Fields that the data have, with their shapes.
    pub fields: &'a Fields,
    /// Values of the model's buffers, which are kept with the weights and not trained.
    pub buffers: &'a [Buffer],
    /// Adapters that are trained beside frozen weights, of a run that has them.
    pub adapt: Option<&'a AdaptConfig>,
}

impl Build<'_> {
    /// Adapters of the projections of attention, and of the other linear layers of blocks.
    pub fn adapters(&self) -> [Option<LowRank>; 2] {
        let of = |adapt: &AdaptConfig| LowRank { rank: adapt.rank, scale: adapt.scale() };
        let every = self.adapt.filter(|adapt| adapt.layers == Adapted::All);
        [self.adapt, every].map(|adapt| adapt.map(of))
    }
}

/// Configuration of a model: the table `model` of a run file.
pub trait ModelKind: Section + Debug + Any {
    /// True if the model takes sequences in time-major order, (length, batch, …), instead of (batch, length, …).
    fn time_major(&self) -> bool {
        false
    }

    /// Number that the integers in its inputs must be below, if the configuration sets it.
    fn integers_below(&self) -> Option<usize> {
        None
    }

    /// Values that are kept with the weights and not trained, as a PyTorch module's buffers, drawn with a seed.
    fn buffers(&self, _seed: u64) -> Vec<Buffer> {
        vec![]
    }

    /// Warnings about the model for inputs whose values are of this size.
    fn notes(&self, _size: f64) -> Vec<String> {
        vec![]
    }

    /// The model for these data as Hugging Face's transformers keeps it in a folder; none if it does not have such a model.
    fn hugging_face(&self, _fields: &Fields) -> Option<HuggingFace> {
        None
    }

    /// Builds the model for these data.
    ///
    /// # Errors
    /// `Config` when the data lack what it takes, or sizes do not fit each other.
    fn build(&self, build: &Build<'_>) -> Result<Box<dyn Model>>;
}

/// A model: its layers, with forward and backward pass.
pub trait Model: Debug {
    /// Appends the forward pass.
    ///
    /// # Errors
    /// `Config` when sizes overflow or do not fit each other.
    fn forward(&mut self, plan: &mut Plan, inputs: &Inputs) -> Result<Outputs>;

    /// Appends the backward pass: the gradients of all weights.
    ///
    /// # Errors
    /// `Internal` before `forward`.
    fn backward(&mut self, plan: &mut Plan, gradients: &Gradients) -> Result<()>;

    /// Way in which the model continues sequences.
    fn decoding(&self) -> Decoding {
        Decoding::None
    }

    /// True if it keeps a state of all positions that it was fed, which no later feed undoes.
    fn keeps_state(&self) -> bool {
        false
    }

    /// Appends the forward pass for new positions, from state.position on, over a cache.
    ///
    /// # Errors
    /// `Config` when the model does not decode.
    fn forward_cached(&mut self, _plan: &mut Plan, _inputs: &Inputs, _cache: Cache) -> Result<Outputs> {
        Err(Error::Config("this model has no cache: it does not continue sequences".into()))
    }
}
