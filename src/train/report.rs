//! The closing report of a run.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::metrics::{Column, MetricRows, Metrics, duration, table};

/// The closing table of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Run folder.
    pub run: String,
    /// Device.
    pub device: String,
    /// Weights.
    pub parameters: usize,
    /// Updates done.
    pub steps: u64,
    /// The most telling metric of its validations, by which runs are compared.
    pub score: String,
    /// The metric that chose the weights that are kept.
    pub select: String,
    /// Its value of these weights; none when nothing was validated and the last weights are kept.
    pub selected: Option<f64>,
    /// Step of the weights that are kept.
    pub best_step: u64,
    /// Epoch of the weights that are kept, from 1.
    pub best_epoch: u64,
    /// Why it ended.
    pub ended: String,
    /// Time spent in all sessions.
    pub seconds: f64,
    /// Updates skipped because something was not finite.
    pub skipped: u64,
    /// Validation metrics of the kept weights, when they were kept.
    pub best: Metrics,
    /// Metrics of the kept weights by set, and of the baselines.
    pub test: BTreeMap<String, Metrics>,
    /// Sentences about them.
    pub notes: Vec<String>,
    /// What went wrong, in a few words each.
    pub issues: Vec<String>,
    /// What was warned of on the way.
    pub warnings: Vec<String>,
    /// What was expected, what came, and whether it was met.
    pub expectations: Vec<(String, Option<f64>, bool)>,
    #[serde(skip)]
    pub(super) rows: MetricRows,
    #[serde(skip)]
    pub(super) columns: Vec<Column>,
}

impl Report {
    /// The report as an aligned table.
    pub fn table(&self) -> String {
        let kept = match self.selected {
            Some(value) => format!("best weights by {}, {value:.6}, of step {} (epoch {})", self.select, self.best_step, self.best_epoch),
            None => "the last weights, as no validation chose any".into(),
        };
        let mut out = format!(
            "{}: {} parameters, {} steps in {} ({:.1} steps/s), ended {}\n{kept}; device {}\n\n",
            self.run,
            self.parameters,
            self.steps,
            duration(self.seconds),
            self.steps as f64 / self.seconds.max(1e-9),
            self.ended,
            self.device
        );
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
        out
    }
}
