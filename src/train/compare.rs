//! Runs side by side: a table as the experiment logs have it, and their curves in one picture.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::logs::duration;
use super::plot::{Chart, Curve, draw};
use super::trainer::DIVERGED;
use crate::config::ValidationConfig;
use crate::error::{Error, Result};
use crate::metrics::{improves, less_is_better};
use crate::models::Features;

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
    /// The telling metric there: cosine, the ninth number's accuracy, an error in mm or of a pixel.
    pub score: Option<f64>,
    /// The telling metric at its best, in whichever epoch.
    pub peak: Option<f64>,
    /// Cosine out of distribution.
    pub ood_cosine: Option<f64>,
    /// Seconds spent.
    pub seconds: Option<f64>,
    /// How it ended, or that it did not.
    pub status: String,
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
    /// Training loss of the best epoch.
    pub train_loss: Option<f64>,
    /// Error on its own predictions, in mm.
    pub free_distance: Option<f64>,
    /// Error of the mean joint, in mm.
    pub mean_joint: Option<f64>,
}

/// Runs side by side.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// What `score` is.
    pub score: String,
    /// One row a run: the best score first; as given where scores differ in kind or all are mechanism transformers.
    pub rows: Vec<Row>,
}

/// The metric of which runs of a kind are compared.
fn metric_of(kind: &str) -> &'static str {
    match kind {
        "sequence_transformer" => "ninth_accuracy",
        "mechanism_transformer" => "distance",
        "image_vae" => "mse",
        _ => "cosine",
    }
}

/// Points of a curve.
type Points = Vec<(f64, f64)>;

/// A line of `metrics.jsonl`.
struct Line {
    split: String,
    epoch: u64,
    values: Value,
}

fn lines(folder: &Path) -> Result<Vec<Line>> {
    let path = folder.join("metrics.jsonl");
    let text = std::fs::read_to_string(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::MissingInput(format!("{} is no run folder: it has no metrics.jsonl", folder.display())),
        _ => Error::read(&path, &e),
    })?;
    let line = |values: Value| {
        let split = values["split"].as_str()?.to_string();
        Some(Line { split, epoch: values["epoch"].as_u64().unwrap_or(0), values })
    };
    let mut lines = Vec::new();
    for (number, text) in text.split_inclusive('\n').enumerate() {
        match serde_json::from_str(text).ok().and_then(line) {
            Some(line) => lines.push(line),
            // A run that is under way has written half of its last line.
            None if !text.ends_with('\n') => {}
            None => return Err(Error::Data(format!("{} line {}: no line of metrics: {}", path.display(), number + 1, text.trim_end()))),
        }
    }
    Ok(lines)
}

/// The report of a run that has ended.
fn report(folder: &Path) -> Result<Value> {
    let path = folder.join("report.json");
    match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).map_err(|e| Error::Data(format!("{}: no report: {e}", path.display()))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
        Err(e) => Err(Error::read(&path, &e)),
    }
}

/// Reads runs and, with `svg`, draws their validation curves.
///
/// # Errors
/// `MissingInput` for what is no run folder, `CannotCreate` or `Io` for a picture that cannot be written.
pub fn compare(folders: &[PathBuf], svg: Option<&Path>) -> Result<Comparison> {
    let mut rows = Vec::new();
    let mut curves: Vec<(String, [Points; 2])> = Vec::new();
    let mut losses = Vec::new();
    let mut scores = BTreeSet::new();
    for folder in folders {
        let lines = lines(folder)?;
        let report = report(folder)?;
        let config: Value = std::fs::read_to_string(folder.join("config.toml"))
            .ok()
            .and_then(|t| t.parse::<toml::Table>().ok())
            .and_then(|t| serde_json::to_value(t).ok())
            .unwrap_or(Value::Null);
        let validations: Vec<&Line> = lines.iter().filter(|l| l.split == "validation").collect();
        let kind = config["model"]["kind"].as_str().unwrap_or("?").to_string();
        let metric = metric_of(&kind);
        scores.insert(metric);
        let validation: ValidationConfig = serde_json::from_value(config["validation"].clone()).unwrap_or_default();
        let select = validation.select;
        let mut selected = None;
        let mut kept = None;
        for line in &validations {
            let value = line.values[select.as_str()].as_f64().unwrap_or(f64::NAN);
            if improves(&select, selected, value, validation.min_delta) {
                (selected, kept) = (Some(value), Some(line));
            }
        }
        let best = kept.map(|line| (line.epoch + 1, line.values["loss"].as_f64(), line.values[metric].as_f64()));
        let train_loss = lines.iter().find(|l| l.split == "epoch" && best.is_some_and(|b| l.epoch + 1 == b.0)).map(|l| &l.values["loss"]);
        // By epoch: steps of different batches are no measure.
        let points = |name: &str| validations.iter().filter_map(|l| Some((l.epoch as f64 + 1.0, l.values[name].as_f64()?))).collect();
        losses.push(config["loss"].to_string());
        let name = folder.display().to_string();
        curves.push((name.clone(), [points("loss"), points(metric)]));
        rows.push(Row {
            run: name,
            mechanism: (kind == "mechanism_transformer").then(|| mechanism_row(&config, &report, train_loss.and_then(Value::as_f64))),
            model: kind,
            parameters: report["parameters"].as_u64(),
            epochs: lines.iter().filter(|l| l.split == "validation" || l.split == "epoch").map(|l| l.epoch + 1).max().unwrap_or(0),
            best_epoch: best.map(|b| b.0),
            select,
            selected,
            best_loss: best.and_then(|b| b.1),
            score: best.and_then(|b| b.2),
            peak: validations
                .iter()
                .filter_map(|l| l.values[metric].as_f64())
                .min_by(|a, b| if less_is_better(metric) { a.total_cmp(b) } else { b.total_cmp(a) }),
            ood_cosine: report["test"]["this model"]["ood_cosine"].as_f64(),
            seconds: report["seconds"].as_f64(),
            status: match report["ended"].as_str() {
                Some(ended) => ended.to_string(),
                None if folder.join(DIVERGED).exists() => format!("diverged: see its {DIVERGED}"),
                None => "unfinished: --resume goes on".to_string(),
            },
        });
    }
    // Runs of different kinds have no score in common.
    let score = scores.iter().copied().collect::<Vec<_>>().join(" / ");
    if scores.len() == 1 && !rows.iter().all(|r| r.mechanism.is_some()) {
        let sign = if less_is_better(&score) { -1.0 } else { 1.0 };
        let key = |row: &Row| row.score.map_or(f64::NEG_INFINITY, |v| sign * v);
        rows.sort_by(|a, b| key(b).total_cmp(&key(a)));
    }
    if let Some(path) = svg {
        let of = |which: usize| curves.iter().map(|(name, points)| Curve { name: name.clone(), points: &points[which] }).collect();
        let title = format!("validation {score}");
        let mut charts = vec![Chart { title: &title, x: "epoch", curves: of(1) }];
        // Losses of different kinds have nothing to do with each other.
        if losses.windows(2).all(|pair| pair[0] == pair[1]) {
            charts.push(Chart { title: "validation loss", x: "epoch", curves: of(0) });
        }
        draw(path, &charts)?;
    }
    Ok(Comparison { score, rows })
}

fn mechanism_row(config: &Value, report: &Value, train_loss: Option<f64>) -> MechanismRow {
    let features: Option<Features> = serde_json::from_value(config["model"]["features"].clone()).ok();
    let (mut features, frequencies) = features.map_or(("?".into(), "?".into()), |f| f.describe());
    if config["data"]["normalize"] == Value::Bool(false) {
        features += ", not normalised";
    }
    MechanismRow {
        features,
        frequencies,
        loss: config["loss"]["coordinates"].as_str().unwrap_or("?").to_string(),
        d_model: config["model"]["d_model"].as_u64().unwrap_or(0),
        layers: config["model"]["layers"].as_u64().unwrap_or(0),
        weight_decay: config["optimizer"]["weight_decay"].as_f64().unwrap_or(f64::NAN),
        train_loss,
        free_distance: report["test"]["this model"]["free_distance"].as_f64(),
        mean_joint: report["test"]["mean joint"]["distance"].as_f64(),
    }
}

/// A heading, and whether its column is flush left.
type Heading = (String, bool);

impl Comparison {
    fn cells(&self) -> (Vec<Heading>, Vec<Vec<String>>) {
        let text = |v: Option<f64>, digits: usize| v.map_or("–".to_string(), |v| format!("{v:.digits$}"));
        let count = |v: Option<u64>| v.map_or("–".to_string(), |v| v.to_string());
        let time = |r: &Row| r.seconds.map_or("–".to_string(), duration);
        let headings = |names: &[(&str, bool)]| names.iter().map(|(n, left)| (n.to_string(), *left)).collect();
        if let Some(rows) = self.rows.iter().map(|r| r.mechanism.as_ref().map(|m| (r, m))).collect::<Option<Vec<_>>>() {
            let head = headings(&[
                ("run", true),
                ("features", true),
                ("frequencies", false),
                ("loss", true),
                ("d", false),
                ("L", false),
                ("decay", false),
                ("selected by", true),
                ("value", false),
                ("train loss", false),
                ("val. loss", false),
                ("error (mm)", false),
                ("free (mm)", false),
                ("mean joint", false),
                ("epoch", false),
                ("time", false),
                ("status", true),
            ]);
            let cells = rows.into_iter().map(|(r, m)| {
                vec![
                    r.run.clone(),
                    m.features.clone(),
                    m.frequencies.clone(),
                    m.loss.clone(),
                    m.d_model.to_string(),
                    m.layers.to_string(),
                    m.weight_decay.to_string(),
                    r.select.clone(),
                    text(r.selected, 4),
                    text(m.train_loss, 4),
                    text(r.best_loss, 4),
                    text(r.score, 3),
                    text(m.free_distance, 3),
                    text(m.mean_joint, 3),
                    format!("{}/{}", count(r.best_epoch), r.epochs),
                    time(r),
                    r.status.clone(),
                ]
            });
            return (head, cells.collect());
        }
        let head = headings(&[
            ("run", true),
            ("model", true),
            ("parameters", false),
            ("epochs", false),
            ("best epoch", false),
            ("selected by", true),
            ("value", false),
            ("loss", false),
            (&self.score, false),
            ("its peak", false),
            ("OOD cosine", false),
            ("time", false),
            ("status", true),
        ]);
        let cells = self.rows.iter().map(|r| {
            vec![
                r.run.clone(),
                r.model.clone(),
                count(r.parameters),
                r.epochs.to_string(),
                count(r.best_epoch),
                r.select.clone(),
                text(r.selected, 6),
                text(r.best_loss, 6),
                text(r.score, 4),
                text(r.peak, 4),
                text(r.ood_cosine, 4),
                time(r),
                r.status.clone(),
            ]
        });
        (head, cells.collect())
    }

    /// An aligned table.
    pub fn table(&self) -> String {
        let (head, cells) = self.cells();
        let names: Vec<String> = head.iter().map(|(name, _)| name.clone()).collect();
        let rows: Vec<&Vec<String>> = std::iter::once(&names).chain(&cells).collect();
        let width = |c: usize| rows.iter().map(|row| row[c].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        let mut out = String::new();
        for row in rows {
            for (c, cell) in row.iter().enumerate() {
                let gap = " ".repeat(widths[c] - cell.chars().count());
                let _ = if head[c].1 { write!(out, "{cell}{gap}  ") } else { write!(out, "{gap}{cell}  ") };
            }
            out.truncate(out.trim_end().len());
            out.push('\n');
        }
        out
    }

    /// A Markdown table.
    pub fn markdown(&self) -> String {
        let (head, cells) = self.cells();
        let mut out = format!("| {} |\n", head.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" | "));
        out += &format!("|{}|\n", head.iter().map(|(_, left)| if *left { "---" } else { "---:" }).collect::<Vec<_>>().join("|"));
        cells.iter().for_each(|row| out += &format!("| {} |\n", row.join(" | ")));
        out
    }
}
