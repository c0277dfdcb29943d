//! Losses of predicted vectors: any weighted sum of eight terms, each reported by itself.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, out_of_range};
use crate::gpu::Role;
use crate::kernels::matmul::Matmul;
use crate::kernels::vector_loss::{On, Rows, Term};
use crate::kernels::{argmax, gather, infonce, mmd, moments, normalize};
use crate::plan::{Plan, Section, Tensor};

/// A term with nothing but its weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlainTerm {
    /// Factor in the sum.
    pub weight: f64,
}

/// Squared error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MseTerm {
    /// Factor in the sum.
    pub weight: f64,
    /// Of the `raw` or of the `normalized` prediction.
    #[serde(default)]
    pub on: On,
}

/// InfoNCE.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InfonceTerm {
    /// Factor in the sum.
    pub weight: f64,
    /// τ.
    #[serde(default = "temperature")]
    pub temperature: f64,
}

/// Maximum mean discrepancy to training targets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MmdTerm {
    /// Factor in the sum.
    pub weight: f64,
    /// Training targets drawn once as anchors.
    #[serde(default = "anchors")]
    pub anchors: usize,
}

/// Cosine to the nearest training target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CycleTerm {
    /// λ.
    pub weight: f64,
    /// Fraction of the batches that take part.
    #[serde(default = "share")]
    pub share: f64,
}

fn temperature() -> f64 {
    0.07
}

fn anchors() -> usize {
    256
}

fn share() -> f64 {
    0.1
}

/// Terms of the sum; a weight of 0 is as good as no term. With r the raw output (B, D), p = r / ‖r‖, t the target and t̂ = t / ‖t‖.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorLossConfig {
    /// Mean over B × D of (r − t)², or of (p − t)².
    pub mse: Option<MseTerm>,
    /// Mean over B of 1 − p·t̂.
    pub cosine: Option<PlainTerm>,
    /// CE(p·t̂ᵀ/τ) by rows and by columns, summed.
    pub infonce: Option<InfonceTerm>,
    /// mean_d (μ(r) − μ(t))² + mean_d (σ(r) − σ(t))² over the batch.
    pub moment: Option<PlainTerm>,
    /// mean_d max(1 − σ(p), 0).
    pub variance: Option<PlainTerm>,
    /// mean k(p,p) + mean k(a,a) − 2 mean k(p,a).
    pub mmd: Option<MmdTerm>,
    /// The moment formula on p against the training targets.
    pub stat: Option<PlainTerm>,
    /// 1 − cos(r, nearest training target) on a fraction of the batches.
    pub cycle: Option<CycleTerm>,
}

/// What some terms need of the training targets.
#[derive(Debug, Clone)]
pub struct TargetFacts {
    /// Training targets.
    pub count: usize,
    /// σ of the mmd kernel: median distance of the anchors.
    pub sigma: f64,
    /// Mean kernel between anchors.
    pub kernel: f64,
}

impl Default for TargetFacts {
    fn default() -> Self {
        TargetFacts { count: 1, sigma: 1.0, kernel: 0.0 }
    }
}

/// Names of the tensors of constants that the host fills.
pub const ANCHORS: &str = "loss.anchors";
/// (2, D): μ and σ of the training targets.
pub const TARGET_STATS: &str = "loss.target_stats";
/// (N, D): unit training targets.
pub const CANDIDATES: &str = "loss.candidates";

impl VectorLossConfig {
    /// Names and weights of the terms in the sum, in the order of their columns.
    pub fn terms(&self) -> Vec<(&'static str, f64)> {
        let all = [
            ("mse", self.mse.as_ref().map(|t| t.weight)),
            ("cosine_loss", self.cosine.as_ref().map(|t| t.weight)),
            ("cycle", self.cycle.as_ref().map(|t| t.weight)),
            ("infonce", self.infonce.as_ref().map(|t| t.weight)),
            ("moment", self.moment.as_ref().map(|t| t.weight)),
            ("variance", self.variance.as_ref().map(|t| t.weight)),
            ("mmd", self.mmd.as_ref().map(|t| t.weight)),
            ("stat", self.stat.as_ref().map(|t| t.weight)),
        ];
        all.into_iter().filter_map(|(name, weight)| Some((name, weight?))).collect()
    }

    /// The sum without the terms whose weight is 0: those are neither computed nor logged.
    pub fn weighted(&self) -> Self {
        fn kept<T: Clone>(term: &Option<T>, weight: impl Fn(&T) -> f64) -> Option<T> {
            term.clone().filter(|t| weight(t) != 0.0)
        }
        VectorLossConfig {
            mse: kept(&self.mse, |t| t.weight),
            cosine: kept(&self.cosine, |t| t.weight),
            infonce: kept(&self.infonce, |t| t.weight),
            moment: kept(&self.moment, |t| t.weight),
            variance: kept(&self.variance, |t| t.weight),
            mmd: kept(&self.mmd, |t| t.weight),
            stat: kept(&self.stat, |t| t.weight),
            cycle: kept(&self.cycle, |t| t.weight),
        }
    }

    /// Names of the terms for which a batch of one sample makes no sense: a standard deviation over it is 0/0.
    pub fn need_two(&self) -> Vec<&'static str> {
        self.terms().into_iter().map(|(name, _)| name).filter(|name| ["moment", "variance", "stat"].contains(name)).collect()
    }

    pub(super) fn validate(&self) -> std::result::Result<(), String> {
        let terms = self.terms();
        if terms.is_empty() {
            return Err("loss has no term: add one, as in `cosine = { weight = 1.0 }`".into());
        }
        if let Some((name, weight)) = terms.iter().find(|(_, w)| !(*w >= 0.0 && w.is_finite())) {
            return Err(out_of_range(&format!("loss.{name}.weight"), *weight, "0 or more, and finite"));
        }
        if terms.iter().all(|(_, weight)| *weight == 0.0) {
            return Err("loss: every weight is 0, which leaves nothing to learn from. Give a term a weight above 0".into());
        }
        if let Some(t) = &self.infonce
            && !(t.temperature > 0.0 && t.temperature.is_finite())
        {
            return Err(out_of_range("loss.infonce.temperature", t.temperature, "above 0, and finite"));
        }
        if let Some(t) = &self.mmd
            && !(2..=1 << 16).contains(&t.anchors)
        {
            return Err(format!("loss.mmd.anchors = {} is out of range: it must be from 2 to 65536", t.anchors));
        }
        if let Some(t) = &self.cycle
            && !(0.0..=1.0).contains(&t.share)
        {
            return Err(out_of_range("loss.cycle.share", t.share, "from 0 to 1"));
        }
        Ok(())
    }

    /// Appends the loss of predictions x against targets t (rows, width): per-row results (loss, cosine, terms), and with `gradient` the
    /// gradient of state.scale · mean loss.
    ///
    /// # Errors
    /// `Internal` when shapes differ.
    pub fn record(&self, plan: &mut Plan, x: Tensor, t: Tensor, facts: &TargetFacts, gradient: bool) -> Result<(Tensor, Option<Tensor>)> {
        let [rows, width] = plan.shape(x)[..] else {
            return Err(Error::Internal(format!("loss of predictions of shape {:?}", plan.shape(x))));
        };
        let names: Vec<&str> = self.terms().iter().map(|(name, _)| *name).collect();
        let cols = 2 + names.len();
        let term = |name: &str, weight: f64| Term { weight, column: 2 + names.iter().position(|n| *n == name).unwrap_or(0) };
        let y = plan.activation("loss.rows", &[rows, cols])?;
        let dx = if gradient { Some(plan.like("loss.dx", x)?) } else { None };
        let on_unit =
            self.infonce.is_some() || self.variance.is_some() || self.mmd.is_some() || self.stat.is_some() || self.cycle.is_some();
        let (p, norm) = (on_unit.then(|| plan.like("loss.p", x)).transpose()?, on_unit.then(|| plan.activation("loss.norm", &[rows])));
        if let (Some(y), Some(norm)) = (p, norm.transpose()?) {
            normalize::Forward { x, y, norm, rows, cols: width }.record(plan, "loss.p")?;
        }
        let nearest = match &self.cycle {
            Some(cycle) => Some((self.nearest(plan, p, rows, width, facts.count)?, term("cycle", cycle.weight))),
            None => None,
        };
        let mse = self.mse.as_ref().map(|m| (m.on, term("mse", m.weight)));
        let cosine = self.cosine.as_ref().map(|c| term("cosine_loss", c.weight));
        Rows { x, t, y, dx, rows, width, cols, mse, cosine, cycle: nearest }.record(plan, "loss")?;
        if let Some(moment) = &self.moment {
            let (mine, theirs) = (plan.activation("loss.moment.x", &[2, width])?, plan.activation("loss.moment.t", &[2, width])?);
            moments::Forward { x, stats: mine, rows, width }.record(plan, "loss.moment")?;
            moments::Forward { x: t, stats: theirs, rows, width }.record(plan, "loss.moment")?;
            let (weight, other) = (moment.weight, Some(theirs));
            moments::Value { stats: mine, other, y, rows, width, cols, term: term("moment", weight) }.record(plan, "loss.moment")?;
            if let Some(dx) = dx {
                plan.begin(Section::Backward);
                moments::Backward { x, stats: mine, other, dx, rows, width, weight, accumulate: true }.record(plan, "loss.moment")?;
                plan.begin(Section::Forward);
            }
        }
        let Some(p) = p.filter(|_| self.infonce.is_some() || self.variance.is_some() || self.mmd.is_some() || self.stat.is_some()) else {
            return Ok((y, dx));
        };
        let dp = if gradient { Some(plan.like("loss.dp", x)?) } else { None };
        let mut written = false;
        let mut accumulate = || std::mem::replace(&mut written, true);
        if let Some(InfonceTerm { weight, temperature }) = self.infonce {
            let (unit_t, norm_t) = (plan.like("loss.unit_t", t)?, plan.activation("loss.norm_t", &[rows])?);
            normalize::Forward { x: t, y: unit_t, norm: norm_t, rows, cols: width }.record(plan, "loss.infonce")?;
            let (s, lse) = (plan.activation("loss.s", &[rows, rows])?, plan.activation("loss.lse", &[rows, 2])?);
            Matmul { trans_b: true, ..Matmul::new(p, unit_t, s, (rows, rows, width)) }.record(plan, "loss.infonce")?;
            infonce::Forward { s, lse, y, rows, cols, term: term("infonce", weight), temperature }.record(plan, "loss.infonce")?;
            if let Some(dp) = dp {
                plan.begin(Section::Backward);
                let ds = plan.like("loss.ds", s)?;
                infonce::Backward { s, lse, ds, rows, weight, temperature }.record(plan, "loss.infonce")?;
                Matmul { accumulate: accumulate(), ..Matmul::new(ds, unit_t, dp, (rows, width, rows)) }.record(plan, "loss.infonce")?;
                plan.begin(Section::Forward);
            }
        }
        if self.variance.is_some() || self.stat.is_some() {
            let stats = plan.activation("loss.stats", &[2, width])?;
            moments::Forward { x: p, stats, rows, width }.record(plan, "loss.stats")?;
            let target_stats = match self.stat {
                Some(_) => Some(plan.persistent(Role::Dataset, TARGET_STATS, &[2, width])?),
                None => None,
            };
            let terms = [("variance", self.variance.as_ref(), None), ("stat", self.stat.as_ref(), target_stats)];
            for (name, PlainTerm { weight }, other) in terms.into_iter().filter_map(|(n, t, o)| Some((n, t?, o))) {
                let label = format!("loss.{name}");
                moments::Value { stats, other, y, rows, width, cols, term: term(name, *weight) }.record(plan, &label)?;
                if let Some(dx) = dp {
                    plan.begin(Section::Backward);
                    moments::Backward { x: p, stats, other, dx, rows, width, weight: *weight, accumulate: accumulate() }
                        .record(plan, &label)?;
                    plan.begin(Section::Forward);
                }
            }
        }
        if let Some(MmdTerm { weight, anchors }) = self.mmd {
            let others = plan.persistent(Role::Dataset, ANCHORS, &[anchors, width])?;
            for (own, to, count, sign, offset) in [(true, p, rows, 1.0, facts.kernel), (false, others, anchors, -2.0, 0.0)] {
                let label = if own { "loss.mmd.own" } else { "loss.mmd.anchors" };
                let s = plan.activation(format!("{label}.s"), &[rows, count])?;
                Matmul { trans_b: true, ..Matmul::new(p, to, s, (rows, count, width)) }.record(plan, label)?;
                let ds = if gradient { Some(plan.like(format!("{label}.ds"), s)?) } else { None };
                let (term, sigma) = (term("mmd", weight), facts.sigma);
                mmd::Forward { s, y, ds, rows, count, cols, term, own, sign, offset, sigma, accumulate: !own }.record(plan, label)?;
                if let (Some(ds), Some(dp)) = (ds, dp) {
                    plan.begin(Section::Backward);
                    Matmul { accumulate: accumulate(), ..Matmul::new(ds, to, dp, (rows, width, count)) }.record(plan, label)?;
                    plan.begin(Section::Forward);
                }
            }
        }
        if let (Some(dp), Some(dx), Some(norm)) = (dp, dx, plan.find("loss.norm")) {
            plan.begin(Section::Backward);
            normalize::Backward { y: p, norm, dy: dp, dx, rows, cols: width, accumulate: true }.record(plan, "loss.p")?;
            plan.begin(Section::Forward);
        }
        Ok((y, dx))
    }

    /// The training target with the largest cosine to each prediction.
    fn nearest(&self, plan: &mut Plan, p: Option<Tensor>, rows: usize, width: usize, count: usize) -> Result<Tensor> {
        let p = p.ok_or_else(|| Error::Internal("no unit predictions".into()))?;
        let candidates = plan.persistent(Role::Dataset, CANDIDATES, &[count, width])?;
        let s = plan.activation("loss.cycle.s", &[rows, count])?;
        Matmul { trans_b: true, ..Matmul::new(p, candidates, s, (rows, count, width)) }.record(plan, "loss.cycle")?;
        let index = plan.activation("loss.cycle.index", &[rows])?;
        argmax::Forward { x: s, y: index, rows, cols: count }.record(plan, "loss.cycle")?;
        let y = plan.activation("loss.cycle.nearest", &[rows, width])?;
        let (samples, length, cols) = (count, 1, width);
        gather::Forward { x: candidates, index, y, samples, length, cols, half: false, time_major: false }.record(plan, "loss.cycle")?;
        Ok(y)
    }
}
