//! The columns of a comparison of runs.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::inference::Inference;
use crate::metrics::duration;
use crate::plots::Points;

/// One run in a comparison.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Row {
    /// Number of its set, from 1: runs of different sets are not ranked together.
    pub set: usize,
    /// Rank in its set by the metric that chose the kept weights, from 1.
    pub rank: Option<usize>,
    /// Path of the run folder.
    pub run: String,
    /// Kind of the model, `model.kind`.
    pub model: String,
    /// Number of weights of the model.
    pub parameters: Option<u64>,
    /// Number of epochs done.
    pub epochs: u64,
    /// Epoch of the kept weights, from 1.
    pub best_epoch: Option<u64>,
    /// Name of the metric that chose the kept weights.
    pub select: String,
    /// Value of that metric for the kept weights.
    pub selected: Option<f64>,
    /// Validation loss of the kept weights.
    pub best_loss: Option<f64>,
    /// Score of the kept weights, by the most important metric: cosine, accuracy of the last integer, an error in mm or of a pixel.
    pub score: Option<f64>,
    /// Best value of that metric in any epoch.
    pub peak: Option<f64>,
    /// Cosine of the kept weights on the set out of distribution.
    pub ood_cosine: Option<f64>,
    /// Training time in seconds.
    pub seconds: Option<f64>,
    /// Training loss in the epoch of the kept weights.
    pub train_loss: Option<f64>,
    /// Validation loss minus training loss in the epoch of the kept weights.
    pub gap: Option<f64>,
    /// Verdict on the curves, such as overfits, stalled or still improving.
    pub verdict: String,
    /// Description of the device.
    pub device: Option<String>,
    /// Short names of the problems that its report lists.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub issues: Vec<String>,
    /// Way in which the run ended, or a note that it has not.
    pub status: String,
    /// First line of `notes.txt` in its folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Configuration as pairs of key and value.
    #[serde(skip)]
    pub(super) settings: BTreeMap<String, String>,
    /// Checksums of its data files, as far as its weights tell them.
    #[serde(skip)]
    pub(super) data: BTreeMap<String, String>,
    /// What it is about.
    #[serde(skip)]
    pub(super) task: Task,
    /// Its selected metric, its score and its validation loss by epoch.
    #[serde(skip)]
    pub(super) curves: [Points; 3],
    /// Configuration of its loss.
    #[serde(skip)]
    pub(super) loss: String,
    /// Name of the metric of its score.
    #[serde(skip)]
    pub(super) metric: String,
    /// Checksums of the final weights, if the run has ended.
    #[serde(skip)]
    pub(super) weights: BTreeMap<String, String>,
    /// Time and memory of a prediction, if they were measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inference: Option<Inference>,
    /// Further values for mechanism transformers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mechanism: Option<MechanismRow>,
}

/// What a run is about.
#[derive(Debug, Clone, Default)]
pub(super) struct Task {
    /// Kind of the data, the target and the metric.
    pub(super) common: String,
    /// Where the data come from.
    pub(super) source: String,
    /// The same for people.
    pub(super) name: String,
}

/// Values that the experiment log of mechanism transformers has for a run.
#[derive(Debug, Clone, Serialize)]
pub struct MechanismRow {
    /// Kind of Fourier features of a joint.
    pub features: String,
    /// Number of frequencies.
    pub frequencies: String,
    /// Penalty of the coordinates.
    pub loss: String,
    /// Number of features of a token.
    pub d_model: u64,
    /// Number of blocks.
    pub layers: u64,
    /// Coefficient of the weight decay.
    pub weight_decay: f64,
    /// Mean error of free-running predictions, in mm.
    pub free_distance: Option<f64>,
    /// Error of the mean joint (baseline), in mm.
    pub mean_joint: Option<f64>,
}

/// Values from which a cell of the table is made.
pub(super) struct Cell<'r> {
    pub(super) row: &'r Row,
    /// Best score of all runs of the set.
    pub(super) top: Option<f64>,
}

/// A column of the comparison.
pub(super) struct Column {
    pub(super) name: &'static str,
    /// True if the column is aligned to the left.
    pub(super) left: bool,
    pub(super) cell: fn(&Cell<'_>) -> String,
}

impl std::fmt::Debug for Column {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

fn text(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".to_string(), |v| format!("{v:.digits$}"))
}

fn count(value: Option<u64>) -> String {
    value.map_or("–".to_string(), |v| v.to_string())
}

impl Cell<'_> {
    /// Number of digits of a score; errors in mm have one less than others.
    fn digits(&self) -> usize {
        if self.row.mechanism.is_some() { 3 } else { 4 }
    }

    fn setting(&self, key: &str) -> String {
        self.row.settings.get(key).map_or("–".into(), |value| value.trim_matches('"').to_string())
    }

    fn mechanism(&self, cell: fn(&MechanismRow) -> String) -> String {
        self.row.mechanism.as_ref().map_or("–".into(), cell)
    }

    fn inference(&self, cell: fn(&Inference) -> String) -> String {
        self.row.inference.as_ref().map_or("–".into(), cell)
    }

    /// Sizes of the model, as in "layers 2, hidden 512".
    fn architecture(&self) -> String {
        let size = |(key, value): (&String, &String)| {
            let name = key.strip_prefix("model.")?;
            value.parse::<u64>().ok().map(|n| format!("{} {n}", name.replace('_', " ")))
        };
        let sizes: Vec<String> = self.row.settings.iter().filter_map(size).collect();
        if sizes.is_empty() { self.row.model.clone() } else { sizes.join(", ") }
    }

    /// All problems of the run: the reason for its end, the issues of its report and the verdict on its curves.
    fn issue(&self) -> String {
        let Row { status, issues, verdict, .. } = self.row;
        let ended = Some(status).filter(|status| ["aborted", "diverged"].iter().any(|how| status.starts_with(how)));
        let unknown = verdict == "–";
        let parts: Vec<&str> = ended.into_iter().chain(issues).chain((!unknown).then_some(verdict)).map(String::as_str).collect();
        if parts.is_empty() { status.clone() } else { parts.join("; ") }
    }

    /// Terms of the loss, as in "0.5 mse + 0.5 infonce".
    fn config(&self) -> String {
        let term = |(key, value): (&String, &String)| {
            let name = key.strip_prefix("loss.")?;
            let value: serde_json::Value = serde_json::from_str(value).ok()?;
            let weight = value["weight"].as_f64()?;
            Some(if weight == 1.0 { name.to_string() } else { format!("{weight} {name}") })
        };
        let terms: Vec<String> = self.row.settings.iter().filter_map(term).collect();
        if terms.is_empty() { self.setting("loss.kind") } else { terms.join(" + ") }
    }
}

/// All columns, with the names that `--columns` takes.
static ALL: [Column; 36] = [
    Column { name: "rank", left: false, cell: |c| c.row.rank.map_or("–".into(), |rank| rank.to_string()) },
    Column { name: "run", left: true, cell: |c| c.row.run.clone() },
    Column { name: "model", left: true, cell: |c| c.row.model.clone() },
    Column { name: "architecture", left: true, cell: |c| c.architecture() },
    Column { name: "config", left: true, cell: |c| c.config() },
    Column { name: "learning rate", left: false, cell: |c| c.setting("optimizer.learning_rate") },
    Column { name: "parameters", left: false, cell: |c| count(c.row.parameters) },
    Column { name: "features", left: true, cell: |c| c.mechanism(|m| m.features.clone()) },
    Column { name: "frequencies", left: false, cell: |c| c.mechanism(|m| m.frequencies.clone()) },
    Column { name: "loss", left: true, cell: |c| c.mechanism(|m| m.loss.clone()) },
    Column { name: "d", left: false, cell: |c| c.mechanism(|m| m.d_model.to_string()) },
    Column { name: "L", left: false, cell: |c| c.mechanism(|m| m.layers.to_string()) },
    Column { name: "decay", left: false, cell: |c| c.setting("optimizer.weight_decay") },
    Column { name: "epochs", left: false, cell: |c| c.row.epochs.to_string() },
    Column { name: "best epoch", left: false, cell: |c| count(c.row.best_epoch) },
    Column { name: "epoch", left: false, cell: |c| format!("{}/{}", count(c.row.best_epoch), c.row.epochs) },
    Column { name: "selected by", left: true, cell: |c| c.row.select.clone() },
    Column { name: "value", left: false, cell: |c| text(c.row.selected, c.digits() + 2) },
    Column { name: "train loss", left: false, cell: |c| text(c.row.train_loss, 4) },
    Column { name: "val. loss", left: false, cell: |c| text(c.row.best_loss, c.digits() + 2) },
    Column { name: "score", left: false, cell: |c| text(c.row.score, c.digits()) },
    Column {
        name: "best",
        left: false,
        // The best of all runs so far has a mark.
        cell: |c| text(c.row.peak, c.digits()) + if c.row.peak.is_some() && c.row.peak == c.top { " *" } else { "" },
    },
    Column { name: "OOD cosine", left: false, cell: |c| text(c.row.ood_cosine, 4) },
    Column { name: "free (mm)", left: false, cell: |c| text(c.row.mechanism.as_ref().and_then(|m| m.free_distance), 3) },
    Column { name: "mean joint", left: false, cell: |c| text(c.row.mechanism.as_ref().and_then(|m| m.mean_joint), 3) },
    Column { name: "gap", left: false, cell: |c| text(c.row.gap, 4) },
    Column { name: "verdict", left: true, cell: |c| c.row.verdict.clone() },
    Column { name: "time", left: false, cell: |c| c.row.seconds.map_or("–".to_string(), duration) },
    Column { name: "batch 1 (ms)", left: false, cell: |c| c.inference(|i| format!("{:.2}", 1e3 * i.seconds_of_1)) },
    Column { name: "batch 64 (ms)", left: false, cell: |c| c.inference(|i| format!("{:.2}", 1e3 * i.seconds_of_64)) },
    Column { name: "samples/s", left: false, cell: |c| c.inference(|i| format!("{:.0}", 64.0 / i.seconds_of_64)) },
    Column { name: "memory (MiB)", left: false, cell: |c| c.inference(|i| format!("{:.1}", i.bytes as f64 / 1_048_576.0)) },
    Column {
        name: "device",
        left: true,
        cell: |c| c.row.device.as_deref().map_or("–".into(), |d| d.split(" (").next().unwrap_or(d).to_string()),
    },
    Column { name: "status", left: true, cell: |c| c.row.status.clone() },
    Column { name: "issue", left: true, cell: |c| c.issue() },
    Column { name: "note", left: true, cell: |c| c.row.note.clone().unwrap_or_default() },
];

/// Finds a column by its name.
///
/// # Errors
/// `Config` when there is none, with a list of all columns.
pub(super) fn find(name: &str) -> Result<&'static Column> {
    let wanted = name.trim();
    ALL.iter().find(|column| column.name.eq_ignore_ascii_case(wanted)).ok_or_else(|| {
        let names: Vec<&str> = ALL.iter().map(|column| column.name).collect();
        let metrics = "A metric stands in the column `score` of the runs that it selected";
        Error::Config(format!("--columns: no column is called {wanted:?}. There are: {}. {metrics}", names.join(", ")))
    })
}

/// The columns of a page that say something about runs side by side: run and value, and each other one in which they differ.
pub(super) fn telling(rows: &[&Row]) -> Vec<&'static Column> {
    const ALWAYS: [&str; 2] = ["run", "value"];
    const NAMES: [&str; 16] = [
        "rank",
        "run",
        "model",
        "parameters",
        "value",
        "score",
        "free (mm)",
        "OOD cosine",
        "best epoch",
        "epochs",
        "gap",
        "verdict",
        "time",
        "device",
        "status",
        "note",
    ];
    let cell = |column: &Column, row: &Row| (column.cell)(&Cell { row, top: None });
    let differs = |column: &Column| rows.iter().any(|row| cell(column, row) != cell(column, rows[0]));
    let columns = NAMES.into_iter().filter_map(|name| ALL.iter().find(|column| column.name == name));
    // A score that has ranked is there already.
    let again = |column: &Column| column.name == "score" && rows.iter().all(|row| row.metric == row.select);
    columns.filter(|column| ALWAYS.contains(&column.name) || differs(column) && !again(column)).collect()
}

/// Default columns of a table; for mechanism transformers, those of their experiment log.
pub(super) fn usual(mechanisms: bool, inference: bool) -> Vec<&'static Column> {
    const MECHANISMS: [&str; 21] = [
        "run",
        "features",
        "frequencies",
        "loss",
        "d",
        "L",
        "decay",
        "selected by",
        "value",
        "train loss",
        "val. loss",
        "score",
        "free (mm)",
        "best",
        "mean joint",
        "gap",
        "verdict",
        "epoch",
        "time",
        "status",
        "note",
    ];
    const OTHERS: [&str; 17] = [
        "rank",
        "run",
        "model",
        "parameters",
        "epochs",
        "best epoch",
        "selected by",
        "value",
        "val. loss",
        "score",
        "best",
        "OOD cosine",
        "gap",
        "verdict",
        "time",
        "device",
        "status",
    ];
    const INFERENCE: [&str; 4] = ["batch 1 (ms)", "batch 64 (ms)", "samples/s", "memory (MiB)"];
    let names: Vec<&str> = if mechanisms { MECHANISMS.to_vec() } else { [&OTHERS[..], &["note"]].concat() };
    let names = names.into_iter().chain(INFERENCE.into_iter().filter(|_| inference));
    names.filter_map(|name| ALL.iter().find(|column| column.name == name)).collect()
}
