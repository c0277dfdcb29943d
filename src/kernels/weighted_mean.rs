//! Mean over the positions of a sequence by weights that are a softmax of scores. See `shaders/weighted_mean/`.

use super::row_group;
use crate::error::Result;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// Sizes of the sequences.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Number of sequences.
    pub batch: usize,
    /// Number of positions.
    pub length: usize,
    /// Number of heads, each with weights of its own.
    pub heads: usize,
    /// Number of features, a multiple of the heads.
    pub cols: usize,
}

impl Sizes {
    fn scores(&self) -> usize {
        self.batch * self.length * self.heads
    }

    fn positions(&self) -> usize {
        self.batch * self.length * self.cols
    }

    fn sizes(&self, dispatch: Dispatch) -> Dispatch {
        dispatch.size("batch", self.batch).size("length", self.length).size("heads", self.heads)
    }
}

/// a = softmax of s over the positions.
#[derive(Debug, Clone, Copy)]
pub struct Weights {
    /// (batch, length, heads).
    pub s: Tensor,
    /// (batch, length, heads).
    pub a: Tensor,
    /// (batch): number of positions of each sequence that count, from 1 to all; without it all count.
    pub lengths: Option<Tensor>,
    /// Sizes of the sequences.
    pub sizes: Sizes,
}

impl Weights {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Weights { s, a, lengths, sizes } = self;
        let kernel = "weighted_mean/weights";
        lengths.map_or(Ok(()), |lengths| plan.expect(kernel, lengths, sizes.batch))?;
        [s, a].into_iter().try_for_each(|tensor| plan.expect(kernel, tensor, sizes.scores()))?;
        let (dispatch, grid) = row_group(plan, kernel, label, sizes.batch * sizes.heads, sizes.length);
        let dispatch = sizes.sizes(dispatch.bind("s", s).bind("a", a).bind_if("LENGTHS", "lengths", lengths));
        plan.record(dispatch.flops(8 * sizes.scores()), grid)
    }
}

/// y = Σ_t a_t x_t.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// (batch, length, heads).
    pub a: Tensor,
    /// (batch, length, cols).
    pub x: Tensor,
    /// (batch, cols).
    pub y: Tensor,
    /// Sizes of the sequences.
    pub sizes: Sizes,
}

impl Forward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Forward { a, x, y, sizes } = self;
        for (tensor, len) in [(a, sizes.scores()), (x, sizes.positions()), (y, sizes.batch * sizes.cols)] {
            plan.expect("weighted_mean/forward", tensor, len)?;
        }
        let dispatch = sizes.sizes(Dispatch::new("weighted_mean/forward", label)).size("cols", sizes.cols);
        let dispatch = dispatch.bind("a", a).bind("x", x).bind("y", y).flops(2 * sizes.positions());
        plan.record(dispatch, Grid::Threads(sizes.batch * sizes.cols))
    }
}

/// ds and dx from dy.
#[derive(Debug, Clone, Copy)]
pub struct Backward {
    /// (batch, length, heads), of `Weights`.
    pub a: Tensor,
    /// (batch, length, cols).
    pub x: Tensor,
    /// (batch, cols), of the forward pass.
    pub y: Tensor,
    /// (batch, cols).
    pub dy: Tensor,
    /// (batch, length, heads): gradient of the scores.
    pub ds: Tensor,
    /// (batch, length, cols).
    pub dx: Tensor,
    /// Sizes of the sequences.
    pub sizes: Sizes,
}

impl Backward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Backward { a, x, y, dy, ds, dx, sizes } = self;
        let kernel = "weighted_mean/backward";
        [a, ds].into_iter().try_for_each(|tensor| plan.expect(kernel, tensor, sizes.scores()))?;
        [x, dx].into_iter().try_for_each(|tensor| plan.expect(kernel, tensor, sizes.positions()))?;
        [y, dy].into_iter().try_for_each(|tensor| plan.expect(kernel, tensor, sizes.batch * sizes.cols))?;
        let (dispatch, grid) = row_group(plan, kernel, label, sizes.scores(), sizes.cols / sizes.heads);
        let dispatch = sizes.sizes(dispatch).size("cols", sizes.cols);
        let dispatch = dispatch.bind("a", a).bind("x", x).bind("y", y).bind("dy", dy).bind("ds", ds).bind("dx", dx);
        plan.record(dispatch.flops(4 * sizes.positions()), grid)
    }
}
