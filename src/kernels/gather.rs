//! Rows of a data set on the device, by index. See `shaders/gather/`.

use crate::error::Result;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// y = x[index], sample after sample or time step after time step.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// (N, length, cols): 32-bit floats, or with `half` 16-bit floats in pairs.
    pub x: Tensor,
    /// (batch).
    pub index: Tensor,
    /// (batch, length, cols), or (length, batch, cols) with `time_major`.
    pub y: Tensor,
    /// Number of samples N.
    pub samples: usize,
    /// Positions of a sample.
    pub length: usize,
    /// Features of a position.
    pub cols: usize,
    /// True if x holds 16-bit floats.
    pub half: bool,
    /// True if y goes time step after time step.
    pub time_major: bool,
}

impl Forward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Forward { x, index, y, samples, length, cols, half, time_major } = self;
        let batch = plan.len(index);
        let words = samples * length * cols;
        plan.expect("gather/forward", x, if half { words.div_ceil(2) } else { words })?;
        plan.expect("gather/forward", y, batch * length * cols)?;
        let width = if !half && cols.is_multiple_of(4) { 4 } else { 1 };
        let dispatch = match width {
            4 => Dispatch::new("gather/forward_vec4", label),
            _ => Dispatch::new("gather/forward", label).constant("HALF", half.into()),
        };
        let dispatch = dispatch
            .constant("TIME_MAJOR", time_major.into())
            .bind("x", x)
            .bind("index", index)
            .bind("y", y)
            .moves("x", if half { (batch * length * cols).div_ceil(2) } else { batch * length * cols })
            .size("batch", batch)
            .size("length", length)
            .size("cols", cols);
        plan.record(dispatch, Grid::Threads(batch * length * cols / width))
    }
}
