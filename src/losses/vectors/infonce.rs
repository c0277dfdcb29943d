//! InfoNCE (van den Oord et al. 2018): each prediction among the targets of its batch.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::term::{Context, Term};
use crate::error::Result;
use crate::kernels::matmul::Matmul;
use crate::kernels::vector_loss::Slot;
use crate::kernels::{infonce, normalize};

/// InfoNCE: cross-entropy of the similarities p·t̂ᵀ/τ by rows plus by columns, where the match of each prediction is its own target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InfonceTerm {
    /// Factor in the sum; 0 leaves the term out.
    #[schemars(range(min = 0))]
    pub weight: f64,
    /// Temperature τ, by which the similarities are divided.
    #[serde(default = "temperature")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub temperature: f64,
}

fn temperature() -> f64 {
    0.07
}

impl InfonceTerm {
    pub(super) fn build(&self) -> Box<dyn Term> {
        Box::new(self.clone())
    }
}

impl Term for InfonceTerm {
    fn name(&self) -> &'static str {
        "infonce"
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn compares(&self) -> bool {
        true
    }

    fn record(&self, context: &mut Context<'_>, slot: Slot) -> Result<()> {
        let (weight, temperature) = (self.weight, self.temperature);
        let Context { t, y, rows, width, cols, .. } = *context;
        let p = context.unit()?;
        let plan = &mut *context.plan;
        let (unit_t, norm) = (plan.like("loss.unit_t", t)?, plan.activation("loss.norm_t", &[rows])?);
        normalize::Forward { x: t, y: unit_t, norm, rows, cols: width }.record(plan, "loss.infonce")?;
        let (s, lse) = (plan.activation("loss.s", &[rows, rows])?, plan.activation("loss.lse", &[rows, 2])?);
        Matmul { trans_b: true, ..Matmul::new(p, unit_t, s, (rows, rows, width)) }.record(plan, "loss.infonce")?;
        infonce::Forward { s, lse, y, rows, cols, term: slot, temperature }.record(plan, "loss.infonce")?;
        let Some((dp, accumulate)) = context.unit_gradient()? else { return Ok(()) };
        context.backward(|plan| {
            let ds = plan.like("loss.ds", s)?;
            infonce::Backward { s, lse, ds, rows, weight, temperature }.record(plan, "loss.infonce")?;
            Matmul { accumulate, ..Matmul::new(ds, unit_t, dp, (rows, width, rows)) }.record(plan, "loss.infonce")
        })
    }
}
