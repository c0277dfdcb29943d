//! Conditions under which a run stops, and what it is expected to reach.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::in_range;
use super::section::within;

/// A condition under which a run stops, with exit code 76. Metrics are `train_…` (mean of the epoch) or `validation_…`, followed by a name
/// in
/// `metrics.jsonl`. Each rule has one of the conditions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    #[schemars(range(min = 0))]
    pub flat: Option<f64>,
    /// The run stops if the metric is worse than its best value by more than this: divergence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub worse: Option<f64>,
    /// First epoch (from 1) after which the rule is checked; it is checked after each later one, too.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub after_epoch: u64,
}

/// Restart of a run that a rule has stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// Largest number of restarts.
    #[schemars(range(min = 1, max = 1000))]
    pub times: u64,
    /// Each restart takes the next `train.seed`. `false` is refused: with the same seed a run would end as it did.
    #[serde(default = "yes")]
    pub new_seed: bool,
}

/// A value that a metric of a run is expected to reach; the report marks it met or missed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    #[schemars(range(min = 1))]
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
    /// Fails if each restart would end as the first run did.
    pub(super) fn validate(&self) -> std::result::Result<(), String> {
        in_range(self, "restart")?;
        if !self.new_seed {
            return Err("restart.new_seed = false: with the same seed the run would end as it did. Leave restart out instead".into());
        }
        Ok(())
    }
}

impl AbortRule {
    /// Fails unless there is exactly one condition and its epoch is from 1 to `epochs`.
    pub(super) fn validate(&self, epochs: u64) -> std::result::Result<(), String> {
        let AbortRule { metric, below, above, flat, worse, after_epoch } = self;
        let what = format!("abort_if of {metric}");
        let limits = [below, above, flat, worse];
        let given = limits.into_iter().flatten().count();
        if given != 1 {
            return Err(format!("{what} has {given} conditions: give one of below, above, flat, worse"));
        }
        epoch_of(&what, *after_epoch, epochs)
    }
}

impl Expectation {
    /// Fails unless there is exactly one limit and the epoch is from 1 to `epochs`.
    pub(super) fn validate(&self, epochs: u64) -> std::result::Result<(), String> {
        let Expectation { metric, at_least, at_most, epoch, .. } = self;
        let what = format!("expect of {metric}");
        if at_least.is_some() == at_most.is_some() {
            return Err(format!("{what}: give at_least or at_most"));
        }
        epoch.map_or(Ok(()), |epoch| epoch_of(&what, epoch, epochs))
    }
}
