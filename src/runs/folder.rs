//! What a run folder holds, as far as it can be read.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::files;
use crate::metrics::improves;
use crate::plots::Curves;
use crate::train::{Checkpoint, in_use};

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

/// Curves of a run, from its metrics.
pub(super) fn curves(lines: &[Line]) -> Curves {
    let mut curves = Curves::new();
    for line in lines {
        let Some(step) = line.values["step"].as_f64() else { continue };
        for (metric, value) in line.values.as_object().into_iter().flatten() {
            if let Some(value) = value.as_f64().filter(|_| !["step", "epoch"].contains(&metric.as_str())) {
                curves.entry((line.split.clone(), metric.clone())).or_default().push((step, value));
            }
        }
    }
    curves
}

/// The log of a run; empty if there is none.
pub(super) fn log(folder: &Path) -> String {
    files::text(&folder.join("train.log"), files::LARGE).unwrap_or_default()
}

/// What the log says of the memory of its newest session.
pub(super) fn memory(log: &str) -> Option<String> {
    log.lines().rev().find_map(|line| line.strip_prefix("memory")).map(|memory| memory.trim().to_string())
}

/// True if a process holds the lock of the folder.
pub(super) fn held(folder: &Path) -> bool {
    File::open(folder.join(".lock")).is_ok_and(|lock| {
        let held = in_use(folder, lock.try_lock_shared());
        // As a run gives its own back: a process that is just being started may have a copy of the file.
        let _ = lock.unlock();
        held
    })
}

/// True if a run in this folder has begun to write its metrics, and has not ended.
pub(crate) fn is_live(folder: &Path) -> bool {
    folder.join("metrics.jsonl").exists() && held(folder)
}

/// How an unfinished run is gone on with: `--resume` takes its newest checkpoint, and without one begins again.
pub(super) fn way_on(folder: &Path) -> &'static str {
    match Checkpoint::list(&folder.join("checkpoints")) {
        Ok(found) if found.is_empty() => " before its first checkpoint: --resume starts it anew",
        _ => ": --resume goes on",
    }
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

/// The run folders that are meant: a folder that is no run's but holds some, such as that of a sweep, stands for these, in the order of
/// their names and without the attempts that a restart has set aside.
pub fn members(paths: &[PathBuf]) -> Vec<PathBuf> {
    let is_run = |path: &Path| path.join("metrics.jsonl").exists();
    let inside = |path: &PathBuf| {
        let entries = std::fs::read_dir(path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        let mut runs: Vec<PathBuf> = entries.filter(|run| is_run(run) && !is_attempt(&run.display().to_string())).collect();
        runs.sort();
        // What is neither is named where it is read.
        if is_run(path) || runs.is_empty() { vec![path.clone()] } else { runs }
    };
    paths.iter().flat_map(inside).collect()
}

/// True for a folder that a restart has set aside.
pub(super) fn is_attempt(run: &str) -> bool {
    run.trim_end_matches('/').rsplit_once("-attempt-").is_some_and(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_sweep_stands_for_its_runs() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for run in ["sweep/b", "sweep/a", "sweep/a-attempt-1", "sweep/a/inside"] {
            std::fs::create_dir_all(path(run)).unwrap();
            std::fs::write(path(run).join("metrics.jsonl"), "").unwrap();
        }
        std::fs::create_dir(path("sweep/empty")).unwrap();
        assert_eq!(members(&[path("sweep")]), [path("sweep/a"), path("sweep/b")]);
        // A run is itself, whatever lies in it, and so is what is no run.
        let others = [path("sweep/a"), path("sweep/a-attempt-1"), path("sweep/empty"), path("nowhere")];
        assert_eq!(members(&others), others);
    }
}
