//! Cosine to the nearest training target, on some of the batches.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::term::{Context, Term};
use crate::error::Result;
use crate::gpu::Role;
use crate::kernels::matmul::Matmul;
use crate::kernels::vector_loss::Rows;
use crate::kernels::vector_loss::Slot;
use crate::kernels::{argmax, gather};
use crate::losses::loss::Targets;
use crate::plan::Fill;
use crate::random::{Random, stream};

/// Cosine distance to the nearest training target: 1 − cos(r, nearest).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CycleTerm {
    /// Factor in the sum; 0 leaves the term out.
    #[schemars(range(min = 0))]
    pub weight: f64,
    /// Share of the steps in which the term takes part.
    #[serde(default = "share")]
    #[schemars(range(min = 0, max = 1))]
    pub share: f64,
}

fn share() -> f64 {
    0.1
}

impl CycleTerm {
    pub(super) fn build(&self) -> Box<dyn Term> {
        Box::new(Cycle { config: self.clone(), targets: Targets { count: 1, vectors: None } })
    }
}

#[derive(Debug)]
struct Cycle {
    config: CycleTerm,
    targets: Targets,
}

impl Term for Cycle {
    fn name(&self) -> &'static str {
        "cycle"
    }

    fn weight(&self) -> f64 {
        self.config.weight
    }

    fn drawn(&self, seed: u64, step: u64) -> bool {
        Random::new(seed, stream::CYCLE, step).uniform() < self.config.share
    }

    fn prepare(&mut self, targets: &Targets, _seed: u64) -> Result<()> {
        self.targets = targets.clone();
        Ok(())
    }

    /// Finds the nearest target as the one with the largest dot product of unit vectors.
    fn rows(&self, context: &mut Context<'_>, slot: Slot, rows: &mut Rows) -> Result<()> {
        let (p, batch, width, count) = (context.unit()?, context.rows, context.width, self.targets.count.max(1));
        let unit = self.targets.vectors.clone().map(|vectors| {
            Fill::new(move |range| {
                let (first, last) = (range.start / width, range.end.div_ceil(width));
                let words = (first..last).flat_map(|i| vectors.unit(i)).map(|v| (v as f32).to_bits());
                words.skip(range.start - first * width).take(range.len()).collect()
            })
        });
        let plan = &mut *context.plan;
        let candidates = plan.constant(Role::Dataset, "loss.candidates", &[count, width], unit)?;
        let s = plan.activation("loss.cycle.s", &[batch, count])?;
        Matmul { trans_b: true, ..Matmul::new(p, candidates, s, (batch, count, width)) }.record(plan, "loss.cycle")?;
        let index = plan.activation("loss.cycle.index", &[batch])?;
        argmax::Forward { x: s, y: index, rows: batch, cols: count }.record(plan, "loss.cycle")?;
        let y = plan.activation("loss.cycle.nearest", &[batch, width])?;
        let (samples, length, cols) = (count, 1, width);
        gather::Forward { x: candidates, index, y, samples, length, cols, half: false, time_major: false }.record(plan, "loss.cycle")?;
        rows.cycle = Some((y, slot));
        Ok(())
    }
}
