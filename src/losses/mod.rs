//! Losses: what is minimised, with the gradient's 1/N folded in.

use serde::{Deserialize, Serialize};

use crate::error::{Result, out_of_range};
use crate::kernels::cross_entropy::{Forward, Weight};
use crate::plan::{Plan, Tensor};

mod joints;
mod vae;
mod vectors;

pub use joints::{DEVIATION, JointLossConfig, Penalty};
pub use vae::VaeLossConfig;
pub use vectors::{ANCHORS, CANDIDATES, CycleTerm, InfonceTerm, MmdTerm, MseTerm, PlainTerm, TARGET_STATS, TargetFacts, VectorLossConfig};

/// Every loss, by its `kind`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LossConfig {
    /// Of a classifier.
    CrossEntropy(CrossEntropyConfig),
    /// Of predicted vectors.
    Vectors(VectorLossConfig),
    /// Of predicted joints.
    Joints(JointLossConfig),
    /// Of a variational autoencoder.
    Vae(VaeLossConfig),
}

impl LossConfig {
    pub(crate) fn validate(&self) -> std::result::Result<(), String> {
        match self {
            LossConfig::CrossEntropy(config) => config.validate(),
            LossConfig::Vectors(config) => config.validate(),
            LossConfig::Joints(config) => config.validate(),
            LossConfig::Vae(config) => config.validate(),
        }
    }
}

/// Which loss of a classifier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CrossEntropyConfig {
    /// `none`, `linear`, `quadratic`, `square_root`, or `pure_distance`.
    pub weight: Weight,
    /// Scale of the distance: CE · (1 + alpha · w).
    pub alpha: f64,
}

impl Default for CrossEntropyConfig {
    fn default() -> Self {
        CrossEntropyConfig { weight: Weight::Linear, alpha: 0.1 }
    }
}

impl CrossEntropyConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        if self.alpha >= 0.0 && self.alpha.is_finite() {
            return Ok(());
        }
        Err(out_of_range("loss.alpha", self.alpha, "0 or more, and finite"))
    }

    /// Loss of guessing each of `classes` with equal probability, against uniformly drawn targets: (this loss, cross-entropy, mean
    /// distance). The guess is taken as a random class for the weight and for the distance.
    pub fn uniform_guess(&self, classes: usize) -> (f64, f64, f64) {
        let n = classes as f64;
        let ce = n.ln();
        let mean = |f: &dyn Fn(f64) -> f64| (1..classes).map(|d| 2.0 * (n - d as f64) * f(d as f64)).sum::<f64>() / (n * n);
        let distance = mean(&|d| d);
        let loss = match self.weight {
            Weight::None => ce,
            Weight::Linear => ce * (1.0 + self.alpha * distance),
            Weight::Quadratic => ce * (1.0 + self.alpha * mean(&|d| d * d)),
            Weight::SquareRoot => ce * (1.0 + self.alpha * mean(&f64::sqrt)),
            Weight::PureDistance => distance,
        };
        (loss, ce, distance)
    }

    /// Appends the loss of (rows, classes) logits: per-row metrics, and with `scale` the gradient of scale · Σ loss.
    ///
    /// # Errors
    /// `Internal` when shapes differ.
    pub fn record(&self, plan: &mut Plan, logits: Tensor, targets: Tensor, scale: Option<f64>) -> Result<(Tensor, Option<Tensor>)> {
        let rows = plan.len(targets);
        let cols = plan.len(logits) / rows;
        let y = plan.activation("loss.rows", &[rows, 4])?;
        let dx = scale.map(|_| plan.like("loss.dlogits", logits)).transpose()?;
        let loss = Forward { x: logits, targets, y, dx, rows, cols, weight: self.weight, alpha: self.alpha, scale: scale.unwrap_or(0.0) };
        loss.record(plan, "loss")?;
        Ok((y, dx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uniform_guess_has_the_known_baselines() {
        let (loss, ce, distance) = CrossEntropyConfig::default().uniform_guess(256);
        assert!((ce - 5.545).abs() < 1e-3 && (distance - 85.33).abs() < 1e-2 && (loss - 52.86).abs() < 1e-2, "{loss} {ce} {distance}");
    }
}
