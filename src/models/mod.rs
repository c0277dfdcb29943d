//! Models: a configuration, and the layers it becomes. One file a model.

mod causal_lm;
mod gpt;
mod hugging_face;
mod image_vae;
mod llama;
mod mamba2;
mod mechanism_transformer;
mod model;
mod sequence_transformer;
mod stack;
mod vector_amn;
mod vector_gru;
mod vector_lstm;
mod vector_mamba2;
mod vector_mlp;
mod vector_transformer;
mod weights;

pub use gpt::GptConfig;
pub use hugging_face::{HuggingFace, Key};
pub use image_vae::{ImageVaeConfig, VaeLayers};
pub use llama::LlamaConfig;
pub use mamba2::Mamba2LmConfig;
pub use mechanism_transformer::{Features, MechanismTransformerConfig};
pub use model::{Build, Model, ModelKind};
pub use sequence_transformer::{EmbeddingKind, SequenceTransformerConfig};
pub use stack::StackConfig;
pub use vector_amn::VectorAmnConfig;
pub use vector_gru::{NormPlace, VectorGruConfig};
pub use vector_lstm::VectorLstmConfig;
pub use vector_mamba2::VectorMamba2Config;
pub use vector_mlp::VectorMlpConfig;
pub use vector_transformer::{Blocks, VectorTransformerConfig};
pub use weights::initial_weights;

/// Every model of run files, by its `kind`: the list that the registry is made from.
macro_rules! model_kinds {
    ($make:ident) => {
        $make! {
            /// Configuration of a model, by its `kind`.
            ModelConfig: ModelKind {
                /// Causal transformer over a sequence of integers, post-norm or pre-norm.
                SequenceTransformer(crate::models::SequenceTransformerConfig),
                /// GPT-2: a causal transformer over the tokens of a text, with the weight names of Hugging Face.
                Gpt(crate::models::GptConfig),
                /// Llama: a causal transformer over the tokens of a text, with the weight names of Hugging Face.
                Llama(crate::models::LlamaConfig),
                /// Mamba-2 over the tokens of a text, with the weight names of Hugging Face.
                Mamba2(crate::models::Mamba2LmConfig),
                /// Multilayer perceptron over the whole context.
                VectorMlp(crate::models::VectorMlpConfig),
                /// Transformer over the vectors of a context.
                VectorTransformer(crate::models::VectorTransformerConfig),
                /// LSTM over the vectors of a context.
                VectorLstm(crate::models::VectorLstmConfig),
                /// Residual GRU blocks over the vectors of a context.
                VectorGru(crate::models::VectorGruConfig),
                /// Next vector by Mamba-2 blocks over the context.
                VectorMamba2(crate::models::VectorMamba2Config),
                /// Attention over the context with the mean of the context as query.
                VectorAmn(crate::models::VectorAmnConfig),
                /// Llama blocks that predict joints from a latent and a type.
                MechanismTransformer(crate::models::MechanismTransformerConfig),
                /// Variational autoencoder of images.
                ImageVae(crate::models::ImageVaeConfig),
                /// Sequence of layers that the run file lists.
                Stack(crate::models::StackConfig),
            }
        }
    };
}

pub(crate) use model_kinds;
