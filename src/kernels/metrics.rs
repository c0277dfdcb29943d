//! Sums of per-row results into a ring of records that the host reads now and then. See `shaders/metrics/`.

use super::state;
use crate::error::Result;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// Words of one record: 0–7 sums of columns, 8 rows, 9 gradient norm, 10 whether the update was skipped.
pub const RECORD: usize = 16;

/// records[slot] = Σ over the rows.
#[derive(Debug, Clone, Copy)]
pub struct Accumulate {
    /// (rows, cols), at most 8 columns.
    pub x: Tensor,
    /// (slots, 16).
    pub records: Tensor,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
}

impl Accumulate {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Accumulate { x, records, rows, cols } = self;
        plan.expect("metrics/accumulate", x, rows * cols)?;
        let group = if plan.target.software { 8 } else { 64 };
        let dispatch = Dispatch::new("metrics/accumulate", label)
            .constant("WG", group)
            .constant("LANES", group)
            .constant("COLS", cols as u32)
            .bind("state", state(plan)?)
            .bind("x", x)
            .bind("records", records)
            .size("rows", rows)
            .flops(rows * cols);
        plan.record(dispatch, Grid::Groups(1))
    }
}
