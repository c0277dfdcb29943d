//! Models: a configuration, and the layers it becomes. One file a model.

mod image_vae;
mod mechanism_transformer;
mod sequence_transformer;
mod vector;
mod vector_amn;
mod vector_gru;
mod vector_lstm;
mod vector_mlp;
mod vector_transformer;

use std::any::Any;
use std::fmt::Debug;

pub use image_vae::{ImageVaeConfig, VaeLayers};
pub use mechanism_transformer::{Features, MechanismTransformerConfig};
pub use sequence_transformer::{EmbeddingKind, SequenceTransformerConfig};
pub use vector_amn::VectorAmnConfig;
pub use vector_gru::{NormPlace, VectorGruConfig};
pub use vector_lstm::VectorLstmConfig;
pub use vector_mlp::VectorMlpConfig;
pub use vector_transformer::{Blocks, VectorTransformerConfig};

use crate::batch::{Fields, Inputs, Outputs};
use crate::config::Section;
use crate::error::{Error, Result};
use crate::layers::Cache;
use crate::losses::Gradients;
use crate::plan::{Buffer, FLAT_ALIGN, Init, Parameter, Plan};
use crate::random::{Random, stream};

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

type Checked = std::result::Result<(), String>;

fn positive(key: &str, value: usize, most: usize) -> Checked {
    check((1..=most).contains(&value), &format!("{key} = {value}"), &format!("from 1 to {most}"))
}

fn check(ok: bool, what: &str, range: &str) -> Checked {
    if ok { Ok(()) } else { Err(format!("model.{what} is out of range: it must be {range}")) }
}

fn check_dropout(rate: f64) -> Checked {
    check((0.0..1.0).contains(&rate), &format!("dropout = {rate}"), "in [0, 1)")
}

/// Initial values of a flat parameter buffer. Each tensor draws from (seed, hash of its name), so that adding one changes no other; the
/// layers of a stack named `transformer…` start identical, as PyTorch's `TransformerEncoder` copies its first.
pub fn initial_weights(parameters: &[Parameter], seed: u64) -> Vec<f32> {
    let len = parameters.last().map_or(0, |p| (p.offset + p.len()).next_multiple_of(FLAT_ALIGN));
    let mut flat = vec![0.0; len];
    for parameter in parameters {
        let name: String = match parameter.name.split_once(".layers.") {
            Some((stack, rest)) if stack.starts_with("transformer") => {
                format!("{stack}.layers.{}", rest.trim_start_matches(|c: char| c.is_ascii_digit()))
            }
            _ => parameter.name.clone(),
        };
        // FNV-1a.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3));
        let mut random = Random::new(seed, stream::WEIGHTS, hash);
        for value in &mut flat[parameter.offset..parameter.offset + parameter.len()] {
            *value = match parameter.init {
                Init::Zeros => 0.0,
                Init::Ones => 1.0,
                Init::Uniform(bound) => (2.0 * random.uniform() - 1.0) * bound,
                Init::Normal(std) => random.normal() * std,
            } as f32;
        }
    }
    flat
}
