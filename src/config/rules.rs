//! Conditions under which a run stops, and what it is expected to reach.

use serde::{Deserialize, Serialize};

use super::section::within;

/// A condition under which a run stops, with exit code 76. Metrics are `train_…` (mean of the epoch) or `validation_…`, followed by a name in
/// `metrics.jsonl`. Each rule has one of the conditions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbortRule {
    /// Name of the metric, such as `train_cosine`.
    pub metric: String,
    /// The run stops if the metric is below this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
    /// The run stops if the metric is above this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    /// The run stops if the best value since the first epoch improves on the first by no more than this: no progress.
    /// Losses improve downwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flat: Option<f64>,
    /// The run stops if the metric is worse than its best value by more than this: divergence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worse: Option<f64>,
    /// First epoch (from 1) after which the rule is checked; it is checked after each later one, too.
    #[serde(default = "one")]
    pub after_epoch: u64,
}

/// Restart of a run that a rule has stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// Largest number of restarts.
    pub times: u64,
    /// Each restart takes the next `train.seed`. With the same seed a run would end as it did.
    #[serde(default = "yes")]
    pub new_seed: bool,
}

/// A value that a metric of a run is expected to reach; the report marks it met or missed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// Name of the metric, as in an abort rule, or `ood_…` for the kept weights.
    pub metric: String,
    /// The expectation is met if the metric is not below this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// The expectation is met if the metric is not above this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// Epoch (from 1) after which the metric is compared; without it, the metric of the kept weights is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Advice that the report gives if the expectation is met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_met: Option<String>,
    /// Advice that the report gives if the expectation is missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_missed: Option<String>,
}

fn yes() -> bool {
    true
}

fn one() -> u64 {
    1
}

fn epoch_of(what: &str, epoch: u64, epochs: u64) -> std::result::Result<(), String> {
    let name = format!("{what}: the epoch");
    within((1..=epochs).contains(&epoch), &name, epoch as f64, &format!("from 1 to train.epochs = {epochs}"))
}

impl Restart {
    /// Fails if the number of restarts is 0 or too large, or if each restart would end as the first run did.
    pub(super) fn validate(&self) -> std::result::Result<(), String> {
        within((1..=1000).contains(&self.times), "restart.times", self.times as f64, "from 1 to 1000")?;
        if !self.new_seed {
            return Err("restart.new_seed = false: with the same seed the run would end as it did. Leave restart out instead".into());
        }
        Ok(())
    }
}

impl AbortRule {
    /// Fails unless there is exactly one condition, its limit is valid and its epoch is from 1 to `epochs`.
    pub(super) fn validate(&self, epochs: u64) -> std::result::Result<(), String> {
        let AbortRule { metric, below, above, flat, worse, after_epoch } = self;
        let what = format!("abort_if of {metric}");
        let limits = [("below", below), ("above", above), ("flat", flat), ("worse", worse)];
        let given: Vec<_> = limits.into_iter().filter_map(|(name, limit)| Some((name, (*limit)?))).collect();
        let [(name, limit)] = given[..] else {
            return Err(format!("{what} has {} conditions: give one of below, above, flat, worse", given.len()));
        };
        within(limit.is_finite(), &format!("{what}: {name}"), limit, "a finite number")?;
        within(limit >= 0.0 || !matches!(name, "flat" | "worse"), &format!("{what}: {name}"), limit, "0 or more")?;
        epoch_of(&what, *after_epoch, epochs)
    }
}

impl Expectation {
    /// Fails unless there is exactly one limit, it is finite and the epoch is from 1 to `epochs`.
    pub(super) fn validate(&self, epochs: u64) -> std::result::Result<(), String> {
        let Expectation { metric, at_least, at_most, epoch, .. } = self;
        let what = format!("expect of {metric}");
        let ([Some(limit), None] | [None, Some(limit)]) = [*at_least, *at_most] else {
            return Err(format!("{what}: give at_least or at_most"));
        };
        within(limit.is_finite(), &format!("{what}: the limit"), limit, "a finite number")?;
        epoch.map_or(Ok(()), |epoch| epoch_of(&what, epoch, epochs))
    }
}
