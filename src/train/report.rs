//! The closing report of a run.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::gpu::CardModel;
use crate::metrics::{Column, MetricRows, Metrics, duration, folded, indented, rate, table};
use crate::plan::counted;

/// Reason for which a run has ended that has done all of its steps.
pub(super) const ALL_DONE: &str = "all steps done";

/// Closing report of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Path of the run folder.
    pub run: String,
    /// Description of the device.
    pub device: String,
    /// Number of weights that were trained.
    pub parameters: usize,
    /// Number of weights that were not.
    #[serde(skip_serializing_if = "is_zero")]
    pub frozen: usize,
    /// Number of updates done.
    pub steps: u64,
    /// Name of the most important validation metric, by which runs are compared.
    pub score: String,
    /// Name of the metric that chose the kept weights.
    pub select: String,
    /// Value of that metric for the kept weights; none if there was no validation, so that the last weights are kept.
    pub selected: Option<f64>,
    /// Step of the kept weights; 0 if no validation chose any.
    pub best_step: u64,
    /// Epoch of the kept weights, from 1; 0 if no validation chose any.
    pub best_epoch: u64,
    /// Reason for which the run ended.
    pub ended: String,
    /// Training time of all sessions in seconds.
    pub seconds: f64,
    /// Number of tokens that an update of a run on text predicts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_step: Option<usize>,
    /// Floating-point operations of an update.
    pub operations_per_step: u64,
    /// What the kept weights continue `validation.sample` to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<String>,
    /// Number of updates skipped because loss or gradient was not finite.
    pub skipped: u64,
    /// Validation metrics of the kept weights, at the time they were chosen.
    pub best: Metrics,
    /// Metrics of the kept weights for each set, and of the baselines.
    pub test: BTreeMap<String, Metrics>,
    /// Notes on these metrics, one sentence each.
    pub notes: Vec<String>,
    /// Short names of the problems.
    pub issues: Vec<String>,
    /// Warnings during the run.
    pub warnings: Vec<String>,
    /// Expectations: text, value that was reached, and true if it is met.
    pub expectations: Vec<(String, Option<f64>, bool)>,
    #[serde(skip)]
    pub(super) rows: MetricRows,
    #[serde(skip)]
    pub(super) columns: Vec<Column>,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Report {
    /// Formats the report as an aligned table.
    pub fn table(&self) -> String {
        let kept = match self.selected {
            Some(value) => format!("best weights by {}, {value:.6}, of step {} (epoch {})", self.select, self.best_step, self.best_epoch),
            None => "the last weights, as no validation chose any".into(),
        };
        let ended = match self.ended.as_str() {
            ALL_DONE => format!("finished: {0} of {0} steps", self.steps),
            other => format!("{} steps, ended {other}", self.steps),
        };
        let per_second = self.steps as f64 / self.seconds.max(1e-9);
        let (time, tokens) = (duration(self.seconds), self.tokens_per_step.map(|tokens| rate(tokens as f64 * per_second)));
        let operations = self.operations_per_step as f64 * per_second;
        let share =
            CardModel::of(&self.device).map(|card| format!(" ({:.1} % of the peak of an {})", 100.0 * operations / card.peak(), card.name));
        let pace = [
            Some(format!("{} steps/s", rate(per_second))),
            tokens.map(|tokens| format!("{tokens} tokens/s")),
            Some(format!("{} GFLOP/s{}", rate(operations / 1e9), share.unwrap_or_default())),
        ];
        let pace = pace.into_iter().flatten().collect::<Vec<_>>().join(", ");
        let mut out = [
            self.run.clone(),
            folded(&ended, 2),
            format!("{time}, {pace}, {}", counted(self.parameters, self.frozen)),
            kept,
            folded(&format!("device {}", self.device), 2),
        ]
        .join("\n")
            + "\n\n";
        if self.skipped > 0 {
            out += &format!("{} updates were skipped because loss or gradient was not finite\n\n", self.skipped);
        }
        out += &table(&self.rows, &self.columns);
        out.push('\n');
        for (what, value, met) in &self.expectations {
            let got = value.map_or("not reached".to_string(), |v| format!("{v:.4}"));
            out += &format!("{}  {what}: {got}\n", if *met { "met   " } else { "MISSED" });
        }
        for warning in &self.warnings {
            out += &format!("WARNING: {warning}\n");
        }
        for note in &self.notes {
            out += &format!("{note}\n");
        }
        if let Some(sample) = &self.sample {
            out += &format!("\nsample of these weights:\n{}\n", indented(sample, 2));
        }
        out
    }
}
