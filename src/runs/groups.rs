//! Runs that differ only in the seed, and runs that differ in nothing that matters.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::columns::Row;
use super::sets::Set;
use crate::metrics::less_is_better;

/// Statistics of runs that differ only in `train.seed`.
#[derive(Debug, Clone, Serialize)]
pub struct Group {
    /// Number of the set of its runs.
    pub set: usize,
    /// Keys whose values differ between the groups, and their values in this one.
    pub settings: BTreeMap<String, String>,
    /// Number of runs with a value of the metric that ranks.
    pub runs: usize,
    /// Mean of the values.
    pub mean: f64,
    /// Standard deviation of the values (n − 1); none for a single run.
    pub deviation: Option<f64>,
    /// Best value in the group.
    pub best: f64,
    /// Run with the best value.
    pub best_run: String,
}

/// Notes about runs that have the same weights although their settings differ: those settings have no effect.
pub(super) fn without_effect(rows: &[&Row]) -> Vec<String> {
    let mut notes = vec![];
    for (number, row) in rows.iter().enumerate().filter(|(_, row)| !row.weights.is_empty()) {
        let Some(first) = rows[..number].iter().find(|first| first.weights == row.weights) else { continue };
        let differ = varied(&[first, row]);
        if !differ.is_empty() {
            let (a, b, keys) = (&first.run, &row.run, differ.join(", "));
            notes.push(format!(
                "{a} and {b} have the same weights to the last bit, although they differ in {keys}: it changed nothing here"
            ));
        }
    }
    notes
}

/// Keys whose values differ between runs.
pub(super) fn varied<'r>(rows: &[&'r Row]) -> Vec<&'r str> {
    let keys: BTreeSet<&String> = rows.iter().flat_map(|row| row.settings.keys()).collect();
    let differs = |key: &&String| rows.iter().any(|row| row.settings.get(*key) != rows[0].settings.get(*key));
    keys.into_iter().filter(differs).map(String::as_str).collect()
}

/// Groups of runs that differ only in the seed, the best mean first; empty if there is one group, or if none has two runs or two values.
pub(super) fn groups(rows: &[&Row], set: &Set) -> Vec<Group> {
    let select = set.select.as_str();
    let varied: Vec<&str> = varied(rows).into_iter().filter(|key| *key != "train.seed").collect();
    let mut by_settings: BTreeMap<BTreeMap<String, String>, Vec<(f64, &Row)>> = BTreeMap::new();
    for row in rows {
        let value = |key: &&str| (key.to_string(), row.settings.get(*key).map_or("–".into(), |v| v.trim_matches('"').to_string()));
        let group = by_settings.entry(varied.iter().map(value).collect()).or_default();
        group.extend(row.selected.map(|value| (value, *row)));
    }
    // Runs of different models or data are no sweep: a table of all they differ in says nothing.
    if rows.len() < 2 || varied.len() > 4 || by_settings.values().all(|runs| runs.len() < 2) && varied.len() != 1 {
        return vec![];
    }
    let mut groups: Vec<Group> = by_settings
        .into_iter()
        .filter_map(|(settings, runs)| {
            let n = runs.len() as f64;
            let mean = runs.iter().map(|(v, _)| v).sum::<f64>() / n;
            let square = runs.iter().map(|(v, _)| (v - mean).powi(2)).sum::<f64>();
            let better = |a: &f64, b: &f64| if less_is_better(select) { a.total_cmp(b) } else { b.total_cmp(a) };
            let (best, row) = runs.iter().min_by(|a, b| better(&a.0, &b.0))?;
            let deviation = (runs.len() > 1).then(|| (square / (n - 1.0)).sqrt());
            Some(Group { set: set.number, settings, runs: runs.len(), mean, deviation, best: *best, best_run: row.run.clone() })
        })
        .collect();
    groups.sort_by(|a, b| if less_is_better(select) { a.mean.total_cmp(&b.mean) } else { b.mean.total_cmp(&a.mean) });
    groups
}
