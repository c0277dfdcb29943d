//! Losses of predicted vectors: any weighted sum of terms, each reported by itself. One file a term.
//!
//! With r the raw output (B, D), p = r / ‖r‖, t the target and t̂ = t / ‖t‖.

mod cosine;
mod cycle;
mod infonce;
mod mmd;
mod moment;
mod mse;
mod stat;
mod term;
mod variance;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use cosine::CosineTerm;
pub use cycle::CycleTerm;
pub use infonce::InfonceTerm;
pub use mmd::MmdTerm;
pub use moment::MomentTerm;
pub use mse::MseTerm;
pub use stat::StatTerm;
pub use term::{Context, Term};
pub use variance::VarianceTerm;

use super::loss::{Columns, Gradients, Loss, LossKind, Recorded, Targets};
use crate::batch::{Inputs, Outputs};
use crate::config::{Section, in_range};
use crate::error::{Error, Result};
use crate::kernels::normalize;
use crate::kernels::vector_loss::{Rows, Slot};
use crate::plan::Plan;

macro_rules! terms {
    ($($(#[$doc:meta])* $field:ident: $config:ty,)*) => {
        /// Terms of the sum; a term with weight 0 is left out.
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct VectorLossConfig {
            $($(#[$doc])* pub $field: Option<$config>,)*
        }

        impl VectorLossConfig {
            /// The terms that are given, in the order of their columns.
            fn terms(&self) -> Vec<Box<dyn Term>> {
                let all = [$(self.$field.as_ref().map(|term| term.build()),)*];
                all.into_iter().flatten().collect()
            }
        }
    };
}

terms! {
    /// Squared error: mean over B × D of (r − t)², or of (p − t)².
    mse: MseTerm,
    /// Cosine distance: mean over B of 1 − p·t̂.
    cosine: CosineTerm,
    /// Cosine distance to the nearest training target, 1 − cos(r, nearest), in a fraction of the steps.
    cycle: CycleTerm,
    /// InfoNCE: CE(p·t̂ᵀ/τ) by rows plus by columns.
    infonce: InfonceTerm,
    /// Match of the moments within the batch: mean_d (μ(r) − μ(t))² + mean_d (σ(r) − σ(t))².
    moment: MomentTerm,
    /// Variance hinge: mean_d max(1 − σ(p), 0).
    variance: VarianceTerm,
    /// Squared maximum mean discrepancy: mean k(p,p) + mean k(a,a) − 2 mean k(p,a).
    mmd: MmdTerm,
    /// Match of the moments of p with those of all training targets.
    stat: StatTerm,
}

impl Section for VectorLossConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        in_range(self, "loss")?;
        let terms = self.terms();
        if terms.is_empty() {
            return Err("loss has no term: add one, as in `cosine = { weight = 1.0 }`".into());
        }
        if terms.iter().all(|t| t.weight() == 0.0) {
            return Err("loss: every weight is 0, which leaves nothing to learn from. Give a term a weight above 0".into());
        }
        Ok(())
    }
}

impl LossKind for VectorLossConfig {
    fn build(&self) -> Box<dyn Loss> {
        Box::new(VectorLoss::of(self))
    }
}

/// Weighted sum of terms, without those whose weight is 0: they are neither computed nor logged.
#[derive(Debug)]
pub struct VectorLoss {
    terms: Vec<Box<dyn Term>>,
}

impl VectorLoss {
    /// Builds the terms of a configuration.
    pub fn of(config: &VectorLossConfig) -> Self {
        VectorLoss { terms: config.terms().into_iter().filter(|t| t.weight() != 0.0).collect() }
    }

    /// Adds one more term, in a column of its own.
    pub fn with(mut self, term: Box<dyn Term>) -> Self {
        self.terms.push(term);
        self
    }
}

impl Loss for VectorLoss {
    fn columns(&self) -> Columns {
        let terms: Vec<_> = self.terms.iter().map(|t| (t.name(), t.weight())).collect();
        let names = ["loss", "cosine"].into_iter().chain(terms.iter().map(|(name, _)| *name)).collect();
        let need_two = self.terms.iter().filter(|t| t.needs_two()).map(|t| t.name()).collect();
        Columns { names, terms, need_two, compares: self.terms.iter().any(|t| t.compares()) }
    }

    fn prepare(&mut self, targets: &Targets, seed: u64) -> Result<()> {
        self.terms.iter_mut().try_for_each(|t| t.prepare(targets, seed))
    }

    fn drawn(&self, seed: u64, step: u64) -> bool {
        self.terms.iter().any(|t| t.drawn(seed, step))
    }

    /// Compares predictions (batch, width) with `target`; the results of a sample are loss, cosine, terms.
    fn record(&self, plan: &mut Plan, outputs: &Outputs, inputs: &Inputs, gradient: bool) -> Result<Recorded> {
        let (x, t) = (outputs.whole("loss.kind = \"vectors\"")?, inputs.get("loss.kind = \"vectors\"", "target")?);
        let rows = inputs.batch;
        let width = plan.len(t) / rows;
        if plan.len(x) != plan.len(t) {
            return Err(Error::Config(format!(
                "loss.kind = \"vectors\" compares vectors of {width} numbers; the model gives {:?}",
                plan.shape(x)
            )));
        }
        let cols = 2 + self.terms.len();
        let y = plan.activation("loss.rows", &[rows, cols])?;
        let dx = if gradient { Some(plan.like("loss.dx", x)?) } else { None };
        let mut context = Context { plan, x, t, y, dx, rows, width, cols, unit: None, unit_gradient: None, unit_stats: None };
        let slots: Vec<_> = self.terms.iter().enumerate().map(|(i, t)| (t, Slot { weight: t.weight(), column: 2 + i })).collect();
        let mut sums = Rows { x, t, y, dx, rows, width, cols, mse: None, cosine: None, cycle: None };
        for (term, slot) in &slots {
            term.rows(&mut context, *slot, &mut sums)?;
        }
        sums.record(context.plan, "loss")?;
        for (term, slot) in slots {
            term.record(&mut context, slot)?;
        }
        if let (Some(dy), Some((p, norm)), Some(dx)) = (context.unit_gradient, context.unit, dx) {
            context
                .backward(|plan| normalize::Backward { y: p, norm, dy, dx, rows, cols: width, accumulate: true }.record(plan, "loss.p"))?;
        }
        Ok(Recorded { rows: y, gradients: dx.map(Gradients::only), per_sample: false })
    }
}
