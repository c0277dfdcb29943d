//! Spread of the predictions over the batch (VICReg, Bardes et al. 2022).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::term::{Context, Term};
use crate::error::Result;
use crate::kernels::moments;
use crate::kernels::vector_loss::Slot;
use crate::plan::Tensor;

/// Variance hinge of VICReg: mean_d max(1 − σ(p), 0).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VarianceTerm {
    /// Factor in the sum; 0 leaves the term out.
    #[schemars(range(min = 0))]
    pub weight: f64,
}

impl VarianceTerm {
    pub(super) fn build(&self) -> Box<dyn Term> {
        Box::new(self.clone())
    }
}

impl Term for VarianceTerm {
    fn name(&self) -> &'static str {
        "variance"
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn needs_two(&self) -> bool {
        true
    }

    fn record(&self, context: &mut Context<'_>, slot: Slot) -> Result<()> {
        of_unit_moments(context, slot, None, "loss.variance")
    }
}

/// Records a term of the moments of p: their match with other moments, or the hinge at a standard deviation of 1.
pub(super) fn of_unit_moments(context: &mut Context<'_>, slot: Slot, other: Option<Tensor>, label: &str) -> Result<()> {
    let Context { y, rows, width, cols, .. } = *context;
    let (x, stats) = (context.unit()?, context.unit_stats()?);
    moments::Value { stats, other, y, rows, width, cols, term: slot }.record(context.plan, label)?;
    let Some((dx, accumulate)) = context.unit_gradient()? else { return Ok(()) };
    context.backward(|plan| moments::Backward { x, stats, other, dx, rows, width, weight: slot.weight, accumulate }.record(plan, label))
}
