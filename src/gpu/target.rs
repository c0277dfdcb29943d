//! What a plan has to know of a device.

use super::tuning::Tuning;

/// Properties of the device that a plan will run on: the kernel variants follow from it, and the images that they read.
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
    /// Loads from storage buffers are so slow that what a kernel overwrites is copied to images, too, to be read once.
    pub slow_loads: bool,
    /// Iterations that all loops of one invocation may take together. Mesa's software drivers end them after 65,535, without a word, and
    /// leave the rest of a sum out. Recording a dispatch that could pass this is an error.
    pub loop_iterations: u64,
    /// Bytes of workgroup memory that a kernel may declare. DirectX 12 and Metal have 32 KiB.
    pub workgroup_memory: u32,
    /// Invocations of a workgroup.
    pub workgroup_invocations: u32,
    /// Storage buffers that a kernel may bind.
    pub storage_buffers: u32,
    /// Uniform buffers that a kernel may bind. WebGPU promises 12.
    pub uniform_buffers: u32,
    /// Bytes of immediates.
    pub immediate_bytes: u32,
    /// Kernels may load and store 16-bit floats.
    pub half: bool,
    /// Floating-point operations up to which two kernels share a launch. Software adapters gain from fewer launches, but run the branch of
    /// the other kernel, too, with its lanes off.
    pub pair_flops: u64,
    /// Ways to launch kernels that were measured to be the fastest; others are chosen by the model of the RX 6600.
    pub tuned: Option<&'static Tuning>,
}

impl Target {
    /// Invocations that a processor computes at a time: 16 where its driver's vectors have 512 bits, else 8.
    pub(crate) fn vector(&self) -> u32 {
        if self.subgroup == 16 { 16 } else { 8 }
    }
}

/// Iterations after which Mesa's software drivers end the loops of an invocation (`LP_MAX_TGSI_LOOP_ITERATIONS`), less a margin of one for
/// each of the loops that a kernel has.
pub(crate) const SOFTWARE_LOOP_ITERATIONS: u64 = 65_535 - 64;

/// Floating-point operations of a pair of kernels of which lavapipe loses as much by running both branches as a launch costs there.
pub(crate) const SOFTWARE_PAIR_FLOPS: u64 = 16_000_000;

/// Texels of one row of an image, times their components: 16 KiB.
pub(crate) const IMAGE_ROW: usize = 4096;

/// Content of a texel of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Texel {
    /// Numbers: one, or four.
    pub components: u32,
    /// 16 bits.
    pub half: bool,
}

impl Texel {
    /// Every kind.
    pub(super) const ALL: [Texel; 4] = {
        const fn texel(components: u32, half: bool) -> Texel {
            Texel { components, half }
        }
        [texel(1, false), texel(4, false), texel(1, true), texel(4, true)]
    };

    /// Bytes of a row of an image.
    pub fn row_bytes(self) -> u32 {
        IMAGE_ROW as u32 * if self.half { 2 } else { 4 }
    }

    /// Bytes from one row to the next.
    pub fn pitch_bytes(self) -> u64 {
        u64::from(self.row_bytes()) + 64
    }

    /// Texels of a row of an image.
    pub fn row(self) -> u32 {
        IMAGE_ROW as u32 / self.components
    }

    /// Texels from one row to the next: a cache line more, or the rows of a matrix whose width is a power of two would all lie in the same
    /// few sets of a cache.
    pub fn pitch(self) -> u32 {
        self.pitch_bytes() as u32 / (self.row_bytes() / self.row())
    }
}

impl Default for Target {
    /// The card that the engine is tuned for: AMD RX 6600 (RDNA 2).
    fn default() -> Self {
        Target {
            software: false,
            subgroup: 0,
            max_groups: 65_535,
            max_binding: 2_147_483_644,
            uniform_bytes: 0,
            image_rows: 0,
            slow_loads: false,
            loop_iterations: u64::MAX,
            workgroup_memory: 32_768,
            workgroup_invocations: 256,
            storage_buffers: 16,
            uniform_buffers: 12,
            immediate_bytes: 64,
            half: true,
            pair_flops: u64::MAX,
            tuned: None,
        }
    }
}
