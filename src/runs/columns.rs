//! The columns of a comparison of runs.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::inference::Inference;
use crate::metrics::duration;

/// One run of a comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Run folder.
    pub run: String,
    /// `model.kind`.
    pub model: String,
    /// Weights.
    pub parameters: Option<u64>,
    /// Epochs done.
    pub epochs: u64,
    /// Epoch of the kept weights, from 1.
    pub best_epoch: Option<u64>,
    /// The metric that chose them.
    pub select: String,
    /// Its value there.
    pub selected: Option<f64>,
    /// Validation loss there.
    pub best_loss: Option<f64>,
    /// The telling metric there: cosine, the last number's accuracy, an error in mm or of a pixel.
    pub score: Option<f64>,
    /// The telling metric at its best, in whichever epoch.
    pub peak: Option<f64>,
    /// Cosine out of distribution.
    pub ood_cosine: Option<f64>,
    /// Seconds spent.
    pub seconds: Option<f64>,
    /// Training loss of the best epoch.
    pub train_loss: Option<f64>,
    /// Validation loss less training loss at the best epoch.
    pub gap: Option<f64>,
    /// Whether it overfits, has stalled or is still improving.
    pub verdict: String,
    /// Device.
    pub device: Option<String>,
    /// What its report says that went wrong, in a few words each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub issues: Vec<String>,
    /// How it ended, or that it did not.
    pub status: String,
    /// First line of `notes.txt` in its folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Its configuration, key by key.
    #[serde(skip)]
    pub(super) settings: BTreeMap<String, String>,
    /// The metric that its score is of.
    #[serde(skip)]
    pub(super) metric: String,
    /// Checksums of the weights that it ended with, where it has.
    #[serde(skip)]
    pub(super) weights: BTreeMap<String, String>,
    /// What a prediction costs, where it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inference: Option<Inference>,
    /// What only mechanism transformers have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mechanism: Option<MechanismRow>,
}

/// What the experiment log of mechanism transformers says of a run.
#[derive(Debug, Clone, Serialize)]
pub struct MechanismRow {
    /// Features of a joint.
    pub features: String,
    /// How many frequencies.
    pub frequencies: String,
    /// Penalty of coordinates.
    pub loss: String,
    /// Features of the model.
    pub d_model: u64,
    /// Blocks.
    pub layers: u64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Error on its own predictions, in mm.
    pub free_distance: Option<f64>,
    /// Error of the mean joint, in mm.
    pub mean_joint: Option<f64>,
}

/// What a cell is made of.
pub(super) struct Cell<'r> {
    pub(super) row: &'r Row,
    /// By the score, from 1, where the scores have an order.
    pub(super) rank: Option<usize>,
    /// The best score of all runs.
    pub(super) top: Option<f64>,
}

/// One column.
pub(super) struct Column {
    pub(super) name: &'static str,
    /// Flush left.
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
    /// Errors in mm have a digit less than scores.
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

    /// The sizes of the model, as in "layers 2, hidden 512".
    fn architecture(&self) -> String {
        let size = |(key, value): (&String, &String)| {
            let name = key.strip_prefix("model.")?;
            value.parse::<u64>().ok().map(|n| format!("{} {n}", name.replace('_', " ")))
        };
        let sizes: Vec<String> = self.row.settings.iter().filter_map(size).collect();
        if sizes.is_empty() { self.row.model.clone() } else { sizes.join(", ") }
    }

    /// All that went wrong: why it was ended, what its report says, what its curves do.
    fn issue(&self) -> String {
        let Row { status, issues, verdict, .. } = self.row;
        let ended = Some(status).filter(|status| ["aborted", "diverged"].iter().any(|how| status.starts_with(how)));
        let unknown = verdict == "–";
        let parts: Vec<&str> = ended.into_iter().chain(issues).chain((!unknown).then_some(verdict)).map(String::as_str).collect();
        if parts.is_empty() { status.clone() } else { parts.join("; ") }
    }

    /// The loss, as in "0.5 mse + 0.5 infonce".
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

/// Every column, by the name that `--columns` takes.
static ALL: [Column; 36] = [
    Column { name: "rank", left: false, cell: |c| c.rank.map_or("–".into(), |rank| rank.to_string()) },
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

/// The column of a name.
///
/// # Errors
/// `Config` where there is none, with all that there are.
pub(super) fn find(name: &str) -> Result<&'static Column> {
    let wanted = name.trim();
    ALL.iter().find(|column| column.name.eq_ignore_ascii_case(wanted)).ok_or_else(|| {
        let names: Vec<&str> = ALL.iter().map(|column| column.name).collect();
        Error::Config(format!("--columns: no column is called {wanted:?}. There are: {}", names.join(", ")))
    })
}

/// The columns of a table when none are asked for: of mechanism transformers those of their log.
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
