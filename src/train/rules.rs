//! Which metrics a run has, which of two values is better, and the rules under which a run stops.

use serde::{Deserialize, Serialize};

use crate::config::{AbortRule, Expectation, Settings};
use crate::error::{Error, Result};
use crate::losses::Columns;
use crate::metrics::less_is_better;
use crate::tasks::Card;

/// Fails if the selected metric, or that of a rule or expectation, does not exist in this run: it would never be checked.
///
/// # Errors
/// `Config`, with a list of the metrics that exist.
pub(super) fn check_metrics(config: &Settings, columns: &Columns, card: &Card) -> Result<()> {
    let (of_training, of_validation) = (&columns.names, &card.validation_metrics);
    let shown: Vec<&str> = card.table_columns.iter().map(|c| c.name).collect();
    let select = config.validation.select.as_str();
    let selectable: Vec<&str> = of_validation.iter().copied().filter(|name| !card.of_samples.contains(name)).collect();
    if !selectable.contains(&select) {
        let what = match of_validation.contains(&select) {
            true => format!("{select} describes the samples, not the model"),
            false => format!("no metric {select} of a validation"),
        };
        return Err(Error::Config(format!("validation.select: {what}. There are {}", selectable.join(", "))));
    }
    let known = |metric: &str| match metric.split_once('_') {
        Some(("train", name)) => of_training.contains(&name),
        Some(("validation", name)) => of_validation.contains(&name),
        _ => false,
    };
    let wrong = |key: &str, metric: &str| {
        let train = of_training.iter().map(|n| format!("train_{n}"));
        let names = train.chain(of_validation.iter().map(|n| format!("validation_{n}"))).collect::<Vec<_>>().join(", ");
        Err(Error::Config(format!("{key}: no metric {metric} to look at there. There are {names}")))
    };
    for rule in &config.abort_if {
        if !known(&rule.metric) {
            return wrong("abort_if", &rule.metric);
        }
    }
    for wish in &config.expect {
        let of_kept = wish.metric.starts_with("validation_") || shown.contains(&wish.metric.as_str());
        let fine = if wish.epoch.is_some() {
            known(&wish.metric)
        } else {
            of_kept && (known(&wish.metric) || shown.contains(&wish.metric.as_str()))
        };
        if !fine {
            return wrong("expect", &format!("{}{}", wish.metric, if wish.epoch.is_none() { " without an epoch" } else { "" }));
        }
    }
    Ok(())
}

/// Fails on an expectation of a validation metric after an epoch that has no validation.
///
/// # Errors
/// `Config`, with the number of steps between validations.
pub(super) fn check_epochs(config: &Settings, epoch_steps: u64) -> Result<()> {
    let every = config.validation.every.unwrap_or(epoch_steps).max(1);
    let unseen = |epoch: u64| {
        let end = epoch.saturating_mul(epoch_steps);
        epoch < config.train.epochs && end / every * every <= end.saturating_sub(epoch_steps)
    };
    let of_validation = |wish: &&Expectation| wish.metric.starts_with("validation_");
    match config.expect.iter().filter(of_validation).find(|wish| wish.epoch.is_some_and(unseen)) {
        None => Ok(()),
        Some(wish) => Err(Error::Config(format!(
            "expect: {} after epoch {}, in which there is no validation: validation.every = {every}, and an epoch has {epoch_steps} steps. Choose \
             another epoch, or validate at least once an epoch",
            wish.metric,
            wish.epoch.unwrap_or_default()
        ))),
    }
}

/// State of an abort rule: first and best value of its metric.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    #[serde(with = "super::floats")]
    first: Option<f64>,
    #[serde(with = "super::floats")]
    best: Option<f64>,
}

impl Watch {
    /// Takes in the value after an epoch (from 1); gives the reason if the run has to stop.
    pub fn look(&mut self, rule: &AbortRule, epoch: u64, value: f64) -> Option<String> {
        let down = less_is_better(&rule.metric);
        let gain = |from: f64, to: f64| if down { from - to } else { to - from };
        let metric = &rule.metric;
        if value.is_nan() {
            return (epoch >= rule.after_epoch).then(|| format!("{metric} is not a number after epoch {epoch}"));
        }
        let earlier = self.first.is_some();
        let first = *self.first.get_or_insert(value);
        let best = self.best.map_or(value, |b| if gain(b, value) > 0.0 { value } else { b });
        self.best = Some(best);
        if epoch < rule.after_epoch {
            return None;
        }
        if let Some(limit) = rule.below.filter(|limit| value < *limit) {
            return Some(format!("{metric} = {value:.4} is below {limit} after epoch {epoch}"));
        }
        if let Some(limit) = rule.above.filter(|limit| value > *limit) {
            return Some(format!("{metric} = {value:.4} is above {limit} after epoch {epoch}"));
        }
        if let Some(least) = rule.flat.filter(|least| (earlier || epoch == 1) && gain(first, best) <= *least) {
            return Some(format!("{metric} is flat: {first:.4} at first, {best:.4} at best up to epoch {epoch} (rule: {least})"));
        }
        if let Some(most) = rule.worse.filter(|most| gain(value, best) > *most) {
            return Some(format!("{metric} diverges: {value:.4} after epoch {epoch}, {best:.4} at best (rule: {most})"));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(metric: &str, after_epoch: u64) -> AbortRule {
        AbortRule { metric: metric.into(), below: None, above: None, flat: None, worse: None, after_epoch }
    }

    fn fires(rule: &AbortRule, values: &[f64]) -> Option<usize> {
        let mut watch = Watch::default();
        values.iter().enumerate().find(|(i, v)| watch.look(rule, *i as u64 + 1, **v).is_some()).map(|(i, _)| i + 1)
    }

    #[test]
    fn each_condition_fires_at_its_epoch() {
        let below = AbortRule { below: Some(0.45), ..rule("train_cosine", 1) };
        assert_eq!((fires(&below, &[0.25]), fires(&below, &[0.5, 0.44]), fires(&below, &[0.5, 0.46])), (Some(1), Some(2), None));
        let later = AbortRule { below: Some(0.45), ..rule("train_cosine", 3) };
        assert_eq!(fires(&later, &[0.1, 0.2, 0.3]), Some(3));
        let flat = AbortRule { flat: Some(0.01), ..rule("train_cosine", 3) };
        assert_eq!((fires(&flat, &[0.5, 0.505, 0.508]), fires(&flat, &[0.5, 0.52, 0.5])), (Some(3), None));
        // Values of epochs 4 and 8 alone: it takes two.
        let mut watch = Watch::default();
        assert_eq!([(4, 0.5), (8, 0.505)].map(|(epoch, value)| watch.look(&flat, epoch, value).is_some()), [false, true]);
        let worse = AbortRule { worse: Some(0.02), ..rule("validation_loss", 1) };
        assert_eq!((fires(&worse, &[1.0, 0.9, 0.95]), fires(&worse, &[1.0, 0.9, 0.91])), (Some(3), None));
        let falls = AbortRule { worse: Some(0.0), ..rule("validation_coordinate", 1) };
        assert_eq!((fires(&falls, &[1.0, 0.9, 0.8]), fires(&falls, &[0.9, 1.0])), (None, Some(2)));
        let nan = [f64::NAN, 0.5];
        assert_eq!((fires(&flat, &nan), fires(&worse, &nan), fires(&AbortRule { after_epoch: 2, ..below }, &nan)), (None, Some(1), None));
        let above = AbortRule { above: Some(2.0), ..rule("train_loss", 1) };
        assert_eq!(fires(&above, &[1.0, 3.0]), Some(2));
    }
}
