//! Moments of the predictions against those of the targets of the batch.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::term::{Context, Term};
use crate::error::Result;
use crate::kernels::moments;
use crate::kernels::vector_loss::Slot;

/// Match of the moments within the batch: mean_d (μ(r) − μ(t))² + mean_d (σ(r) − σ(t))².
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MomentTerm {
    /// Factor in the sum; 0 leaves the term out.
    #[schemars(range(min = 0))]
    pub weight: f64,
}

impl MomentTerm {
    pub(super) fn build(&self) -> Box<dyn Term> {
        Box::new(self.clone())
    }
}

impl Term for MomentTerm {
    fn name(&self) -> &'static str {
        "moment"
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn needs_two(&self) -> bool {
        true
    }

    fn record(&self, context: &mut Context<'_>, slot: Slot) -> Result<()> {
        let Context { x, t, y, dx, rows, width, cols, .. } = *context;
        let (plan, label, weight) = (&mut *context.plan, "loss.moment", self.weight);
        let (stats, theirs) = (plan.activation("loss.moment.x", &[2, width])?, plan.activation("loss.moment.t", &[2, width])?);
        moments::Forward { x, stats, rows, width }.record(plan, label)?;
        moments::Forward { x: t, stats: theirs, rows, width }.record(plan, label)?;
        let other = Some(theirs);
        moments::Value { stats, other, y, rows, width, cols, term: slot }.record(plan, label)?;
        let Some(dx) = dx else { return Ok(()) };
        context.backward(|plan| moments::Backward { x, stats, other, dx, rows, width, weight, accumulate: true }.record(plan, label))
    }
}
