//! Surroundings of positions: what makes a convolution over time a matrix product. See `shaders/unfold/`.

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
pub struct Forward {
    /// (batch, length, C).
    pub x: Tensor,
    /// (batch, length, C · K).
    pub y: Tensor,
    /// Sizes of the convolution.
    pub sizes: Sizes,
}

impl Forward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Forward { x, y, sizes } = self;
        let n = sizes.positions() * sizes.kernel;
        plan.expect("unfold/forward", x, sizes.positions())?;
        plan.expect("unfold/forward", y, n)?;
        plan.record(sizes.dispatch("unfold/forward", label).bind("x", x).bind("y", y), Grid::Threads(n))
    }
}

/// dx from dy.
#[derive(Debug, Clone, Copy)]
pub struct Backward {
    /// (batch, length, C · K).
    pub dy: Tensor,
    /// (batch, length, C).
    pub dx: Tensor,
    /// Sizes of the convolution.
    pub sizes: Sizes,
}

impl Backward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Backward { dy, dx, sizes } = self;
        let n = sizes.positions() * sizes.kernel;
        plan.expect("unfold/backward", dy, n)?;
        plan.expect("unfold/backward", dx, sizes.positions())?;
        let dispatch = sizes.dispatch("unfold/backward", label).bind("dy", dy).bind("dx", dx);
        plan.record(dispatch.flops(n), Grid::Threads(sizes.positions()))
    }
}
