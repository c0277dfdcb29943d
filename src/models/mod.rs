//! Models: a configuration, and the layers it becomes.

mod mechanism_transformer;
mod sequence_transformer;
mod vae;
mod vectors;

pub(crate) use mechanism_transformer::RANDOM_FREQUENCIES;
pub use mechanism_transformer::{Features, MechanismInputs, MechanismTransformer, MechanismTransformerConfig};
pub use sequence_transformer::{EmbeddingKind, SequenceTransformer, SequenceTransformerConfig};
pub use vae::{ImageVae, ImageVaeConfig, VaeLayers};
pub use vectors::{
    Blocks, NormPlace, VectorAmnConfig, VectorGruConfig, VectorLstmConfig, VectorMlpConfig, VectorModel, VectorShape,
    VectorTransformerConfig,
};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::plan::{FLAT_ALIGN, Init, Parameter};
use crate::random::Random;

/// Every model, by its `kind`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ModelConfig {
    /// Post-norm causal transformer over a sequence of integers.
    SequenceTransformer(SequenceTransformerConfig),
    /// Network over the whole context.
    VectorMlp(VectorMlpConfig),
    /// Transformer over the vectors of a context.
    VectorTransformer(VectorTransformerConfig),
    /// LSTM over the vectors of a context.
    VectorLstm(VectorLstmConfig),
    /// Residual GRU blocks over the vectors of a context.
    VectorGru(VectorGruConfig),
    /// Attention from the mean of the context.
    VectorAmn(VectorAmnConfig),
    /// Llama blocks from a latent and a type to joints.
    MechanismTransformer(MechanismTransformerConfig),
    /// Variational autoencoder of images.
    ImageVae(ImageVaeConfig),
}

impl ModelConfig {
    pub(crate) fn validate(&self) -> std::result::Result<(), String> {
        match self {
            ModelConfig::SequenceTransformer(config) => config.validate(),
            ModelConfig::VectorMlp(config) => config.validate(),
            ModelConfig::VectorTransformer(config) => config.validate(),
            ModelConfig::VectorLstm(config) => config.validate(),
            ModelConfig::VectorGru(config) => config.validate(),
            ModelConfig::VectorAmn(config) => config.validate(),
            ModelConfig::MechanismTransformer(config) => config.validate(),
            ModelConfig::ImageVae(config) => config.validate(),
        }
    }

    /// The layers of a next-vector model. Without `training` there is no dropout and nothing is kept for a backward pass.
    ///
    /// # Errors
    /// `Config` when the model is of another kind or its sizes do not fit each other.
    pub fn vector_model(&self, shape: VectorShape, training: bool) -> Result<Box<dyn VectorModel>> {
        match self {
            ModelConfig::SequenceTransformer(_) | ModelConfig::MechanismTransformer(_) | ModelConfig::ImageVae(_) => {
                Err(Error::Config("this model does not predict the next vector. Use model.kind = \"vector_…\"".into()))
            }
            ModelConfig::VectorMlp(config) => Ok(config.build(shape, training)),
            ModelConfig::VectorTransformer(config) => config.build(shape, training),
            ModelConfig::VectorLstm(config) => Ok(config.build(shape, training)),
            ModelConfig::VectorGru(config) => Ok(config.build(shape, training)),
            ModelConfig::VectorAmn(config) => Ok(config.build(shape, training)),
        }
    }
}

/// Stream of initial weights.
const INIT: u32 = 20;

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
