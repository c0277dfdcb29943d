//! Sums of per-row results into a ring of records that the host reads now and then. See `shaders/metrics/`.

use super::state;
use crate::error::{Error, Result};
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// Name of the ring of records in a plan of a training step.
pub const RECORDS: &str = "records";

/// Words of one record. This and the places of its words are twins of the consts in `shaders/common/record.wgsl`; a test compares them.
pub const RECORD: usize = 16;

/// Number that means are taken over.
pub const COUNT: usize = 0;

/// Norm of the whole gradient, before it is clipped.
pub const NORM: usize = 1;

/// 1 where the update was skipped, else 0.
pub const SKIPPED: usize = 2;

/// Factor of the gradients of a run in 16 bits.
pub const SCALE: usize = 3;

/// First sum of a column, that of the loss.
pub const SUMS: usize = 4;

/// Updates that the moments of the optimiser have had up to a step; those that were skipped do not count.
pub const UPDATES: usize = 15;

/// Record that the device writes of a step.
#[derive(Debug, Clone, Copy)]
pub struct StepRecord<'a>(&'a [f32]);

impl<'a> StepRecord<'a> {
    /// Record number `slot` of a ring.
    pub fn of(ring: &'a [f32], slot: usize) -> Self {
        StepRecord(&ring[slot * RECORD..][..RECORD])
    }

    /// Number that means are taken over.
    pub fn count(&self) -> f64 {
        f64::from(self.0[COUNT])
    }

    /// Norm of the whole gradient.
    pub fn gradient_norm(&self) -> f64 {
        f64::from(self.0[NORM])
    }

    /// True if the update was skipped, as loss or gradient was not finite.
    pub fn skipped(&self) -> bool {
        self.0[SKIPPED] != 0.0
    }

    /// Factor of the gradients of a run in 16 bits.
    pub fn loss_scale(&self) -> f32 {
        self.0[SCALE]
    }

    /// Mean of a column of the loss's results; column 0 is the loss.
    pub fn mean(&self, column: usize) -> f64 {
        f64::from(self.0[SUMS + column]) / self.count()
    }

    /// All its words.
    pub fn words(&self) -> &'a [f32] {
        self.0
    }
}

/// records[slot] = Σ over the rows.
#[derive(Debug, Clone, Copy)]
pub struct Accumulate {
    /// (rows, cols), at most 11 columns.
    pub x: Tensor,
    /// (slots, `RECORD`).
    pub records: Tensor,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
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
        if cols > UPDATES - SUMS {
            return Err(Error::Internal(format!("metrics/accumulate: {cols} columns, {} fit a record", UPDATES - SUMS)));
        }
        // A processor gains nothing from sharing a sum, until it is so long that its loops would be cut off.
        let group = if plan.target.software && rows < 8192 { plan.target.vector() } else { 64 };
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
