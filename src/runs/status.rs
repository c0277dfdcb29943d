//! How far runs are, read from their folders alone.

use std::path::Path;

use serde::Serialize;

use super::folder::{Line, best_of, configuration, held, lines, report, way_on};
use crate::config::{AbortRule, ValidationConfig};
use crate::error::Result;
use crate::metrics::{aligned, duration, less_is_better};
use crate::train::{Beat, DIVERGED};

/// Progress of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Path of the run folder.
    pub run: String,
    /// State: live, ended, diverged or stopped.
    pub state: String,
    /// Number of epochs done.
    pub epoch: u64,
    /// Number of epochs in the configuration.
    pub epochs: Option<u64>,
    /// Number of updates done, as far as the folder shows.
    pub step: u64,
    /// Number of updates after which a live run ends.
    pub steps: Option<u64>,
    /// Updates per second, while the run is live.
    pub rate: Option<f64>,
    /// Remaining time in seconds, while the run is live.
    pub eta: Option<f64>,
    /// Name of the selected metric.
    pub select: String,
    /// Best value of that metric so far, and its epoch.
    pub best: Option<(f64, u64)>,
    /// Step of that value.
    pub best_step: Option<u64>,
    /// Validations in a row without an improvement and the number of them that ends the run, while it is live and patience is limited.
    pub patience: Option<(u64, u64)>,
    /// Abort rules: metric, its last value, and the distance of that from the limit.
    pub rules: Vec<(String, f64, f64)>,
    /// Number (PID) of the process of a live run.
    pub process: Option<u32>,
}

/// Reads the progress of the run in a folder.
///
/// # Errors
/// `MissingInput` for a folder that is not a run's, `Data` for damaged files.
pub fn status(folder: &Path) -> Result<Status> {
    of_lines(folder, &lines(folder)?)
}

/// The progress of the run in a folder, whose metrics have been read.
pub(super) fn of_lines(folder: &Path, lines: &[Line]) -> Result<Status> {
    let report = report(folder)?;
    let beat = Beat::of(folder);
    let config = configuration(folder);
    let validation: ValidationConfig = serde_json::from_value(config["validation"].clone()).unwrap_or_default();
    let live = held(folder);
    let beat = beat.unwrap_or_default();
    let step = lines.iter().filter_map(|l| l.values["step"].as_u64()).max().unwrap_or(0).max(beat.step);
    let done = lines.iter().filter(|l| l.split == "epoch" || l.split == "validation").map(|l| l.epoch).max().unwrap_or(0);
    let best = best_of(lines, &validation.select);
    let rules: Vec<AbortRule> = serde_json::from_value(config["abort_if"].clone()).unwrap_or_default();
    let margin = |rule: &AbortRule| {
        let (split, name) = rule.metric.split_once('_')?;
        let split = if split == "train" { "epoch" } else { split };
        let values: Vec<f64> = lines.iter().filter(|l| l.split == split).filter_map(|l| l.values[name].as_f64()).collect();
        let last = *values.last()?;
        let gain = |from: f64, to: f64| if less_is_better(&rule.metric) { from - to } else { to - from };
        let top = values.iter().copied().reduce(|a, b| if gain(a, b) > 0.0 { b } else { a })?;
        // A rule that does not look yet has no margin, and `flat` has none that shrinks.
        if done < rule.after_epoch || rule.flat.is_some() {
            return None;
        }
        let left =
            [rule.below.map(|limit| last - limit), rule.above.map(|limit| limit - last), rule.worse.map(|most| most - gain(last, top))];
        Some((rule.metric.clone(), last, left.into_iter().flatten().next()?))
    };
    let state = match report["ended"].as_str() {
        _ if live => "live".to_string(),
        Some(ended) => format!("ended {ended}"),
        None if folder.join(DIVERGED).exists() => format!("diverged: see its {DIVERGED}"),
        None => format!("stopped{}", way_on(folder)),
    };
    let rate = (live && beat.rate > 0.0).then_some(beat.rate);
    Ok(Status {
        run: folder.display().to_string(),
        state,
        epoch: done,
        steps: Some(beat.end).filter(|end| live && *end > 0),
        epochs: config["train"]["epochs"].as_u64(),
        step,
        rate,
        eta: rate.map(|rate| beat.end.saturating_sub(step) as f64 / rate),
        select: validation.select,
        best: best.map(|(value, line)| (value, line.epoch)),
        best_step: best.and_then(|(_, line)| line.values["step"].as_u64()),
        patience: (live && validation.patience > 0).then_some((beat.waiting, validation.patience)),
        rules: rules.iter().filter_map(margin).collect(),
        process: live.then_some(beat.process).filter(|p| *p > 0),
    })
}

/// Formats progress of runs as an aligned table.
pub fn status_table(statuses: &[Status]) -> String {
    let dash = || "–".to_string();
    let head =
        [("run", true), ("epoch", false), ("step", false), ("steps/s", false), ("ETA", false), ("best", true), ("nearest rule", true)];
    let head: Vec<(String, bool)> =
        head.into_iter().chain([("process", false), ("state", true)]).map(|(n, l)| (n.to_string(), l)).collect();
    let cells = statuses.iter().map(|s| {
        let nearest = s.rules.iter().min_by(|a, b| a.2.total_cmp(&b.2));
        vec![
            s.run.clone(),
            format!("{}/{}", s.epoch, s.epochs.map_or(dash(), |e| e.to_string())),
            s.step.to_string(),
            s.rate.map_or(dash(), |r| format!("{r:.1}")),
            s.eta.map_or(dash(), duration),
            s.best.map_or(dash(), |(value, epoch)| format!("{} {value:.5} in epoch {epoch}", s.select)),
            nearest.map_or(dash(), |(metric, value, left)| format!("{metric} {value:.4}, {left:.4} from its limit")),
            s.process.map_or(dash(), |p| p.to_string()),
            s.state.clone(),
        ]
    });
    aligned(&head, &cells.collect::<Vec<_>>())
}
