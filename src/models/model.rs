//! What models have in common.

use std::any::Any;
use std::fmt::Debug;

use crate::batch::{Fields, Inputs, Outputs};
use crate::config::Section;
use crate::error::{Error, Result};
use crate::layers::Cache;
use crate::losses::Gradients;
use crate::plan::{Buffer, Plan};

/// What a model is made for.
#[derive(Debug, Clone, Copy)]
pub struct Build<'a> {
    /// What the data offer.
    pub fields: &'a Fields,
    /// The model's buffers.
    pub buffers: &'a [Buffer],
}

/// The table `model` of a run file.
pub trait ModelKind: Section + Debug + Any {
    /// Whether it takes sequences time step after time step, (length, batch, …), instead of (batch, length, …).
    fn time_major(&self) -> bool {
        false
    }

    /// What the integers that it takes must be below, where the configuration says so.
    fn integers_below(&self) -> Option<usize> {
        None
    }

    /// Numbers that are kept with the weights and are not trained, drawn with a seed.
    fn buffers(&self, _seed: u64) -> Vec<Buffer> {
        vec![]
    }

    /// What is to be known of it where the numbers that it sees are of this size.
    fn notes(&self, _size: f64) -> Vec<String> {
        vec![]
    }

    /// The model for these data.
    ///
    /// # Errors
    /// `Config` when the data lack what it takes, or sizes do not fit each other.
    fn build(&self, given: &Build<'_>) -> Result<Box<dyn Model>>;
}

/// The layers of a model.
pub trait Model: Debug {
    /// Appends the forward pass.
    ///
    /// # Errors
    /// `Config` when sizes overflow or do not fit each other.
    fn forward(&mut self, plan: &mut Plan, inputs: &Inputs) -> Result<Outputs>;

    /// Appends the gradients of all weights.
    ///
    /// # Errors
    /// `Internal` before `forward`.
    fn backward(&mut self, plan: &mut Plan, gradients: &Gradients) -> Result<()>;

    /// Whether it can go on from a cache.
    fn decodes(&self) -> bool {
        false
    }

    /// Appends the forward pass of one new position, that of state.position, over a cache.
    ///
    /// # Errors
    /// `Config` when the model does not decode.
    fn forward_cached(&mut self, _plan: &mut Plan, _inputs: &Inputs, _cache: Cache) -> Result<Outputs> {
        Err(Error::Config("this model has no cache: it does not continue sequences".into()))
    }
}

pub(super) type Checked = std::result::Result<(), String>;

pub(super) fn positive(key: &str, value: usize, most: usize) -> Checked {
    check((1..=most).contains(&value), &format!("{key} = {value}"), &format!("from 1 to {most}"))
}

pub(super) fn check(ok: bool, what: &str, range: &str) -> Checked {
    if ok { Ok(()) } else { Err(format!("model.{what} is out of range: it must be {range}")) }
}

pub(super) fn check_dropout(rate: f64) -> Checked {
    check((0.0..1.0).contains(&rate), &format!("dropout = {rate}"), "in [0, 1)")
}
