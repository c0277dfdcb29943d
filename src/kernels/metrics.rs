//! Sums of per-row results into a ring of records that the host reads now and then. See `shaders/metrics/`.

use super::state;
use crate::error::{Error, Result};
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// Words of one record: 0 rows, 1 gradient norm, 2 whether the update was skipped, from `SUMS` the sums of columns, the loss first.
pub const RECORD: usize = 16;

/// First sum of a record.
pub const SUMS: usize = 4;

/// records[slot] = Σ over the rows.
#[derive(Debug, Clone, Copy)]
pub struct Accumulate {
    /// (rows, cols), at most 12 columns.
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
        if cols > RECORD - SUMS {
            return Err(Error::Internal(format!("metrics/accumulate: {cols} columns, {} fit a record", RECORD - SUMS)));
        }
        // A processor gains nothing from sharing a sum, until it is so long that its loops would be cut off.
        let group = if plan.target.software && rows < 8192 { 8 } else { 64 };
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
