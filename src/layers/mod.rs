//! Layers: each appends its forward and its hand-derived backward pass to a plan. `forward` keeps the tensors that `backward` needs.
//!
//! Shapes are (…, features); attention and recurrence read batch and length off the axes before. Weights carry PyTorch's `state_dict` names
//! and initial distributions. Whether a backward pass follows is the plan's to know: without one there is no dropout and nothing is kept.

mod activate;
mod add_positions;
mod batch_first;
mod conv1d;
mod conv2d;
mod convolution;
mod cross_attention;
mod decoder_block;
mod dense;
mod embedding;
mod feed_forward;
mod flatten;
mod head;
mod layer;
mod layer_norm;
mod learned_positions;
mod linear;
mod llama_block;
mod low_rank;
mod mamba2;
mod pooling;
mod projection;
mod recurrent;
mod residual;
mod self_attention;
mod sequential;
mod stacked;
mod state_space;
mod transformer_block;

pub use activate::DropoutLayer;
pub use conv2d::Conv2d;
pub use cross_attention::CrossAttention;
pub use decoder_block::DecoderBlock;
pub use embedding::{Embedding, FixedEmbedding};
pub use feed_forward::FeedForward;
pub use head::{Head, HeadKind};
pub(crate) use layer::saved_by_forward;
pub use layer::{Cache, Decoding, Layer, Mask, dropout, lengths_name};
pub use layer_norm::LayerNorm;
pub use linear::{Fused, Linear};
pub use llama_block::{LlamaBlock, LlamaBlockConfig};
pub use low_rank::LowRank;
pub use mamba2::{EPS as MAMBA2_EPS, Mamba2, Mamba2Block, Mamba2Config};
pub(crate) use pooling::{Last, context_mean, sizes};
pub use projection::{Projected, Projection};
pub use recurrent::{Gru, Lstm, Wanted};
pub use self_attention::SelfAttention;
pub use sequential::{Sequential, Step};
pub use stacked::{Sample, StackLayer, layer_by_layer, make_layers, validate_layers};
pub use state_space::{HeadNumbers, StateSpace};
pub use transformer_block::{BlockConfig, TransformerBlock};

stacked::stack_layers! {
    /// `torch.nn.Linear` over the features.
    Linear(dense::LinearConfig),
    /// `torch.nn.ReLU`: max(x, 0).
    Relu(activate::ReluConfig),
    /// `torch.nn.GELU`: x·Φ(x).
    Gelu(activate::GeluConfig),
    /// `torch.nn.GELU` in its tanh form.
    GeluTanh(activate::GeluTanhConfig),
    /// `torch.nn.Sigmoid`: 1 / (1 + exp(−x)).
    Sigmoid(activate::SigmoidConfig),
    /// `torch.nn.SiLU`: x / (1 + exp(−x)).
    Silu(activate::SiluConfig),
    /// `torch.nn.Tanh`: tanh x.
    Tanh(activate::TanhConfig),
    /// `torch.nn.Dropout`.
    Dropout(activate::DropoutConfig),
    /// `torch.nn.LayerNorm` over the features.
    Norm(dense::NormConfig),
    /// RMS normalisation over the features.
    RmsNorm(dense::RmsNormConfig),
    /// `torch.nn.Flatten`: (length, features) → (length · features).
    Flatten(flatten::FlattenConfig),
    /// Token and position embeddings (`torch.nn.Embedding`): integers (length) → (length, features).
    Embedding(embedding::EmbeddingConfig),
    /// Sinusoidal position encoding, added to the input.
    Positions(add_positions::PositionsConfig),
    /// Learned position vectors, added to the input.
    LearnedPositions(learned_positions::LearnedPositionsConfig),
    /// `torch.nn.Conv1d` over the positions, causal or not.
    #[serde(rename = "conv1d")]
    Conv1d(conv1d::Conv1dConfig),
    /// Residual connection: x + layers(x), with the weights under `i.j.…`.
    Residual(residual::ResidualConfig<LayerConfig>),
    /// Self-attention with its residual: x + `torch.nn.MultiheadAttention`(x).
    SelfAttention(self_attention::SelfAttentionConfig),
    /// `torch.nn.TransformerEncoderLayer`.
    TransformerBlock(transformer_block::TransformerBlockConfig),
    /// One layer of `torch.nn.LSTM`, in one direction or both.
    Lstm(batch_first::LstmConfig),
    /// One layer of `torch.nn.GRU`, in one direction or both.
    Gru(batch_first::GruConfig),
    /// Mamba-2, a selective state space (`mamba_ssm.Mamba2`), without norm and residual around it.
    Mamba2(mamba2::Mamba2Config),
    /// Mean over the positions: (length, features) → (features).
    MeanPool(pooling::MeanPoolConfig),
    /// Mean over the positions by learned weights: (length, features) → (features).
    AttentionPool(pooling::AttentionPoolConfig),
    /// Last position: (length, features) → (features).
    Last(pooling::LastConfig),
}
