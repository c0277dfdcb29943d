//! The device: adapter choice, limits, shaders, pipelines, buffers with their ledger, submission, and device loss as an error.

mod device;
mod drivers;
mod ledger;
mod shader;

pub use device::{AdapterSummary, Gpu, Pipeline, adapters};
pub use ledger::{Ledger, Role};
pub(crate) use shader::Form;
pub use shader::{Access, Binding, BindingKind, ParamType, Shader, replace_source, shader_names};

/// What a plan has to know of the device that it will run on: the kernel variants follow from it, and the images that they read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// A processor that runs shaders (lavapipe, WARP): barriers and cooperation between invocations cost more than they save.
    pub software: bool,
    /// Invocations in a subgroup when it is the same for every pipeline, else 0.
    pub subgroup: u32,
    /// Largest number of workgroups along one dimension of a dispatch.
    pub max_groups: u32,
    /// Largest storage binding in bytes.
    pub max_binding: u64,
    /// Read-only tensors up to this many bytes are bound as uniform buffers; 0 for none. Some software drivers load from those ten
    /// times faster than from storage buffers, which they read lane by lane.
    pub uniform_bytes: u64,
    /// Larger read-only tensors are copied to images of up to this many rows before the dispatch that reads them; 0 for none. Where
    /// uniform buffers are faster, texels are too, copies included.
    pub image_rows: u32,
}

/// Texels of one row of an image, times their components: 16 KiB.
pub(crate) const IMAGE_ROW: usize = 4096;

impl Default for Target {
    /// The card that the engine is tuned for: AMD RX 6600 (RDNA 2).
    fn default() -> Self {
        Target { software: false, subgroup: 0, max_groups: 65_535, max_binding: 2_147_483_644, uniform_bytes: 0, image_rows: 0 }
    }
}
