//! Models: a configuration, and the layers it becomes. One file a model.

mod image_vae;
mod mechanism_transformer;
mod model;
mod sequence_transformer;
mod stack;
mod vector;
mod vector_amn;
mod vector_gru;
mod vector_lstm;
mod vector_mlp;
mod vector_transformer;
mod weights;

pub use image_vae::{ImageVaeConfig, VaeLayers};
pub use mechanism_transformer::{Features, MechanismTransformerConfig};
pub use model::{Build, Model, ModelKind};
pub use sequence_transformer::{EmbeddingKind, SequenceTransformerConfig};
pub use stack::{LayerConfig, StackConfig};
pub use vector_amn::VectorAmnConfig;
pub use vector_gru::{NormPlace, VectorGruConfig};
pub use vector_lstm::VectorLstmConfig;
pub use vector_mlp::VectorMlpConfig;
pub use vector_transformer::{Blocks, VectorTransformerConfig};
pub use weights::initial_weights;
