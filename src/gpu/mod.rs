//! The device: adapter choice, limits, shaders, pipelines, buffers with their ledger, submission, and device loss as an error.

mod device;
mod drivers;
mod ledger;
mod loops;
mod shader;
mod target;

pub use device::{AdapterSummary, Gpu, Pipeline, adapters};
pub use ledger::{Ledger, Role};
pub(crate) use shader::Form;
pub use shader::{Access, Binding, BindingKind, ParamType, Shader, add_source, replace_source, shader_names};
pub(crate) use target::IMAGE_ROW;
pub use target::Target;
