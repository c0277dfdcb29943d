//! Moments of the unit predictions against those of all training targets.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::term::{Context, Term};
use super::variance::of_unit_moments;
use crate::error::Result;
use crate::gpu::Role;
use crate::kernels::vector_loss::Slot;
use crate::losses::loss::Targets;
use crate::plan::Fill;

/// Match of the moments with all training targets: mean_d (μ(p) − μ(targets))² + mean_d (σ(p) − σ(targets))².
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatTerm {
    /// Factor in the sum; 0 leaves the term out.
    #[schemars(range(min = 0))]
    pub weight: f64,
}

impl StatTerm {
    pub(super) fn build(&self) -> Box<dyn Term> {
        Box::new(Stat { weight: self.weight, statistics: None })
    }
}

#[derive(Debug)]
struct Stat {
    weight: f64,
    statistics: Option<Fill>,
}

impl Term for Stat {
    fn name(&self) -> &'static str {
        "stat"
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn needs_two(&self) -> bool {
        true
    }

    fn prepare(&mut self, targets: &Targets, _seed: u64) -> Result<()> {
        let values = targets.vectors.as_ref().map(|v| v.statistics().concat().into_iter().map(|x| x as f32).collect());
        self.statistics = values.map(Fill::floats);
        Ok(())
    }

    fn record(&self, context: &mut Context<'_>, slot: Slot) -> Result<()> {
        let shape = [2, context.width];
        let theirs = context.plan.constant(Role::Dataset, "loss.target_stats", &shape, self.statistics.clone())?;
        of_unit_moments(context, slot, Some(theirs), "loss.stat")
    }
}
