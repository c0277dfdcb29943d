//! What a run tells on its way: lines, metrics, event files, the progress bar, curves, and how far it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::checkpoint::{Progress, Warning};
use super::folder::{Beat, METRICS_CSV};
use super::logs::Logs;
use super::options::Options;
use super::rhythm::Rhythm;
use crate::error::Result;
use crate::files;
use crate::metrics::{Metrics, indented};
use crate::plots::{Curves, draw_curves};

/// Output of a run: logs, curves and status file.
#[derive(Debug)]
pub(super) struct Notes {
    logs: Logs,
    folder: PathBuf,
    rhythm: Rhythm,
    curves: Curves,
    csv: bool,
    /// What the status file says next.
    beat: Beat,
    /// Time at which it was last written.
    beaten: Option<Instant>,
    /// Time from which curves may be drawn again.
    redraw_after: Option<Instant>,
}

impl Notes {
    /// Opens the logs of a run folder at `step`, and reads the curves of the steps before.
    ///
    /// # Errors
    /// As `Logs::open`.
    pub(super) fn open(folder: &Path, step: u64, rhythm: Rhythm, options: &Options) -> Result<Notes> {
        let logs = Logs::open(folder, step, rhythm.end, (!options.quiet).then_some(&options.host))?;
        let curves = curves_of(&files::text(&folder.join("metrics.jsonl"), files::LARGE).unwrap_or_default());
        Ok(Notes {
            logs,
            folder: folder.into(),
            rhythm,
            curves,
            csv: options.csv || folder.join(METRICS_CSV).exists(),
            beat: Beat::default(),
            beaten: None,
            redraw_after: None,
        })
    }

    /// Writes a line to `train.log` and to the terminal.
    pub(super) fn say(&mut self, line: &str) {
        self.logs.say(line);
    }

    /// Prints a warning once, and keeps it for the report.
    pub(super) fn warn(&mut self, progress: &mut Progress, issue: String, text: String) {
        if progress.warnings.iter().all(|known| known.issue != issue) {
            self.say(&format!("WARNING: {text}"));
            progress.warnings.push(Warning { issue, text });
        }
    }

    /// Writes a line of metrics, and adds points to the curves.
    ///
    /// # Errors
    /// `Io` when it cannot be written.
    pub(super) fn record(&mut self, split: &str, step: u64, values: &[(&str, f64)]) -> Result<()> {
        for (name, value) in values {
            self.curves.entry((split.into(), (*name).into())).or_default().push((step as f64, *value));
        }
        self.logs.record(split, step, self.rhythm.epoch_of(step), values)
    }

    /// Writes metrics as `record` does.
    ///
    /// # Errors
    /// As `record`.
    pub(super) fn record_metrics(&mut self, split: &str, step: u64, metrics: &Metrics) -> Result<()> {
        self.record(split, step, &metrics.0.iter().map(|(name, value)| (name.as_str(), *value)).collect::<Vec<_>>())
    }

    /// Prints what the model has continued a text to, and writes it to the event file.
    ///
    /// # Errors
    /// `Io` when writing fails.
    pub(super) fn sample(&mut self, step: u64, text: &str) -> Result<()> {
        self.say(&format!("sample of step {step}:\n{}", indented(text, 2)));
        self.logs.text("validation/sample", step, text)
    }

    /// Updates the progress bar and, every two seconds, the status file; `rate` is the number of updates per second in this session, 0 as
    /// long as nothing is known of it.
    pub(super) fn progress(&mut self, progress: &Progress, message: &str, rate: f64, score: &str) {
        let (step, end) = (progress.step, self.rhythm.end);
        self.logs.progress(step, end, message, rate);
        self.beat = Beat { step, end, rate, process: std::process::id(), waiting: progress.waiting, score: score.into() };
        if self.beaten.is_none_or(|last| last.elapsed() > Duration::from_secs(2)) {
            self.beaten = Some(Instant::now());
            self.beat.tell(&self.folder);
        }
    }

    /// Draws the curves with a mark at the step of the `best` weights, and writes them as a table if that was asked for.
    ///
    /// # Errors
    /// `Io` when a file cannot be written.
    pub(super) fn draw(&self, chart: &(&str, Vec<&str>), baseline: Option<&str>, best: Option<u64>) -> Result<()> {
        if self.csv {
            files::write(&self.folder.join(METRICS_CSV), table(&self.curves, self.rhythm).as_bytes())?;
        }
        draw_curves(&self.folder.join("curves.svg"), &self.curves, chart, baseline, best)
    }

    /// Draws the curves after a validation, unless drawing would take more than a twentieth of the time.
    ///
    /// # Errors
    /// As `draw`.
    pub(super) fn redraw(&mut self, chart: &(&str, Vec<&str>), baseline: Option<&str>, best: Option<u64>) -> Result<()> {
        let start = Instant::now();
        if self.redraw_after.is_some_and(|after| start < after) {
            return Ok(());
        }
        self.draw(chart, baseline, best)?;
        self.redraw_after = Some(Instant::now() + 20 * start.elapsed());
        Ok(())
    }

    /// Flushes all buffers to the operating system.
    ///
    /// # Errors
    /// `Io` when it cannot be written.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.logs.flush()
    }

    /// Writes the last step into the status file, removes the progress bar and flushes.
    ///
    /// # Errors
    /// As `flush`.
    pub(super) fn close(&mut self) -> Result<()> {
        if self.beaten.is_some() {
            self.beat.tell(&self.folder);
        }
        self.logs.close()
    }
}

/// Formats the curves as comma-separated values: one row for each step, one column for each metric of each split, such as
/// `validation/loss`; empty cells where there is no value.
fn table(curves: &Curves, rhythm: Rhythm) -> String {
    let columns: Vec<_> = curves.iter().filter(|((_, name), _)| !["step", "epoch"].contains(&name.as_str())).collect();
    let mut rows: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for (at, (_, points)) in columns.iter().enumerate() {
        for (step, value) in *points {
            rows.entry(*step as u64).or_insert_with(|| vec![String::new(); columns.len()])[at] = value.to_string();
        }
    }
    let heads: String = columns.iter().map(|((split, name), _)| format!(",{split}/{name}")).collect();
    let row = |(step, values): (u64, Vec<String>)| format!("{step},{},{}\n", rhythm.epoch_of(step), values.join(","));
    format!("step,epoch{heads}\n{}", rows.into_iter().map(row).collect::<String>())
}

/// Curves of the steps before, read from the lines of `metrics.jsonl`.
fn curves_of(text: &str) -> Curves {
    let mut curves = Curves::new();
    for line in text.lines().filter_map(|l| serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(l).ok()) {
        let (Some(split), Some(step)) = (line.get("split").and_then(|s| s.as_str()), line.get("step").and_then(|s| s.as_f64())) else {
            continue;
        };
        for (name, value) in line.iter().filter_map(|(n, v)| Some((n, v.as_f64()?))) {
            curves.entry((split.into(), name.clone())).or_default().push((step, value));
        }
    }
    curves
}
