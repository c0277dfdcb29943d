//! Models: a configuration, and the layers it becomes.

mod sequence_transformer;

pub use sequence_transformer::{EmbeddingKind, SequenceTransformer, SequenceTransformerConfig};

use serde::{Deserialize, Serialize};

use crate::plan::{FLAT_ALIGN, Init, Parameter};
use crate::random::Random;

/// Every model, by its `kind`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ModelConfig {
    /// Post-norm causal transformer over a sequence of integers.
    SequenceTransformer(SequenceTransformerConfig),
}

impl ModelConfig {
    pub(crate) fn validate(&self) -> std::result::Result<(), String> {
        match self {
            ModelConfig::SequenceTransformer(config) => config.validate(),
        }
    }
}

/// Stream of initial weights.
const INIT: u32 = 20;

/// Initial values of a flat parameter buffer. Each tensor draws from (seed, hash of its name), so that adding one changes no other; the
/// layers of a stack start identical, as PyTorch's `TransformerEncoder` copies its first.
pub fn initial_weights(parameters: &[Parameter], seed: u64) -> Vec<f32> {
    let len = parameters.last().map_or(0, |p| (p.offset + p.len()).next_multiple_of(FLAT_ALIGN));
    let mut flat = vec![0.0; len];
    for parameter in parameters {
        let name: String = match parameter.name.split_once(".layers.") {
            Some((stack, rest)) => format!("{stack}.layers.{}", rest.trim_start_matches(|c: char| c.is_ascii_digit())),
            None => parameter.name.clone(),
        };
        // FNV-1a.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3));
        let mut random = Random::new(seed, INIT, hash);
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
