//! Layers: each appends its forward and its hand-derived backward pass to a plan. `forward` keeps the tensors that `backward` needs.
//!
//! Shapes are (…, features); attention and recurrence read batch and length off the axes before. Weights carry PyTorch's `state_dict` names and
//! initial distributions. Whether a backward pass follows is the plan's to know: without one there is no dropout and nothing is kept.

mod activate;
mod add_positions;
mod conv2d;
mod cross_attention;
mod decoder_block;
mod embedding;
mod feed_forward;
mod head;
mod in_stack;
mod layer;
mod layer_norm;
mod linear;
mod llama_block;
mod pooling;
mod recurrent;
mod residual;
mod self_attention;
mod sequential;
mod transformer_block;

pub use activate::{Activate, Drop};
pub use add_positions::AddPositions;
pub use conv2d::Conv2d;
pub use cross_attention::CrossAttention;
pub use decoder_block::DecoderBlock;
pub use embedding::{Embedding, FixedEmbedding};
pub use feed_forward::FeedForward;
pub use head::{Head, HeadKind};
pub use in_stack::{Attend, Block, Cell, Embed, Recur, Same};
pub(crate) use layer::kept;
pub use layer::{Layer, Mask, dropout};
pub use layer_norm::LayerNorm;
pub use linear::{Fused, Linear};
pub use llama_block::{LlamaBlock, LlamaBlockConfig};
pub(crate) use pooling::{Last, context_mean, sizes};
pub use pooling::{LastPosition, MeanPool};
pub use recurrent::{Gru, Lstm, Wanted};
pub use residual::Residual;
pub use self_attention::{Cache, SelfAttention};
pub use sequential::{Sequential, Step};
pub use transformer_block::{BlockConfig, TransformerBlock};
