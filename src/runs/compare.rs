//! Runs side by side: a table by columns of choice, and their curves in one picture.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::columns::{self, Cell, Column, MechanismRow, Row};
use crate::config::ValidationConfig;
use crate::error::{Error, Result};
use crate::files;
use crate::metrics::{Heading, aligned, improves, less_is_better};
use crate::models::Features;
use crate::plots::{Chart, Curve, Points, Stroke, draw};
use crate::train::TensorFile;
use crate::train::{Beat, DIVERGED};

/// Statistics of runs that differ only in `train.seed`.
#[derive(Debug, Clone, Serialize)]
pub struct Group {
    /// Keys whose values differ between the groups, and their values in this one.
    pub settings: BTreeMap<String, String>,
    /// Number of runs with a score.
    pub runs: usize,
    /// Mean of the scores.
    pub mean: f64,
    /// Standard deviation of the scores (n − 1); none for a single run.
    pub deviation: Option<f64>,
    /// Best score in the group.
    pub best: f64,
    /// Run with the best score.
    pub best_run: String,
}

/// Headings of a table, and its cells.
type Cells = (Vec<Heading>, Vec<Vec<String>>);

/// Comparison of several runs.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Name of the metric of the scores.
    pub score: String,
    /// One row for each run, the best score first; in the given order if scores differ in kind or all are mechanism transformers.
    pub rows: Vec<Row>,
    /// Groups of runs that differ only in the seed, if seeds or settings were varied; else empty.
    pub groups: Vec<Group>,
    /// Notes about runs that have the same weights although their settings differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Reasons for which folders are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// Columns that were asked for; the default ones if empty.
    #[serde(skip)]
    columns: Vec<&'static Column>,
    /// For each run its name, its score by epoch and its validation loss by epoch.
    #[serde(skip)]
    curves: Vec<(String, [Points; 2])>,
    /// True if all runs minimise the same loss.
    #[serde(skip)]
    one_loss: bool,
}

/// A line of `metrics.jsonl`.
pub(super) struct Line {
    pub(super) split: String,
    pub(super) epoch: u64,
    pub(super) values: Value,
}

pub(super) fn lines(folder: &Path) -> Result<Vec<Line>> {
    let path = folder.join("metrics.jsonl");
    let text = files::text(&path, files::LARGE).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Error::MissingInput(format!("{} is no run folder: it has no metrics.jsonl", folder.display()).into())
        }
        _ => Error::read(&path, e),
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

/// Report of a run that has ended; null if there is none.
pub(super) fn report(folder: &Path) -> Result<Value> {
    let path = folder.join("report.json");
    match files::text(&path, files::SMALL) {
        Ok(text) => serde_json::from_str(&text).map_err(|e| Error::Data(format!("{}: no report: {e}", path.display()))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
        Err(e) => Err(Error::read(&path, e)),
    }
}

/// Configuration of a run, as far as it can be read.
pub(super) fn configuration(folder: &Path) -> Value {
    let table = files::text(&folder.join("config.toml"), files::SMALL).ok().and_then(|text| text.parse::<toml::Table>().ok());
    table.and_then(|table| serde_json::to_value(table).ok()).unwrap_or(Value::Null)
}

/// Best value of the selected metric, and the validation that reached it.
pub(super) fn best_of<'l>(lines: &'l [Line], select: &str) -> Option<(f64, &'l Line)> {
    let mut best: Option<(f64, &Line)> = None;
    for line in lines.iter().filter(|l| l.split == "validation") {
        let value = line.values[select].as_f64().unwrap_or(f64::NAN);
        if improves(select, best.map(|b| b.0), value, 0.0) {
            best = Some((value, line));
        }
    }
    best
}

/// Contents of one run folder.
struct Run {
    row: Row,
    metric: String,
    loss: String,
    /// Name of the run, its score by epoch and its validation loss by epoch.
    curves: (String, [Points; 2]),
}

fn read(folder: &Path) -> Result<Run> {
    let lines = lines(folder)?;
    let report = report(folder)?;
    let config = configuration(folder);
    let validations: Vec<&Line> = lines.iter().filter(|l| l.split == "validation").collect();
    let kind = config["model"]["kind"].as_str().unwrap_or("?").to_string();
    let validation: ValidationConfig = serde_json::from_value(config["validation"].clone()).unwrap_or_default();
    let select = validation.select;
    let told = report["score"].as_str().map(String::from);
    let metric = told.or_else(|| Some(Beat::of(folder)?.score)).filter(|score| !score.is_empty()).unwrap_or_else(|| select.clone());
    let metric = metric.as_str();
    // The report knows which weights were kept.
    let reported =
        validations.iter().find(|line| report["best_step"].as_u64().is_some_and(|step| line.values["step"].as_u64() == Some(step)));
    let kept = reported.and_then(|line| Some((line.values[select.as_str()].as_f64()?, *line))).or_else(|| best_of(&lines, &select));
    let selected = kept.map(|(value, _)| value);
    let best = kept.map(|(_, line)| (line.epoch, line.values["loss"].as_f64(), line.values[metric].as_f64()));
    let train_loss = lines.iter().find(|l| l.split == "epoch" && best.is_some_and(|b| l.epoch == b.0)).map(|l| &l.values["loss"]);
    // By epoch: steps of different batches are no measure.
    let points = |name: &str| validations.iter().filter_map(|l| Some((l.epoch as f64, l.values[name].as_f64()?))).collect();
    let of_training: Points =
        lines.iter().filter(|l| l.split == "epoch").filter_map(|l| Some((l.epoch as f64, l.values["loss"].as_f64()?))).collect();
    let of_selected: Points = validations.iter().filter_map(|l| Some((l.epoch as f64, l.values[select.as_str()].as_f64()?))).collect();
    // Of predictions that are the same for every input, the best.
    let constant = CONSTANT.iter().find_map(|name| report["test"][*name][metric].as_f64());
    let learned = constant.is_none_or(|constant| best.and_then(|b| b.2).is_some_and(|score| improves(metric, Some(constant), score, 0.0)));
    let at_best = best.and_then(|b| Some(b.1? - of_training.iter().find(|p| p.0 == b.0 as f64)?.1));
    let name = folder.display().to_string();
    let curves = (name.clone(), [points(metric), points("loss")]);
    let header = TensorFile::open(&folder.join("model.safetensors")).map(|file| file.header).unwrap_or_default();
    // Weights that were not trained are the same whatever was set.
    let trained = report["steps"].as_u64().is_some_and(|steps| steps > 0);
    let (data, checksums) = (header.data, if trained { header.checksums } else { BTreeMap::new() });
    let row = Row {
        run: name,
        mechanism: (kind == "mechanism_transformer").then(|| mechanism_row(&config, &report)),
        model: kind,
        parameters: report["parameters"].as_u64(),
        epochs: lines.iter().filter(|l| l.split == "validation" || l.split == "epoch").map(|l| l.epoch).max().unwrap_or(0),
        best_epoch: best.map(|b| b.0),
        verdict: verdict(&select, &of_selected, &of_training, best.map(|b| b.0 as f64), learned).into(),
        issues: report["issues"].as_array().into_iter().flatten().filter_map(|issue| Some(issue.as_str()?.to_string())).collect(),
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
        train_loss: train_loss.and_then(Value::as_f64),
        gap: at_best,
        device: report["device"].as_str().map(Into::into),
        note: files::text(&folder.join("notes.txt"), files::SMALL).ok().and_then(|t| t.lines().next().map(Into::into)),
        settings: flattened(&config, data),
        weights: checksums,
        metric: metric.to_string(),
        inference: None,
        status: match report["ended"].as_str() {
            Some(ended) => ended.to_string(),
            None if folder.join(DIVERGED).exists() => {
                let why = files::text(&folder.join(DIVERGED), files::SMALL).unwrap_or_default();
                format!("diverged: {}", why.split(". ").next().unwrap_or_default())
            }
            None => "unfinished: --resume goes on".to_string(),
        },
    };
    Ok(Run { metric: metric.to_string(), loss: config["loss"].to_string(), curves, row })
}

/// Reads run folders with `read`. Gives the results, and the errors of folders that cannot be read.
///
/// # Errors
/// The first one, when no folder can be read.
pub(crate) fn readable<T>(folders: &[PathBuf], read: impl Fn(&Path) -> Result<T>) -> Result<(Vec<T>, Vec<String>)> {
    let (mut runs, mut failed) = (vec![], vec![]);
    for folder in folders {
        match read(folder) {
            Ok(run) => runs.push(run),
            Err(error) => failed.push(error),
        }
    }
    if runs.is_empty() && !failed.is_empty() {
        return Err(failed.swap_remove(0));
    }
    Ok((runs, failed.iter().map(ToString::to_string).collect()))
}

/// Compares runs and, with `svg`, draws their validation curves. Folders that cannot be read are left out with a note, if any can be.
///
/// # Errors
/// `MissingInput` when no folder is a run's, `CannotCreate` or `Io` when the picture cannot be written.
pub fn compare(folders: &[PathBuf], svg: Option<&Path>) -> Result<Comparison> {
    let (runs, left_out) = readable(folders, read)?;
    let (mut rows, mut curves, mut losses, mut scores) = (vec![], vec![], vec![], BTreeSet::new());
    for run in runs {
        rows.push(run.row);
        curves.push(run.curves);
        losses.push(run.loss);
        scores.insert(run.metric);
    }
    // Runs of different kinds have no score in common.
    let score = scores.iter().map(String::as_str).collect::<Vec<_>>().join(" / ");
    if scores.len() == 1 && !rows.iter().all(|r| r.mechanism.is_some()) {
        let sign = if less_is_better(&score) { -1.0 } else { 1.0 };
        let key = |row: &Row| row.score.map_or(f64::NEG_INFINITY, |v| sign * v);
        rows.sort_by(|a, b| key(b).total_cmp(&key(a)));
    }
    // An attempt that a rule ended is no run of its own.
    let whole: Vec<&Row> = rows.iter().filter(|row| !is_attempt(&row.run)).collect();
    let groups = if scores.len() == 1 { groups(&whole, &score) } else { vec![] };
    let notes = without_effect(&whole);
    let one_loss = losses.windows(2).all(|pair| pair[0] == pair[1]);
    let comparison = Comparison { score, rows, groups, notes, left_out, columns: vec![], curves, one_loss };
    if let Some(path) = svg {
        draw(path, &comparison.charts())?;
    }
    Ok(comparison)
}

/// Names of baselines that predict the same for every input.
const CONSTANT: [&str; 4] = ["mean vector", "mean joint", "mean image", "uniform guess"];

/// Verdict on the curves of a run by the selected metric. "no learning": no better than a constant, or neither it nor the training loss has
/// changed by a hundredth since the first epoch. "still improving": the best value is in the last tenth of the epochs. "overfits": after
/// the best epoch the training loss fell while the metric got worse. "stalled": anything else.
fn verdict(select: &str, selected: &Points, training: &Points, best: Option<f64>, learned: bool) -> &'static str {
    let (Some(best), Some((last, end))) = (best, selected.last()) else { return "–" };
    if selected.len() < 3 {
        return "too short";
    }
    let still = |points: &Points| match &points[..] {
        [(_, first), rest @ ..] => rest.iter().all(|(_, value)| (value - first).abs() <= 0.01 * first.abs()),
        [] => true,
    };
    if !learned || still(selected) && still(training) {
        return "no learning";
    }
    if *last - best <= (last / 10.0).floor() {
        return "still improving";
    }
    let at = |points: &Points, epoch: f64| points.iter().find(|p| p.0 == epoch).map(|p| p.1);
    let top = at(selected, best).unwrap_or(f64::NAN);
    let worse = if less_is_better(select) { end - top } else { top - end };
    let falls = matches!((at(training, best), training.last()), (Some(then), Some((_, now))) if *now < then);
    if falls && worse > 0.01 * top.abs() { "overfits" } else { "stalled" }
}

/// All values of a configuration, with their keys `table.key`.
fn flattened(config: &Value, data: BTreeMap<String, String>) -> BTreeMap<String, String> {
    // Runs on files of the same names with other contents differ, too.
    let mut out: BTreeMap<String, String> = data.into_iter().map(|(key, sum)| (format!("{key} contents"), sum)).collect();
    for (table, values) in config.as_object().into_iter().flatten() {
        match values.as_object() {
            Some(values) => values.iter().for_each(|(key, value)| drop(out.insert(format!("{table}.{key}"), value.to_string()))),
            None => drop(out.insert(table.clone(), values.to_string())),
        }
    }
    out
}

/// Notes about runs that have the same weights although their settings differ: those settings have no effect.
fn without_effect(rows: &[&Row]) -> Vec<String> {
    let mut notes = vec![];
    for (number, row) in rows.iter().enumerate().filter(|(_, row)| !row.weights.is_empty()) {
        let Some(first) = rows[..number].iter().find(|first| first.weights == row.weights) else { continue };
        let keys: BTreeSet<&String> = first.settings.keys().chain(row.settings.keys()).collect();
        let differ: Vec<&str> =
            keys.into_iter().filter(|key| first.settings.get(*key) != row.settings.get(*key)).map(String::as_str).collect();
        if !differ.is_empty() {
            let (a, b, keys) = (&first.run, &row.run, differ.join(", "));
            notes.push(format!(
                "{a} and {b} have the same weights to the last bit, although they differ in {keys}: it changed nothing here"
            ));
        }
    }
    notes
}

/// True for a folder that a restart has set aside.
fn is_attempt(run: &str) -> bool {
    run.trim_end_matches('/').rsplit_once("-attempt-").is_some_and(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Groups of runs that differ only in the seed, the best mean first; empty if there is one group, or if none has two runs or two values.
fn groups(rows: &[&Row], score: &str) -> Vec<Group> {
    let seed = "train.seed";
    let keys: BTreeSet<&String> = rows.iter().flat_map(|r| r.settings.keys()).filter(|k| *k != seed).collect();
    let differs = |key: &String| rows.iter().any(|r| r.settings.get(key) != rows[0].settings.get(key));
    let varied: Vec<&String> = keys.into_iter().filter(|key| differs(key)).collect();
    let mut by_settings: BTreeMap<BTreeMap<String, String>, Vec<(f64, &Row)>> = BTreeMap::new();
    for row in rows {
        let value = |key: &&String| ((*key).clone(), row.settings.get(*key).map_or("–".into(), |v| v.trim_matches('"').to_string()));
        let group = by_settings.entry(varied.iter().map(value).collect()).or_default();
        group.extend(row.score.map(|score| (score, *row)));
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
            let better = |a: &f64, b: &f64| if less_is_better(score) { a.total_cmp(b) } else { b.total_cmp(a) };
            let (best, row) = runs.iter().min_by(|a, b| better(&a.0, &b.0))?;
            let deviation = (runs.len() > 1).then(|| (square / (n - 1.0)).sqrt());
            Some(Group { settings, runs: runs.len(), mean, deviation, best: *best, best_run: row.run.clone() })
        })
        .collect();
    groups.sort_by(|a, b| if less_is_better(score) { a.mean.total_cmp(&b.mean) } else { b.mean.total_cmp(&a.mean) });
    groups
}

fn mechanism_row(config: &Value, report: &Value) -> MechanismRow {
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
        free_distance: report["test"]["this model"]["free_distance"].as_f64(),
        mean_joint: report["test"]["mean joint"]["distance"].as_f64(),
    }
}

impl Comparison {
    /// Sets the columns of the table, in place of the default ones.
    ///
    /// # Errors
    /// `Config` for a name that no column has, with a list of all columns.
    pub fn choose(&mut self, names: &[String]) -> Result<()> {
        self.columns = names.iter().map(|name| columns::find(name)).collect::<Result<_>>()?;
        Ok(())
    }

    fn heading(&self, column: &Column) -> String {
        match column.name {
            "score" if self.score == "distance" => "error (mm)".into(),
            "score" => self.score.clone(),
            name => name.into(),
        }
    }

    fn cells(&self) -> Cells {
        let usual =
            columns::usual(self.rows.iter().all(|row| row.mechanism.is_some()), self.rows.iter().any(|row| row.inference.is_some()));
        let columns = if self.columns.is_empty() { &usual } else { &self.columns };
        let peaks = self.rows.iter().filter_map(|r| r.peak);
        let top = if less_is_better(&self.score) { peaks.min_by(f64::total_cmp) } else { peaks.max_by(f64::total_cmp) };
        // Scores of different kinds have no order, and a single run is no best of any.
        let of_one_kind = !self.score.contains(" / ");
        let top = top.filter(|_| of_one_kind && self.rows.len() > 1);
        let head = columns.iter().map(|c| (self.heading(c), c.left)).collect();
        let row = |(i, row): (usize, &Row)| {
            let rank = (of_one_kind && row.score.is_some()).then_some(i + 1);
            columns.iter().map(|c| (c.cell)(&Cell { row, rank, top })).collect()
        };
        (head, self.rows.iter().enumerate().map(row).collect())
    }

    /// Charts of the score by epoch, of the loss if all runs have the same one, and of the score by a numeric key if one key varies.
    pub(super) fn charts<'s>(&'s self) -> Vec<Chart<'s>> {
        let Comparison { score, groups, curves, one_loss, .. } = self;
        let of = |which: usize| {
            let curve = |(color, (name, points)): (usize, &'s (String, [Points; 2]))| Curve {
                name: name.clone(),
                points: points[which].as_slice().into(),
                color,
                stroke: Stroke::Full,
            };
            curves.iter().enumerate().map(curve).collect()
        };
        let mut charts = vec![Chart { title: format!("validation {score}"), x: "epoch".into(), curves: of(0), loss: false }];
        // Losses of different kinds have nothing to do with each other.
        if *one_loss {
            charts.push(Chart { title: "validation loss".into(), x: "epoch".into(), curves: of(1), loss: true });
        }
        let axis: Vec<(f64, &Group)> = groups
            .iter()
            .filter(|g| g.settings.len() == 1)
            .filter_map(|g| Some((g.settings.values().next()?.parse::<f64>().ok()?, g)))
            .collect();
        let over = |name: &str, color: usize, pick: fn(&Group) -> f64| {
            let mut points: Points = axis.iter().map(|(x, g)| (*x, pick(g))).collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            Curve { name: name.into(), points: points.into(), color, stroke: Stroke::Full }
        };
        if let Some(key) = axis.first().and_then(|(_, g)| g.settings.keys().next()).filter(|_| axis.len() > 1 && axis.len() == groups.len())
        {
            let curves = vec![over("mean", 0, |g| g.mean), over("best", 1, |g| g.best)];
            charts.push(Chart { title: format!("{score} by {key}"), x: key.clone(), curves, loss: false });
        }
        charts
    }

    /// Tables as cells, the headings first, with true for each column that is aligned to the left.
    pub(super) fn tables(&self) -> Vec<(Vec<Vec<String>>, Vec<bool>)> {
        let mut tables = vec![self.cells()];
        if !self.groups.is_empty() {
            tables.push(self.group_cells());
        }
        let rows = |(head, cells): Cells| {
            let (names, left): (Vec<String>, Vec<bool>) = head.into_iter().unzip();
            ([vec![names], cells].concat(), left)
        };
        tables.into_iter().map(rows).collect()
    }

    /// Name of the score's metric of a run.
    pub(super) fn score_of(&self, run: &str) -> &str {
        self.rows.iter().find(|row| row.run == run).map_or("loss", |row| &row.metric)
    }

    /// Cells of the table of groups.
    fn group_cells(&self) -> Cells {
        let keys: Vec<String> = self.groups.first().map(|g| g.settings.keys().cloned().collect()).unwrap_or_default();
        let head = keys.iter().map(|k| (k.clone(), true));
        let rest = [("runs", false), (&format!("mean {}", self.score), false), ("deviation", false), ("best", false), ("best run", true)];
        let head: Vec<Heading> = head.chain(rest.map(|(name, left)| (name.to_string(), left))).collect();
        let cells = self.groups.iter().map(|g| {
            let numbers = [
                g.runs.to_string(),
                format!("{:.4}", g.mean),
                g.deviation.map_or("–".into(), |d| format!("{d:.4}")),
                format!("{:.4}", g.best),
                g.best_run.clone(),
            ];
            keys.iter().map(|k| g.settings[k].clone()).chain(numbers).collect()
        });
        (head, cells.collect())
    }

    /// Formats runs and groups as aligned tables.
    pub fn table(&self) -> String {
        self.written(Self::aligned)
    }

    /// Formats runs and groups with `table`, followed by the notes.
    fn written(&self, table: fn(Cells) -> String) -> String {
        let runs = table(self.cells());
        let groups = if self.groups.is_empty() { String::new() } else { format!("\n{}", table(self.group_cells())) };
        let notes = self.notes.iter().map(|note| format!("\n{note}\n")).collect::<String>();
        runs + &groups + &notes
    }

    fn aligned((head, cells): Cells) -> String {
        // A column that says nothing is left out.
        let empty: Vec<bool> = (0..head.len()).map(|c| head[c].0 == "note" && cells.iter().all(|row| row[c].is_empty())).collect();
        let keep = |row: Vec<String>| row.into_iter().zip(&empty).filter(|(_, e)| !**e).map(|(v, _)| v).collect::<Vec<_>>();
        let (head, cells): Cells =
            (head.into_iter().zip(&empty).filter(|(_, e)| !**e).map(|(h, _)| h).collect(), cells.into_iter().map(keep).collect());
        aligned(&head, &cells)
    }

    /// Formats runs and groups as Markdown tables.
    pub fn markdown(&self) -> String {
        self.written(Self::markdown_of)
    }

    fn markdown_of((head, cells): Cells) -> String {
        let mut out = format!("| {} |\n", head.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" | "));
        out += &format!("|{}|\n", head.iter().map(|(_, left)| if *left { "---" } else { "---:" }).collect::<Vec<_>>().join("|"));
        let safe = |cell: &String| cell.replace('|', "\\|").replace('<', "&lt;");
        cells.iter().for_each(|row| out += &format!("| {} |\n", row.iter().map(safe).collect::<Vec<_>>().join(" | ")));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_follows_from_the_curves() {
        let curve = |values: &[f64]| -> Points { values.iter().enumerate().map(|(i, v)| (i as f64 + 1.0, *v)).collect() };
        let says = |selected: &[f64], training: &[f64], best: f64, learned| {
            verdict("loss", &curve(selected), &curve(training), Some(best), learned)
        };
        let falling: Vec<f64> = (0..40).map(|i| 1.0 / f64::from(i + 1)).collect();
        let still = vec![1.0; 40];
        assert_eq!(says(&falling, &falling, 40.0, true), "still improving");
        assert_eq!(says(&falling, &falling, 40.0, false), "no learning");
        assert_eq!(says(&still, &still, 1.0, true), "no learning");
        let worse: Vec<f64> = (0..40).map(|i| 1.0 + f64::from(i) / 40.0).collect();
        assert_eq!((says(&worse, &falling, 1.0, true), says(&still, &falling, 1.0, true)), ("overfits", "stalled"));
        assert_eq!(says(&falling[..2], &falling, 2.0, true), "too short");
    }
}
