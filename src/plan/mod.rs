//! The plan: a model laid out on the host as a list of kernel dispatches over named tensors of fixed shape.
//!
//! A plan has a type for each part of its life: a [`Plan`] is recorded, [`Passes`] make a [`FixedPlan`] of it, [`Memory`] gives its tensors
//! their places ([`Lowered`]), and a [`Program`] replays it on a device. Recording needs no device. The memory report is read off the plan,
//! the profiler times it entry by entry, the tests walk it, and a training step is one replay of it.

mod cost;
mod dispatch;
mod exchange;
mod fixed;
mod half;
mod limits;
mod lowering;
mod memory;
mod pairs;
mod passes;
mod program;
mod recompute;
mod recording;
mod slices;
mod tensor;

pub use cost::{Cost, LaunchCost, Traffic};
pub use dispatch::{Dispatch, Entry, Extent, Grid, Param, Shared};
pub use exchange::{Exchange, Part};
pub use fixed::{FixedPlan, PlanOptions};
#[cfg(feature = "isa")]
pub(crate) use lowering::converted;
pub use lowering::{ImageRead, ImageSpec, Launch, Lowered, Place};
pub use memory::{BufferSpec, LayoutOptions, Memory, MemoryReport, TensorLine};
pub use passes::{Halves, Passes};
pub use program::{Arena, Program, Timing};
pub use recompute::Recompute;
pub use recording::Plan;
pub use tensor::{Adapter, Buffer, FLAT_ALIGN, Fill, Flat, Init, Parameter, Section, Storage, Tensor, TensorInfo, counted, flat_len};
