//! Runs side by side: a table by columns of choice, and their curves in one picture.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::charts::charts_of_set;
use super::columns::{self, Cell, Column, MechanismRow, Row};
use super::folder::{Line, best_of, configuration, held, is_attempt, lines, readable, report, way_on};
use super::groups::{Group, groups, without_effect};
use super::sets::{Set, sets, task};
use crate::config::ValidationConfig;
use crate::error::Result;
use crate::files;
use crate::metrics::{Heading, aligned, improves, less_is_better};
use crate::models::Features;
use crate::plots::{Chart, Points, draw};
use crate::train::TensorFile;
use crate::train::{Beat, DIVERGED};

/// Headings of a table, and its cells.
pub(super) type Cells = (Vec<Heading>, Vec<Vec<String>>);

/// Comparison of several runs.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// What can be ranked together: runs on the same data that the same metric has selected.
    pub sets: Vec<Set>,
    /// One row for each run, set by set, the best value first; of mechanism transformers in the given order.
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
}

/// Reads a run folder into a row without set and rank.
fn read(folder: &Path) -> Result<Row> {
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
    let points = |name: &str| -> Points { validations.iter().filter_map(|l| Some((l.epoch as f64, l.values[name].as_f64()?))).collect() };
    let of_training: Points =
        lines.iter().filter(|l| l.split == "epoch").filter_map(|l| Some((l.epoch as f64, l.values["loss"].as_f64()?))).collect();
    let of_selected = points(&select);
    // Of predictions that are the same for every input, the best.
    let constant = CONSTANT.iter().find_map(|name| report["test"][*name][metric].as_f64());
    let learned = constant.is_none_or(|constant| best.and_then(|b| b.2).is_some_and(|score| improves(metric, Some(constant), score, 0.0)));
    let at_best = best.and_then(|b| Some(b.1? - of_training.iter().find(|p| p.0 == b.0 as f64)?.1));
    let name = folder.display().to_string();
    let header = TensorFile::open(&folder.join("model.safetensors")).map(|file| file.header).unwrap_or_default();
    // Weights that were not trained are the same whatever was set.
    let trained = report["steps"].as_u64().is_some_and(|steps| steps > 0);
    let (data, checksums) = (header.data, if trained { header.checksums } else { BTreeMap::new() });
    Ok(Row {
        set: 0,
        rank: None,
        task: task(&config, &select),
        curves: [points(&select), points(metric), points("loss")],
        loss: config["loss"].to_string(),
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
        settings: flattened(&config),
        data,
        weights: checksums,
        metric: metric.to_string(),
        inference: None,
        status: match report["ended"].as_str() {
            _ if held(folder) => "live".to_string(),
            Some(ended) => ended.to_string(),
            None if folder.join(DIVERGED).exists() => {
                let why = files::text(&folder.join(DIVERGED), files::SMALL).unwrap_or_default();
                format!("diverged: {}", why.split(". ").next().unwrap_or_default())
            }
            None => format!("unfinished{}", way_on(folder)),
        },
    })
}

/// Compares runs and, with `svg`, draws their validation curves. Folders that cannot be read are left out with a note, if any can be.
///
/// # Errors
/// `MissingInput` when no folder is a run's, `CannotCreate` or `Io` when the picture cannot be written.
pub fn compare(folders: &[PathBuf], svg: Option<&Path>) -> Result<Comparison> {
    let (rows, left_out) = readable(folders, read)?;
    let (rows, sets) = sets(rows);
    // An attempt that a rule ended is no run of its own.
    let whole = |of: &Set| rows.iter().filter(|row| row.set == of.number && !is_attempt(&row.run)).collect::<Vec<_>>();
    let groups = sets.iter().flat_map(|set| groups(&whole(set), set)).collect();
    let notes = sets.iter().flat_map(|set| without_effect(&whole(set))).collect();
    let comparison = Comparison { sets, rows, groups, notes, left_out, columns: vec![] };
    if let Some(path) = svg {
        draw(path, &comparison.all_charts())?;
    }
    Ok(comparison)
}

/// Names of baselines that predict the same for every input.
const CONSTANT: [&str; 6] = ["mean", "majority class", "mean vector", "mean joint", "mean image", "uniform guess"];

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
fn flattened(config: &Value) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for (table, values) in config.as_object().into_iter().flatten() {
        match values.as_object() {
            Some(values) => values.iter().for_each(|(key, value)| drop(out.insert(format!("{table}.{key}"), value.to_string()))),
            None => drop(out.insert(table.clone(), values.to_string())),
        }
    }
    out
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

    fn cells(&self, set: &Set) -> Cells {
        let rows: Vec<&Row> = self.rows.iter().filter(|row| row.set == set.number).collect();
        let usual = columns::usual(rows.iter().all(|row| row.mechanism.is_some()), rows.iter().any(|row| row.inference.is_some()));
        let columns = if self.columns.is_empty() { &usual } else { &self.columns };
        let head = columns.iter().map(|c| (set.heading(c.name), c.left)).collect();
        let top = set.top(&rows);
        let row = |row: &&Row| columns.iter().map(|c| (c.cell)(&Cell { row, top })).collect();
        (head, rows.iter().map(row).collect())
    }

    /// Charts of a set.
    pub(super) fn charts(&self, set: &Set) -> Vec<Chart<'static>> {
        charts_of_set(set, &self.rows, &self.groups)
    }

    /// Charts of all sets, which their titles tell apart.
    fn all_charts(&self) -> Vec<Chart<'static>> {
        let named = |set: &Set, chart: Chart<'static>| match self.sets.len() {
            1 => chart,
            _ => Chart { title: format!("Set {}: {}", set.number, chart.title), ..chart },
        };
        self.sets.iter().flat_map(|set| self.charts(set).into_iter().map(|chart| named(set, chart))).collect()
    }

    /// Cells of the table of the groups of a set; none without groups.
    pub(super) fn group_cells(&self, set: &Set) -> Option<Cells> {
        let groups: Vec<&Group> = self.groups.iter().filter(|group| group.set == set.number).collect();
        let keys: Vec<String> = groups.first()?.settings.keys().cloned().collect();
        let head = keys.iter().map(|k| (k.clone(), true));
        let rest = [("runs", false), (&format!("mean {}", set.select), false), ("deviation", false), ("best", false), ("best run", true)];
        let head: Vec<Heading> = head.chain(rest.map(|(name, left)| (name.to_string(), left))).collect();
        let cells = groups.iter().map(|g| {
            let numbers = [
                g.runs.to_string(),
                format!("{:.4}", g.mean),
                g.deviation.map_or("–".into(), |d| format!("{d:.4}")),
                format!("{:.4}", g.best),
                g.best_run.clone(),
            ];
            keys.iter().map(|k| g.settings[k].clone()).chain(numbers).collect()
        });
        Some((head, cells.collect()))
    }

    /// Formats runs and groups as aligned tables.
    pub fn table(&self) -> String {
        self.written(Self::aligned)
    }

    /// Formats the runs and the groups of each set with `table`, followed by the notes.
    fn written(&self, table: fn(Cells) -> String) -> String {
        let several = self.sets.len() > 1;
        let of_set = |set: &Set| {
            let title = if several { format!("Set {}: {}\n\n", set.number, set.name) } else { String::new() };
            let groups = self.group_cells(set).map_or(String::new(), |cells| format!("\n{}", table(cells)));
            title + &table(self.cells(set)) + &groups
        };
        let sets = self.sets.iter().map(of_set).collect::<Vec<_>>().join("\n");
        sets + &self.notes.iter().map(|note| format!("\n{note}\n")).collect::<String>()
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

    #[test]
    fn no_better_than_what_is_the_same_for_every_input_is_no_learning() {
        let folder = tempfile::tempdir().unwrap();
        let line = |epoch: usize, value: f64| format!("{{\"split\":\"validation\",\"step\":{epoch},\"epoch\":{epoch},\"loss\":{value}}}\n");
        let lines: String = [9.0, 7.0, 8.0].iter().enumerate().map(|(i, value)| line(i + 1, *value)).collect();
        std::fs::write(folder.path().join("metrics.jsonl"), lines).unwrap();
        for (baseline, value, expected) in
            [("mean", 6.0, "no learning"), ("majority class", 6.0, "no learning"), ("mean", 8.0, "stalled"), ("last value", 6.0, "stalled")]
        {
            let report = format!("{{\"score\":\"loss\",\"test\":{{\"{baseline}\":{{\"loss\":{value}}}}}}}");
            std::fs::write(folder.path().join("report.json"), report).unwrap();
            assert_eq!(read(folder.path()).unwrap().verdict, expected, "{baseline} {value}");
        }
    }
}
