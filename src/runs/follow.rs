//! A run as it is followed: its progress, its curves and what it said last.

use std::path::Path;

use super::folder::{curves, lines, log, memory};
use super::status::{Status, of_lines};
use crate::error::Result;
use crate::plots::{Chart, charts_of};

/// Number of lines of the log that are kept.
const SAID: usize = 3;

/// What is shown of a run that is followed.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) status: Status,
    /// Charts of the loss and of the selected metric.
    pub(crate) charts: Vec<Chart<'static>>,
    /// Newest training loss and newest selected metric of a validation, with their names; NaN for what is not finite.
    pub(crate) newest: Vec<(String, f64)>,
    /// Selected metric by validation, or the training loss before there are two.
    pub(crate) trend: Vec<f64>,
    /// Memory on the device.
    pub(crate) memory: Option<String>,
    /// Last lines of the log.
    pub(crate) said: Vec<String>,
}

/// Reads a run that is followed from its folder.
///
/// # Errors
/// As `status`.
pub(crate) fn follow(folder: &Path) -> Result<Followed> {
    let lines = lines(folder)?;
    let status = of_lines(folder, &lines)?;
    let (curves, log) = (curves(&lines), log(folder));
    let newest = |split: &str, metric: &str| {
        let line = lines.iter().rev().find(|line| line.split == split)?;
        // JSON has no NaN: null stands for it.
        Some(line.values.get(metric)?.as_f64().unwrap_or(f64::NAN))
    };
    let select = status.select.as_str();
    let of = |split: &str, metric: &str| {
        let points = curves.get(&(split.to_string(), metric.to_string()));
        points.map(|points| points.iter().map(|(_, value)| *value).collect()).unwrap_or_default()
    };
    let validations: Vec<f64> = of("validation", select);
    let mut charts = charts_of(&curves, &(select, vec![select]), None, status.best_step);
    charts.retain(|chart| !chart.small);
    let newest = [("train", "training", "loss"), ("validation", "validation", select)]
        .into_iter()
        .filter_map(|(split, name, metric)| Some((format!("{name} {metric}"), newest(split, metric)?)))
        .collect();
    let mut said: Vec<String> = log.lines().rev().filter(|line| !line.trim().is_empty()).take(SAID).map(String::from).collect();
    said.reverse();
    Ok(Followed {
        charts,
        newest,
        trend: if validations.len() > 1 { validations } else { of("train", "loss") },
        memory: memory(&log).map(|line| line.split(" (").next().unwrap_or_default().to_string()),
        said,
        status,
    })
}
