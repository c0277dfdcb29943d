//! Loss scaling for gradients that are stored in 16 bits. See `shaders/loss_scale/`.

use super::metrics::RECORD;
use super::state;
use crate::error::{Error, Result};
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// The factor before the first step.
pub const INITIAL: f32 = 4096.0;

/// It is not halved below this.
pub const SMALLEST: f32 = 1.0;

/// x ← S x, with the S of this step.
#[derive(Debug, Clone, Copy)]
pub struct Apply {
    /// Any shape, in place.
    pub x: Tensor,
    /// (slots, `RECORD`), of at least two steps.
    pub records: Tensor,
}

impl Apply {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when there is one record.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Apply { x, records } = self;
        let (n, slots) = (plan.len(x), plan.len(records) / RECORD);
        if slots < 2 {
            return Err(Error::Internal("loss_scale/apply: no record of the step before".into()));
        }
        let dispatch = Dispatch::new("loss_scale/apply", label)
            .bind("state", state(plan)?)
            .bind("x", x)
            .bind("records", records)
            .size("n", n)
            .size("slots", slots)
            .flops(n);
        plan.record(dispatch, Grid::Threads(n))
    }
}
