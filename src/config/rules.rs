//! Conditions under which a run stops, and what it is expected to reach.

use serde::{Deserialize, Serialize};

use super::section::within;

/// A condition under which a run stops, with exit code 76. Metrics are `train_…` (mean of the epoch) or `validation_…`, followed by a name in
/// `metrics.jsonl`. Each rule has one of the conditions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbortRule {
    /// Such as `train_cosine`.
    pub metric: String,
    /// It is below this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
    /// It is above this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    /// Its best value since the first epoch is not better than the first by more than this: flat progression. Losses improve downwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flat: Option<f64>,
    /// It is worse than its best by more than this: divergence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worse: Option<f64>,
    /// Looked at after this epoch (from 1) and after each later one.
    #[serde(default = "one")]
    pub after_epoch: u64,
}

/// What follows when a rule ends a run: another start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// Starts after the first, at most.
    pub times: u64,
    /// Each with the next `train.seed`. With the same seed a run would end as it did.
    #[serde(default = "yes")]
    pub new_seed: bool,
}

/// What a run is expected to reach; the report marks it met or missed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// As in an abort rule, or `ood_…` of the kept weights.
    pub metric: String,
    /// Met when it is not below this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// Met when it is not above this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// After this epoch (from 1); without it, of the kept weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// What to do next where it is met, as the report then says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_met: Option<String>,
    /// The same where it is missed.
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
    /// Fails on no start, too many, and on those that could only end as the first did.
    pub(super) fn validate(&self) -> std::result::Result<(), String> {
        within((1..=1000).contains(&self.times), "restart.times", self.times as f64, "from 1 to 1000")?;
        if !self.new_seed {
            return Err("restart.new_seed = false: with the same seed the run would end as it did. Leave restart out instead".into());
        }
        Ok(())
    }
}

impl AbortRule {
    /// Fails unless there is one condition with a sound limit, and its epoch comes within `epochs`.
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
    /// Fails unless there is one sound limit, and its epoch comes within `epochs`.
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
