//! Cross-entropy of a classifier, plain or weighted by how far off the likeliest class is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::loss::{Columns, Gradients, Loss, LossKind, Recorded, of_positions};
use crate::batch::{Inputs, Outputs};
use crate::config::{Section, in_range};
use crate::error::{Error, Result};
pub use crate::kernels::cross_entropy::IGNORED;
use crate::kernels::cross_entropy::{Forward, Per, Weight};
use crate::plan::Plan;

/// Options of the cross-entropy of a classifier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CrossEntropyConfig {
    /// Weight w of the distance d between the likeliest class and the target: 0 (`none`), d (`linear`), d² (`quadratic`) or √d
    /// (`square_root`).
    /// `pure_distance` takes the expected distance in place of the cross-entropy.
    pub weight: Weight,
    /// Factor α of the weight of the distance: the loss is CE · (1 + α · w).
    #[schemars(range(min = 0))]
    pub alpha: f64,
    /// Unit that has the same weight in the mean: each `position` that has a target, or each `sequence`, whose positions share its weight.
    #[serde(skip_serializing_if = "is_position")]
    #[schemars(!skip_serializing_if)]
    pub per: Per,
    /// Label smoothing ε: the targets are (1 − ε) · onehot + ε / classes.
    #[serde(skip_serializing_if = "is_zero")]
    #[schemars(!skip_serializing_if, range(min = 0), extend("exclusiveMaximum" = 1))]
    pub label_smoothing: f64,
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

fn is_position(per: &Per) -> bool {
    *per == Per::Position
}

impl Default for CrossEntropyConfig {
    fn default() -> Self {
        CrossEntropyConfig { weight: Weight::None, alpha: 0.1, per: Per::Position, label_smoothing: 0.0 }
    }
}

const NAME: &str = "loss.kind = \"cross_entropy\"";

impl Section for CrossEntropyConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        in_range(self, "loss")?;
        match self.weight {
            Weight::PureDistance if self.label_smoothing > 0.0 => {
                Err("loss.label_smoothing is for a cross-entropy: loss.weight = \"pure_distance\" has none".into())
            }
            _ => Ok(()),
        }
    }
}

impl LossKind for CrossEntropyConfig {
    fn build(&self) -> Box<dyn Loss> {
        Box::new(self.clone())
    }
}

impl CrossEntropyConfig {
    /// Expected (loss, cross-entropy, mean distance) of a model that guesses uniformly.
    fn guess(&self, classes: usize) -> (f64, f64, f64) {
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
}

impl Loss for CrossEntropyConfig {
    fn columns(&self) -> Columns {
        Columns { names: vec!["loss", "cross_entropy", "accuracy", "distance"], ..Columns::default() }
    }

    /// Expected results for uniformly drawn targets; for the weight and the distance, the guess is a random class.
    fn uniform_guess(&self, classes: usize) -> Vec<(&'static str, f64)> {
        let (loss, cross_entropy, distance) = self.guess(classes);
        vec![("loss", loss), ("cross_entropy", cross_entropy), ("accuracy", 1.0 / classes as f64), ("distance", distance)]
    }

    /// Compares logits (rows, classes) with `targets` (rows).
    fn record(&self, plan: &mut Plan, outputs: &Outputs, inputs: &Inputs, gradient: bool) -> Result<Recorded> {
        let x = outputs.main;
        let (targets, below) = match inputs.find("targets") {
            Some(targets) => (targets, inputs.below("targets")),
            None => {
                let (name, targets) = inputs.answer(NAME)?;
                let numbers =
                    || Error::Config(format!("{NAME} needs classes to predict; `{name}` is numbers: use loss.kind = \"regression\""));
                (targets, Some(inputs.below(name).ok_or_else(numbers)?))
            }
        };
        let rows = plan.len(targets);
        let Some((cols, given)) = plan.shape(x).split_last().map(|(c, rest)| (*c, rest.iter().product::<usize>())) else {
            return Err(Error::Internal("logits without a shape".into()));
        };
        if given != rows {
            return Err(Error::Config(format!(
                "{NAME} needs logits for each of {rows} targets of a batch; the model gives {:?}{}",
                plan.shape(x),
                of_positions(plan.shape(x), given, rows)
            )));
        }
        if let Some(below) = below.filter(|below| cols < *below) {
            return Err(Error::Config(format!(
                "{NAME} needs a logit for each class: the targets are below {below}, and the model gives {cols}"
            )));
        }
        let y = plan.activation("loss.rows", &[rows, 4])?;
        let dx = gradient.then(|| plan.like("loss.dlogits", x)).transpose()?;
        let length = rows / inputs.batch;
        let (per, weight, alpha, smoothing) = (self.per, self.weight, self.alpha, self.label_smoothing);
        let weights = inputs.find("weights");
        Forward { x, targets, y, dx, rows, cols, length, per, weight, alpha, smoothing, weights }.record(plan, "loss")?;
        Ok(Recorded { rows: y, gradients: dx.map(Gradients::only), per_sample: self.per == Per::Sequence })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uniform_guess_has_the_known_baselines() {
        let (loss, ce, distance) = CrossEntropyConfig { weight: Weight::Linear, ..CrossEntropyConfig::default() }.guess(256);
        assert!((ce - 5.545).abs() < 1e-3 && (distance - 85.33).abs() < 1e-2 && (loss - 52.86).abs() < 1e-2, "{loss} {ce} {distance}");
    }
}
