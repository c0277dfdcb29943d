//! Adam, AdamW and SGD with momentum over the flat weights, with clipping by the global norm. See `shaders/optimizer/`.

use super::metrics::RECORD;
use super::state;
use crate::error::{Error, Result};
use crate::gpu::Form;
use crate::plan::{Dispatch, FLAT_ALIGN, Grid, Plan, Tensor};

/// Rule by which weights follow the gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Moments, decay added to the gradient.
    Adam,
    /// Moments, decay applied to the weight.
    AdamW,
    /// m ← β₁ m + g, w ← w − lr · m, decay added to the gradient; the second moment stays as it is.
    Sgd,
}

/// One optimiser step; the learning rate and the clipping norm come from the state, the number of updates from the record before.
#[derive(Debug, Clone, Copy)]
pub struct Update {
    /// (at least G) partial sums of squares of the gradient.
    pub partials: Tensor,
    /// Number of partial sums G.
    pub count: usize,
    /// (n) weights.
    pub w: Tensor,
    /// (n) gradient.
    pub dw: Tensor,
    /// (n) first moment.
    pub m: Tensor,
    /// (n) second moment.
    pub v: Tensor,
    /// (slots, `RECORD`), of at least two steps.
    pub records: Tensor,
    /// Decay β₁ of the mean gradient.
    pub beta1: f64,
    /// Decay β₂ of the mean squared gradient.
    pub beta2: f64,
    /// ε, added to the denominator.
    pub eps: f64,
    /// Weight decay.
    pub decay: f64,
    /// (n / 64): factor of the decay of each block of weights; without it all decay alike.
    pub decays: Option<Tensor>,
    /// Which of them.
    pub rule: Rule,
    /// Limit of each element of the gradient; 0 for none.
    pub clip_value: f64,
    /// The gradient is times too large what the record of the step says.
    pub scaled: bool,
}

impl Update {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs, or when there is one record.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let (n, slots) = (plan.len(self.w), plan.len(self.records) / RECORD);
        if slots < 2 {
            return Err(Error::Internal("optimizer/update: no record of the step before".into()));
        }
        // β = 0 has no logarithm; of this one every power is 0.
        let log = |beta: f64| beta.ln().max(-1000.0);
        for tensor in [self.dw, self.m, self.v] {
            plan.expect("optimizer/update", tensor, n)?;
        }
        self.decays.map_or(Ok(()), |decays| plan.expect("optimizer/update", decays, n.div_ceil(FLAT_ALIGN)))?;
        if !n.is_multiple_of(4) {
            return Err(Error::Internal(format!("optimizer/update: {n} elements are no multiple of 4")));
        }
        // A software driver does for several vectors once what is the same for all.
        let (group, each) = if plan.target.software { (plan.target.vector(), 32) } else { (64, 1) };
        let before = self.rule != Rule::Sgd && plan.target.slow_loads && matches!(plan.target.form(n), Some(Form::Image { .. }));
        let dispatch = Dispatch::new("optimizer/update", label)
            .constant("WG", group)
            .constant("EACH", each as u32)
            .constant("RULE", self.rule as u32)
            .constant("SCALED", self.scaled.into())
            .constant("BY_VALUE", (self.clip_value > 0.0).into())
            .constant("EIGHT", (self.count == 8).into())
            .bind("state", state(plan)?)
            .bind("partials", self.partials)
            .bind("w", self.w)
            .bind("dw", self.dw)
            .bind("m", self.m)
            .bind("v", self.v)
            .bind("records", self.records)
            .bind_if("BY_BLOCK", "decays", self.decays)
            .bind_if("BEFORE", "w_before", before.then_some(self.w))
            .bind_if("BEFORE", "m_before", before.then_some(self.m))
            .bind_if("BEFORE", "v_before", before.then_some(self.v))
            .size("n", n)
            .size("partials", self.count)
            .scalar("beta1", self.beta1)
            .scalar("beta2", self.beta2)
            .scalar("eps", self.eps)
            .scalar("decay", self.decay)
            .scalar("keep1", 1.0 - self.beta1)
            .scalar("keep2", 1.0 - self.beta2)
            .scalar("limit", self.clip_value)
            .size("slots", slots)
            .scalar("log1", log(self.beta1))
            .scalar("log2", log(self.beta2))
            .flops(16 * n);
        plan.record(dispatch, Grid::Threads((n / 4).div_ceil(each)))
    }
}
