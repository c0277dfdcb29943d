//! Kernels: one file per family. An argument struct per pass checks shapes and records the dispatch; the shader of the same name holds
//! the formula. Shapes are in the order of memory, last dimension contiguous.

/// Every kernel family, by name: the one list of them. A family has a folder of that name in `shaders/`, a file in `src/kernels/`, a
/// reference in
/// `kernels-tests/reference/` and cases in `kernels-tests/cases/`; modules, tests, references and benches follow from here.
#[doc(hidden)]
#[macro_export]
macro_rules! kernel_families {
    ($each:ident) => {
        $each! {
            activation argmax attention attention_pool concat conv1d cross_entropy dropout
            embedding fourier gated_norm gather grad_norm gru infonce joint_loss layer_norm loss_scale
            lstm matmul max_pool mean metrics mmd moments normalize optimizer patches
            positions regression rope slice ssd swiglu tokens transpose upsample vae
            vector_loss weighted_mean
        }
    };
}

macro_rules! modules {
    ($($name:ident)*) => {
        $(pub mod $name;)*
    };
}

kernel_families!(modules);

use std::ops::Range;

use crate::error::{Error, Result};
use crate::gpu::{Role, Target};
pub use crate::plan::Halves;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// Families whose kernels may store what they read and write in 16 bits: those of layers. Losses, metrics and the optimiser keep to 32, and
/// so do statistics of rows.
pub const HALVES: Halves = Halves {
    families: &[
        "activation",
        "attention",
        "attention_pool",
        "concat",
        "conv1d",
        "dropout",
        "embedding",
        "fourier",
        "gated_norm",
        "gather",
        "gru",
        "layer_norm",
        "lstm",
        "matmul",
        "max_pool",
        "mean",
        "patches",
        "positions",
        "rope",
        "slice",
        "ssd",
        "swiglu",
        "tokens",
        "upsample",
        "weighted_mean",
    ],
    exact: &["stats", "lse", "decay", "dots", "sums", "terms", "carried", "border"],
};

/// Numbers that change from step to step. Twin of `State` in `shaders/common/state.wgsl`; a test compares the layouts.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct State {
    /// Number of the micro-step since the run began: the counter of the random numbers.
    pub tick: u32,
    /// Key of the random numbers.
    pub seed: u32,
    /// Record of the metric ring that this step fills.
    pub slot: u32,
    /// Micro-step within the step.
    pub micro_step: u32,
    /// Position of the first token in its sequence.
    pub position: u32,
    /// Rows of the batch that count in the metrics.
    pub rows: u32,
    /// Number that means are taken over: these rows, or fewer where some of them are masked.
    pub count: u32,
    /// Learning rate of this step.
    pub learning_rate: f32,
    /// Gradient clipping by global norm, 0 for none.
    pub max_norm: f32,
    /// Factor of the gradient of this micro-step: its share of what the means of the step are taken over.
    pub scale: f32,
    /// 1 where the terms of the loss that are left out of some batches are in this one, else 0.
    pub drawn: f32,
}

/// The key of the random numbers of a run. All 64 bits of a seed count, and a seed below 2³² is its own key.
pub fn key(seed: u64) -> u32 {
    // A step of SplitMix64 (Steele et al. 2014) less the one of 0 mixes the upper half.
    let mix = |x: u64| {
        let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ x >> 31) as u32
    };
    seed as u32 ^ mix(seed >> 32)
}

/// Name of the tensor that holds `State`.
pub const STATE: &str = "state";

/// The state tensor of a plan, declared at first use.
///
/// # Errors
/// As `Plan::persistent`.
pub fn state(plan: &mut Plan) -> Result<Tensor> {
    match plan.find(STATE) {
        Some(tensor) => Ok(tensor),
        None => plan.persistent(Role::Dataset, STATE, &[size_of::<State>() / 4]),
    }
}

/// What earlier positions of sequences have left for those to come, in two halves: a feed reads the one and writes the other, by the parity
/// of
/// `State::tick`, which counts feeds. WGSL twin: common/carry.
#[derive(Debug, Clone, Copy)]
pub struct Carry {
    /// Both halves, shape (2, batch, …).
    pub kept: Tensor,
    /// Row of the batch that holds each position of a sequence, shape (batch, limit); position t stands at t mod limit.
    pub sources: Tensor,
    /// Number of positions in `sources`.
    pub limit: usize,
}

impl Carry {
    fn limit(of: Option<Carry>) -> usize {
        of.map_or(0, |carry| carry.limit)
    }

    /// Binds what is carried, so many numbers for each sequence, to `name` in a launch whose parameter `limit` is `Carry::limit`; nothing
    /// if there is none.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    fn bound(of: Option<Carry>, plan: &mut Plan, dispatch: Dispatch, name: &'static str, [batch, len]: [usize; 2]) -> Result<Dispatch> {
        let dispatch = dispatch.bind_if("CARRY", name, of.map(|carry| carry.kept));
        let Some(Carry { kept, sources, limit }) = of else { return Ok(dispatch) };
        plan.expect(name, kept, 2 * batch * len)?;
        plan.expect(name, sources, batch * limit)?;
        Ok(dispatch.bind("state", state(plan)?).bind("sources", sources))
    }
}

/// Inverted dropout inside or outside another kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Probability of a zero, in [0, 1).
    pub rate: f64,
    /// Stream of random numbers, different for each use in a model.
    pub stream: u32,
}

/// Workgroup size and invocations per row for kernels that reduce rows of `cols` elements. A processor gains nothing from sharing a row,
/// until it is so long that its loops could be cut off.
fn row_lanes(target: &Target, cols: usize) -> (u32, u32) {
    if target.software {
        return if cols < 8192 { (target.vector(), 1) } else { (64, 64) };
    }
    (64, (cols.div_ceil(4).next_power_of_two() as u32).clamp(1, 64))
}

/// Parts of a sum over `terms`, each short enough that no invocation's loops are cut off, where a term takes so many iterations. The parts
/// are dispatches that add to the same result, one after another, in a fixed order.
fn parts(target: &Target, terms: usize, iterations: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let most = usize::try_from(target.loop_iterations / 2 / iterations as u64).unwrap_or(usize::MAX);
    // A multiple of 16, so that a part of an aligned tensor is aligned.
    let part = (most / 16 * 16).clamp(16, terms.max(16));
    (0..terms).step_by(part).map(move |first| first..(first + part).min(terms))
}

/// Features that are loaded together. A processor loads four for little more than one; a card has fewer waves then.
fn features(target: &Target, cols: usize) -> usize {
    if target.software && cols.is_multiple_of(4) { 4 } else { 1 }
}

/// Workgroup size and columns of a workgroup, for kernels that sum over the rows of each column.
fn column_group(target: &Target) -> (u32, u32) {
    if target.software { (target.vector(), target.vector()) } else { (256, 16) }
}

/// A dispatch that adds to these tensors, for a shader that uses `common/sum`.
///
/// # Errors
/// `Internal` when some of them were added to before and others were not.
pub fn adding(plan: &mut Plan, dispatch: Dispatch, sums: &[Tensor]) -> Result<Dispatch> {
    let begins = plan.begins_sum(sums)?;
    let dispatch = dispatch.constant("OVERWRITE", if begins { 2 - u32::from(plan.options.micro_steps) } else { 0 });
    Ok(if begins && plan.options.micro_steps { dispatch.bind("state", state(plan)?) } else { dispatch })
}

/// Binds the part of a tensor that a launch reads or writes.
///
/// # Errors
/// `Internal` when the tensor ends before the part does.
fn part(plan: &Plan, dispatch: Dispatch, (name, tensor): (&'static str, Tensor), elements: Range<usize>) -> Result<Dispatch> {
    if elements.end > plan.len(tensor) {
        let (kernel, shape) = (dispatch.kernel(), plan.shape(tensor));
        return Err(Error::Internal(format!("{kernel}: {name} has shape {shape:?}, {} elements expected at least", elements.end)));
    }
    Ok(dispatch.bind(name, tensor).moves_part(name, elements))
}

/// SIMDs of the RX 6600.
const SIMDS: usize = 56;

/// Sizes of images, channels last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Images {
    /// Number of images.
    pub batch: usize,
    /// Rows of pixels.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// Numbers of a pixel.
    pub channels: usize,
}

impl Images {
    /// Numbers of all images.
    pub fn len(&self) -> usize {
        self.batch * self.height * self.width * self.channels
    }

    /// True if there are none; never so in a recorded plan.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn sizes(&self, dispatch: Dispatch) -> Dispatch {
        let Images { batch, height, width, channels } = *self;
        let dispatch = dispatch.constant("HEIGHT", height as u32).constant("WIDTH", width as u32).constant("CHANNELS", channels as u32);
        dispatch.size("batch", batch)
    }
}

/// A dispatch of a kernel that reduces rows of `width` elements, with its workgroups.
fn row_group(plan: &Plan, kernel: &'static str, label: &str, rows: usize, width: usize) -> (Dispatch, Grid) {
    let (group, lanes) = row_lanes(&plan.target, width);
    let dispatch = Dispatch::new(kernel, label).constant("WG", group).constant("LANES", lanes);
    let grid = |group: u32| Grid::Groups(rows.div_ceil((group / lanes) as usize));
    // Rows stand alone, so workgroups of any size do that hold whole rows.
    let sizes = [64, 128, 256].into_iter().filter(|size| !plan.target.software && size % lanes == 0);
    (sizes.fold(dispatch, |dispatch, size| dispatch.or(&[("WG", size)], grid(size), 0)), grid(group))
}

/// `row_group` with the sizes `rows` and `cols`.
fn row_dispatch(plan: &Plan, kernel: &'static str, label: &str, rows: usize, cols: usize) -> (Dispatch, Grid) {
    let (dispatch, grid) = row_group(plan, kernel, label, rows, cols);
    (dispatch.size("rows", rows).size("cols", cols), grid)
}
