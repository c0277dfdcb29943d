//! The device: adapter choice, limits, shaders, pipelines, buffers with their ledger, submission, and device loss as an error.

mod adapter;
mod card;
mod device;
mod fold;
mod forms;
mod join;
mod ledger;
mod loops;
mod shader;
mod target;
mod tuning;
mod usage;
mod video_memory;

pub use adapter::{AdapterSummary, TimeLimit, environment};
pub use card::{CARD, CARDS, CardModel, LAUNCH, VIDEO_MEMORY};
pub use device::{BoundsChecks, Devices, Gpu, Pipeline, adapters};
pub(crate) use forms::Form;
pub use ledger::{Ledger, Role};
#[cfg(feature = "isa")]
pub use loops::Loop;
pub use shader::{Access, Binding, BindingKind, ParamType, Shader, add_source, files_used, replace_source, shader_names};
pub(crate) use target::IMAGE_ROW;
pub use target::{Target, Texel};
pub use tuning::Tuning;
pub use usage::Usage;
pub(crate) use usage::launched;
