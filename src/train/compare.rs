//! Runs side by side: a table as the experiment logs have it, and their curves in one picture.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::logs::duration;
use super::plot::{Chart, Curve, draw};
use crate::error::{Error, Result};

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
    /// Epoch of the best validation loss, from 1.
    pub best_epoch: Option<u64>,
    /// Validation loss there.
    pub best_loss: Option<f64>,
    /// The telling metric there: cosine, or the ninth number's accuracy.
    pub score: Option<f64>,
    /// The telling metric at its highest, in whichever epoch.
    pub highest: Option<f64>,
    /// Cosine out of distribution.
    pub ood_cosine: Option<f64>,
    /// Seconds spent.
    pub seconds: Option<f64>,
    /// How it ended, or that it did not.
    pub status: String,
}

/// Runs side by side.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// What `score` is.
    pub score: String,
    /// One row a run, the best score first.
    pub rows: Vec<Row>,
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
    Ok(text.lines().filter_map(|l| serde_json::from_str(l).ok()).filter_map(line).collect())
}

/// Reads runs and, with `svg`, draws their validation curves.
///
/// # Errors
/// `MissingInput` for what is no run folder, `CannotCreate` or `Io` for a picture that cannot be written.
pub fn compare(folders: &[PathBuf], svg: Option<&Path>) -> Result<Comparison> {
    let mut rows = Vec::new();
    let mut curves: Vec<(String, [Points; 2])> = Vec::new();
    let mut losses = Vec::new();
    let mut score_name = "cosine";
    for folder in folders {
        let lines = lines(folder)?;
        let report: Value =
            std::fs::read_to_string(folder.join("report.json")).ok().and_then(|t| serde_json::from_str(&t).ok()).unwrap_or(Value::Null);
        let config: Value = std::fs::read_to_string(folder.join("config.toml"))
            .ok()
            .and_then(|t| t.parse::<toml::Table>().ok())
            .and_then(|t| serde_json::to_value(t).ok())
            .unwrap_or(Value::Null);
        let validations: Vec<&Line> = lines.iter().filter(|l| l.split == "validation").collect();
        let metric = if validations.iter().any(|l| l.values["cosine"].is_number()) { "cosine" } else { "ninth_accuracy" };
        if metric != "cosine" {
            score_name = metric;
        }
        let best = validations
            .iter()
            .filter_map(|l| Some((l, l.values["loss"].as_f64()?)))
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .map(|(line, loss)| (line.epoch + 1, loss, line.values[metric].as_f64()));
        // By epoch: steps of different batches are no measure.
        let points = |name: &str| validations.iter().filter_map(|l| Some((l.epoch as f64 + 1.0, l.values[name].as_f64()?))).collect();
        losses.push(config["loss"].to_string());
        let name = folder.display().to_string();
        curves.push((name.clone(), [points("loss"), points(metric)]));
        rows.push(Row {
            run: name,
            model: config["model"]["kind"].as_str().unwrap_or("?").to_string(),
            parameters: report["parameters"].as_u64(),
            epochs: lines.iter().filter(|l| l.split == "validation" || l.split == "epoch").map(|l| l.epoch + 1).max().unwrap_or(0),
            best_epoch: best.map(|b| b.0),
            best_loss: best.map(|b| b.1),
            score: best.and_then(|b| b.2),
            highest: validations.iter().filter_map(|l| l.values[metric].as_f64()).max_by(f64::total_cmp),
            ood_cosine: report["test"]["this model"]["ood_cosine"].as_f64(),
            seconds: report["seconds"].as_f64(),
            status: report["ended"].as_str().unwrap_or("not finished").to_string(),
        });
    }
    rows.sort_by(|a, b| b.score.unwrap_or(f64::NEG_INFINITY).total_cmp(&a.score.unwrap_or(f64::NEG_INFINITY)));
    if let Some(path) = svg {
        let chart = |title: &'static str, which: usize| Chart {
            title,
            x: "epoch",
            curves: curves.iter().map(|(name, points)| Curve { name: name.clone(), points: &points[which] }).collect(),
        };
        let mut charts = vec![chart(if score_name == "cosine" { "validation cosine" } else { "ninth accuracy" }, 1)];
        // Losses of different kinds have nothing to do with each other.
        if losses.windows(2).all(|pair| pair[0] == pair[1]) {
            charts.push(chart("validation loss", 0));
        }
        draw(path, &charts)?;
    }
    Ok(Comparison { score: score_name.into(), rows })
}

impl Comparison {
    fn cells(&self) -> Vec<[String; 11]> {
        let text = |v: Option<f64>, digits: usize| v.map_or("–".to_string(), |v| format!("{v:.digits$}"));
        let count = |v: Option<u64>| v.map_or("–".to_string(), |v| v.to_string());
        let header =
            ["run", "model", "parameters", "epochs", "best epoch", "best loss", &self.score, "highest", "OOD cosine", "time", "status"];
        let mut cells = vec![header.map(String::from)];
        cells.extend(self.rows.iter().map(|r| {
            [
                r.run.clone(),
                r.model.clone(),
                count(r.parameters),
                r.epochs.to_string(),
                count(r.best_epoch),
                text(r.best_loss, 6),
                text(r.score, 4),
                text(r.highest, 4),
                text(r.ood_cosine, 4),
                r.seconds.map_or("–".to_string(), duration),
                r.status.clone(),
            ]
        }));
        cells
    }

    /// An aligned table.
    pub fn table(&self) -> String {
        let cells = self.cells();
        let width = |c: usize| cells.iter().map(|row| row[c].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..11).map(width).collect();
        let mut out = String::new();
        for row in &cells {
            for (c, cell) in row.iter().enumerate() {
                // Names and status to the left, numbers to the right.
                let gap = " ".repeat(widths[c] - cell.chars().count());
                let _ = if [0, 1, 10].contains(&c) { write!(out, "{cell}{gap}  ") } else { write!(out, "{gap}{cell}  ") };
            }
            out.truncate(out.trim_end().len());
            out.push('\n');
        }
        out
    }

    /// A Markdown table.
    pub fn markdown(&self) -> String {
        let cells = self.cells();
        let line = |row: &[String; 11]| format!("| {} |\n", row.join(" | "));
        let mut out = line(&cells[0]);
        out += "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|\n";
        cells[1..].iter().for_each(|row| out += &line(row));
        out
    }
}
