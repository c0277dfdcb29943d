//! Maximum mean discrepancy (Gretton et al. 2012) to anchors among the training targets.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::term::{Context, Term};
use crate::error::{Error, Result};
use crate::gpu::Role;
use crate::kernels::matmul::Matmul;
use crate::kernels::mmd;
use crate::kernels::vector_loss::Slot;
use crate::losses::loss::Targets;
use crate::plan::Fill;
use crate::random::{Random, stream};

/// Squared maximum mean discrepancy: mean k(p,p) + mean k(a,a) − 2 mean k(p,a), with k(u,v) = exp(−‖u − v‖² / 2σ²). The anchors a are unit
/// training targets drawn once, and σ is their median distance, at least 0.01.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MmdTerm {
    /// Factor in the sum; 0 leaves the term out.
    #[schemars(range(min = 0))]
    pub weight: f64,
    /// Number of training targets that are drawn once as anchors.
    #[serde(default = "anchors")]
    #[schemars(range(min = 2, max = 4096))]
    pub anchors: usize,
}

/// Smallest σ: dot products of unit vectors in 32 bits cannot resolve much shorter distances.
const NARROWEST: f64 = 0.01;

fn anchors() -> usize {
    256
}

impl MmdTerm {
    pub(super) fn build(&self) -> Box<dyn Term> {
        Box::new(Mmd { config: self.clone(), sigma: 1.0, kernel: 0.0, anchors: None })
    }
}

#[derive(Debug)]
struct Mmd {
    config: MmdTerm,
    /// σ, the median distance between anchors.
    sigma: f64,
    /// Mean kernel value between anchors.
    kernel: f64,
    anchors: Option<Fill>,
}

impl Term for Mmd {
    fn name(&self) -> &'static str {
        "mmd"
    }

    fn weight(&self) -> f64 {
        self.config.weight
    }

    fn compares(&self) -> bool {
        true
    }

    fn prepare(&mut self, targets: &Targets, seed: u64) -> Result<()> {
        let Targets { count, vectors: Some(vectors) } = targets else { return Ok(()) };
        let m = self.config.anchors;
        if *count < m {
            return Err(Error::Data(format!("{count} training targets for loss.mmd.anchors = {m}: lower it")));
        }
        // Drawn without replacement.
        let mut numbers: Vec<usize> = (0..*count).collect();
        let mut random = Random::new(seed, stream::ANCHORS, 0);
        for i in 0..m {
            numbers.swap(i, random.between(i as i64, *count as i64 - 1) as usize);
        }
        let anchors: Vec<Vec<f64>> = numbers[..m].iter().map(|i| vectors.unit(*i)).collect();
        let product = |i: usize, j: usize| -> f64 { anchors[i].iter().zip(&anchors[j]).map(|(a, b)| a * b).sum() };
        let pairs = (0..m).flat_map(|i| (0..i).map(move |j| (i, j)));
        let mut distances: Vec<f64> = pairs.map(|(i, j)| (2.0 - 2.0 * product(i, j)).max(0.0).sqrt()).collect();
        distances.sort_by(f64::total_cmp);
        // torch.median takes the lower of two middle values.
        self.sigma = distances[(distances.len() - 1) / 2].max(NARROWEST);
        let kernel = |d: f64| (-d * d / (2.0 * self.sigma.powi(2))).exp();
        self.kernel = (m as f64 + 2.0 * distances.iter().map(|d| kernel(*d)).sum::<f64>()) / (m * m) as f64;
        self.anchors = Some(Fill::floats(anchors.concat().into_iter().map(|v| v as f32).collect()));
        Ok(())
    }

    fn record(&self, context: &mut Context<'_>, slot: Slot) -> Result<()> {
        let Context { y, rows, width, cols, .. } = *context;
        let (p, count, sigma) = (context.unit()?, self.config.anchors, self.sigma);
        let others = context.plan.constant(Role::Dataset, "loss.anchors", &[count, width], self.anchors.clone())?;
        for (own, to, count, sign, offset) in [(true, p, rows, 1.0, self.kernel), (false, others, count, -2.0, 0.0)] {
            let label = if own { "loss.mmd.own" } else { "loss.mmd.anchors" };
            let gradient = context.unit_gradient()?;
            let plan = &mut *context.plan;
            let s = plan.activation(format!("{label}.s"), &[rows, count])?;
            Matmul { trans_b: true, ..Matmul::new(p, to, s, (rows, count, width)) }.record(plan, label)?;
            let ds = if gradient.is_some() { Some(plan.like(format!("{label}.ds"), s)?) } else { None };
            mmd::Forward { s, y, ds, rows, count, cols, term: slot, own, sign, offset, sigma, accumulate: !own }.record(plan, label)?;
            if let (Some(ds), Some((dp, accumulate))) = (ds, gradient) {
                context.backward(|plan| Matmul { accumulate, ..Matmul::new(ds, to, dp, (rows, width, count)) }.record(plan, label))?;
            }
        }
        Ok(())
    }
}
