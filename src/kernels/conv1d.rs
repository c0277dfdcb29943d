//! Convolution over time: the surroundings of positions, for a product with weights over all channels, or each channel by itself. See
//! `shaders/conv1d/`.

use std::ops::Range;

use super::matmul::Activation;
use super::{Carry, adding, column_group, part, parts};
use crate::error::Result;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// Sizes of a convolution over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Number of sequences.
    pub batch: usize,
    /// Number of positions.
    pub length: usize,
    /// Number of channels C.
    pub channels: usize,
    /// Number of positions K that a result depends on.
    pub kernel: usize,
    /// Distance between two of them.
    pub dilation: usize,
    /// Distance of the first of them before the result's own position.
    pub before: usize,
}

impl Sizes {
    fn dispatch(&self, kernel: &'static str, label: &str) -> Dispatch {
        Dispatch::new(kernel, label)
            .constant("K", self.kernel as u32)
            .size("batch", self.batch)
            .size("length", self.length)
            .size("channels", self.channels)
            .size("dilation", self.dilation)
            .size("before", self.before)
    }

    fn positions(&self) -> usize {
        self.batch * self.length * self.channels
    }
}

/// y = the K positions around each position.
#[derive(Debug, Clone, Copy)]
pub struct Unfold {
    /// (at least first + batch, length, C).
    pub x: Tensor,
    /// (at least batch, length, C · K).
    pub y: Tensor,
    /// Sizes of the convolution.
    pub sizes: Sizes,
    /// The first of the sequences that are taken.
    pub first: usize,
}

impl Unfold {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a tensor is too short.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Unfold { x, y, sizes, first } = self;
        let n = sizes.positions() * sizes.kernel;
        let x_at = first * sizes.length * sizes.channels;
        let dispatch = sizes.dispatch("conv1d/unfold", label).size("x_at", x_at);
        let dispatch = part(plan, dispatch, ("x", x), x_at..x_at + sizes.positions())?;
        plan.record(part(plan, dispatch, ("y", y), 0..n)?, Grid::Threads(n))
    }
}

/// dx from dy.
#[derive(Debug, Clone, Copy)]
pub struct BackwardUnfold {
    /// (at least batch, length, C · K).
    pub dy: Tensor,
    /// (at least first + batch, length, C).
    pub dx: Tensor,
    /// Sizes of the convolution.
    pub sizes: Sizes,
    /// The first of the sequences whose gradient is made.
    pub first: usize,
}

impl BackwardUnfold {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a tensor is too short.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let BackwardUnfold { dy, dx, sizes, first } = self;
        let n = sizes.positions() * sizes.kernel;
        let dx_at = first * sizes.length * sizes.channels;
        let dispatch = sizes.dispatch("conv1d/backward_unfold", label).size("dx_at", dx_at).flops(n);
        let dispatch = part(plan, dispatch, ("dy", dy), 0..n)?;
        plan.record(part(plan, dispatch, ("dx", dx), dx_at..dx_at + sizes.positions())?, Grid::Threads(sizes.positions()))
    }
}

/// Sizes of a convolution of each channel by itself.
#[derive(Debug, Clone, Copy)]
pub struct Channels {
    /// Number of sequences.
    pub batch: usize,
    /// Number of positions.
    pub length: usize,
    /// Number of channels.
    pub channels: usize,
    /// Numbers of a position of the input, of which the channels are a part.
    pub width: usize,
    /// First of them.
    pub first: usize,
    /// K: positions that a result depends on, itself and those before.
    pub kernel: usize,
    /// Activation of the result.
    pub activation: Activation,
}

/// Input and weights of a convolution of each channel by itself.
#[derive(Debug, Clone, Copy)]
pub struct Operands {
    /// (batch, length, width).
    pub x: Tensor,
    /// (channels, 1, K).
    pub w: Tensor,
    /// (channels).
    pub bias: Tensor,
    /// Sizes of the convolution.
    pub sizes: Channels,
}

impl Operands {
    /// A launch over these rows, (b, t); `limit` is that of what is carried.
    fn dispatch(&self, plan: &Plan, kernel: &'static str, label: &str, rows: Range<usize>, limit: usize) -> Result<Dispatch> {
        let Operands { x, w, bias, sizes } = *self;
        plan.expect(kernel, x, sizes.batch * sizes.length * sizes.width)?;
        plan.expect(kernel, w, sizes.channels * sizes.kernel)?;
        plan.expect(kernel, bias, sizes.channels)?;
        Ok(Dispatch::new(kernel, label)
            .constant("K", sizes.kernel as u32)
            .constant("ACTIVATION", sizes.activation as u32)
            .bind("x", x)
            .bind("w", w)
            .bind("bias", bias)
            .size("batch", sizes.batch)
            .size("length", sizes.length)
            .size("channels", sizes.channels)
            .size("width", sizes.width)
            .size("first", sizes.first)
            .size("start", rows.start)
            .size("end", rows.end)
            .size("limit", limit)
            .moves("x", rows.len() * sizes.channels)
            .flops(2 * rows.len() * sizes.channels * sizes.kernel))
    }

    /// Number of results.
    fn results(&self) -> usize {
        self.sizes.batch * self.sizes.length * self.sizes.channels
    }
}

/// y = f(causal convolution of each channel).
#[derive(Debug, Clone, Copy)]
pub struct Depthwise {
    /// Input and weights.
    pub of: Operands,
    /// (batch, length, channels).
    pub y: Tensor,
    /// Last K − 1 inputs of each channel (half, batch, K − 1, channels), where sequences are fed in parts.
    pub carry: Option<Carry>,
}

impl Depthwise {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Depthwise { of, y, carry } = self;
        let name = "conv1d/depthwise";
        plan.expect(name, y, of.results())?;
        let Channels { batch, length, channels, kernel, .. } = of.sizes;
        let dispatch = of.dispatch(plan, name, label, 0..batch * length, Carry::limit(carry))?.bind("y", y);
        let dispatch = Carry::bound(carry, plan, dispatch, "window", [batch, (kernel - 1) * channels])?;
        plan.record(dispatch, Grid::Threads(of.results()))
    }
}

/// dx from dy.
#[derive(Debug, Clone, Copy)]
pub struct BackwardDepthwiseInput {
    /// Input and weights.
    pub of: Operands,
    /// (batch, length, channels).
    pub dy: Tensor,
    /// (batch, length, width), of which the channels are written.
    pub dx: Tensor,
}

impl BackwardDepthwiseInput {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let BackwardDepthwiseInput { of, dy, dx } = self;
        let name = "conv1d/backward_depthwise_input";
        plan.expect(name, dy, of.results())?;
        plan.expect(name, dx, plan.len(of.x))?;
        let dispatch = of.dispatch(plan, name, label, 0..of.sizes.batch * of.sizes.length, 0)?;
        plan.record(dispatch.bind("dy", dy).bind("dx", dx).moves("dx", of.results()), Grid::Threads(of.results()))
    }
}

/// dw and db from dy.
#[derive(Debug, Clone, Copy)]
pub struct BackwardDepthwiseWeights {
    /// Input and weights.
    pub of: Operands,
    /// (batch, length, channels).
    pub dy: Tensor,
    /// (channels, 1, K), `+=`.
    pub dw: Tensor,
    /// (channels), `+=`.
    pub db: Tensor,
}

impl BackwardDepthwiseWeights {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let BackwardDepthwiseWeights { of, dy, dw, db } = self;
        let name = "conv1d/backward_depthwise_weights";
        for (tensor, len) in [(dy, of.results()), (dw, plan.len(of.w)), (db, plan.len(of.bias))] {
            plan.expect(name, tensor, len)?;
        }
        let (group, columns) = column_group(&plan.target);
        for part in parts(&plan.target, of.sizes.batch * of.sizes.length, of.sizes.kernel) {
            let dispatch = of.dispatch(plan, name, label, part, 0)?.constant("WG", group).constant("COLS", columns);
            let dispatch = adding(plan, dispatch.bind("dy", dy).bind("dw", dw).bind("db", db), &[dw, db])?;
            plan.record(dispatch, Grid::Groups(of.sizes.channels.div_ceil(columns as usize)))?;
        }
        Ok(())
    }
}
