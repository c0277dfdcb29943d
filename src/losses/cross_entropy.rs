//! Cross-entropy of a classifier, plain or weighted by how far off the likeliest class is.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::loss::{Columns, Gradients, Loss, LossKind, Recorded, of_positions};
use crate::batch::{Inputs, Outputs};
use crate::config::{Section, in_range};
use crate::error::{Error, Result};
pub use crate::kernels::cross_entropy::IGNORED;
use crate::kernels::cross_entropy::{Forward, Per, Weight};
use crate::kernels::loss_scale;
use crate::kernels::metrics::RECORDS;
use crate::layers::{Projected, Projection};
use crate::plan::{Plan, Tensor};

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

    /// Compares logits (rows, classes) with `targets` (rows). A last layer that is left to the loss is applied in chunks of rows, each of
    /// which has its logits, their gradient and what that gives to the layer one after another in the same memory.
    fn record(&self, plan: &mut Plan, outputs: &Outputs, inputs: &Inputs, gradient: bool) -> Result<Recorded> {
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
        let shape = match &outputs.main {
            Projected::Whole(x) => plan.shape(*x).to_vec(),
            Projected::Chunked(head) => vec![head.rows, head.outputs],
        };
        let Some((cols, given)) = shape.split_last().map(|(c, rest)| (*c, rest.iter().product::<usize>())) else {
            return Err(Error::Internal("logits without a shape".into()));
        };
        if given != rows {
            return Err(Error::Config(format!(
                "{NAME} needs logits for each of {rows} targets of a batch; the model gives {shape:?}{}",
                of_positions(&shape, given, rows)
            )));
        }
        if let Some(below) = below.filter(|below| cols < *below) {
            return Err(Error::Config(format!(
                "{NAME} needs a logit for each class: the targets are below {below}, and the model gives {cols}"
            )));
        }
        let y = plan.activation("loss.rows", &[rows, 4])?;
        let length = rows / inputs.batch;
        let (per, weight, alpha, smoothing) = (self.per, self.weight, self.alpha, self.label_smoothing);
        let weights = inputs.find("weights");
        let of = |x, dx, rows: Range<usize>| {
            let (row_at, rows) = (rows.start, rows.len());
            Forward { x, targets, y, dx, row_at, rows, cols, length, per, weight, alpha, smoothing, weights }
        };
        let gradients = match &outputs.main {
            Projected::Whole(x) => {
                let dx = gradient.then(|| plan.like("loss.dlogits", *x)).transpose()?;
                of(*x, dx, 0..rows).record(plan, "loss")?;
                dx.map(Gradients::only)
            }
            Projected::Chunked(head) => in_chunks(plan, head, gradient, of)?,
        };
        Ok(Recorded { rows: y, gradients, per_sample: self.per == Per::Sequence })
    }
}

/// Appends a last layer and its loss, chunk by chunk: logits, and if they are asked for their gradient and those of the layer, of which
/// that with respect to its input is returned.
fn in_chunks(
    plan: &mut Plan,
    head: &Projection,
    gradient: bool,
    of: impl Fn(Tensor, Option<Tensor>, Range<usize>) -> Forward,
) -> Result<Option<Gradients>> {
    let logits = plan.activation("loss.logits", &[head.chunk, head.outputs])?;
    let dx = gradient.then(|| plan.like("loss.dinput", head.x)).transpose()?;
    // Gradients that may be stored in 16 bits have the loss scale from here on.
    let scale = if gradient && plan.options.halves { plan.find(RECORDS) } else { None };
    for rows in head.chunks() {
        head.forward(plan, &rows, logits)?;
        of(logits, dx.map(|_| logits), rows.clone()).record(plan, "loss")?;
        let Some(dx) = dx else { continue };
        plan.at_once(|plan| {
            if let Some(records) = scale {
                loss_scale::Apply { x: logits, records }.record(plan, "loss")?;
            }
            head.backward(plan, &rows, logits, dx)
        })?;
    }
    Ok(dx.map(|dx| Gradients { scale, ..Gradients::only(dx) }))
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
