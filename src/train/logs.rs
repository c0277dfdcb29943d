//! What a run writes while it goes: `metrics.jsonl`, event files, `train.log`, and the progress bar.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::tensorboard::EventWriter;
use crate::bar::Bar;
use crate::error::{Error, Result, visible};
use crate::fault;
use crate::files;
use crate::host::Host;
use crate::metrics::{duration, rate};

/// Log files of a run, and the progress bar.
#[derive(Debug)]
pub(crate) struct Logs {
    metrics: BufWriter<File>,
    metrics_path: PathBuf,
    events: EventWriter,
    text: File,
    bar: Option<Bar>,
    host: Option<Host>,
    last_line: Instant,
}

impl Logs {
    /// Opens the logs of a run folder at `step`; with a host they are printed, too. Lines of later steps, left by a crashed run, are
    /// removed.
    pub(crate) fn open(folder: &Path, step: u64, total: u64, host: Option<&Host>) -> Result<Logs> {
        let metrics_path = folder.join("metrics.jsonl");
        files::replaceable(&metrics_path)?;
        let kept: Vec<u8> = match File::open(&metrics_path) {
            Ok(file) => BufReader::new(file)
                .split(b'\n')
                .map_while(std::result::Result::ok)
                .filter(|line| {
                    let at = serde_json::from_slice::<Value>(line).ok().and_then(|v| v.get("step").and_then(Value::as_u64));
                    at.is_some_and(|at| at <= step)
                })
                .flat_map(|line| line.into_iter().chain([b'\n']))
                .collect(),
            Err(_) => Vec::new(),
        };
        files::write(&metrics_path, &kept)?;
        let metrics = OpenOptions::new().append(true).open(&metrics_path).map_err(|e| Error::create(&metrics_path, e))?;
        let text_path = folder.join("train.log");
        files::replaceable(&text_path)?;
        let text = OpenOptions::new().append(true).create(true).open(&text_path).map_err(|e| Error::create(&text_path, e))?;
        let bar = host.and_then(|host| Bar::new(host, total, "steps"));
        if let Some(bar) = &bar {
            bar.start_at(step);
        }
        let events = EventWriter::new(folder, step)?;
        Ok(Logs { metrics: BufWriter::new(metrics), metrics_path, events, text, bar, host: host.cloned(), last_line: Instant::now() })
    }

    /// Writes a line to `train.log` and to the terminal; errors are ignored.
    pub(crate) fn say(&mut self, line: &str) {
        let _ = writeln!(self.text, "{}", visible(line));
        match (&self.bar, &self.host) {
            (Some(bar), _) => bar.say(line),
            (None, Some(host)) => host.say(line),
            (None, None) => {}
        }
    }

    /// Writes a line of `metrics.jsonl`, and each value to the event file as `split/name`.
    pub(crate) fn record(&mut self, split: &str, step: u64, epoch: u64, values: &[(&str, f64)]) -> Result<()> {
        let mut line = Map::new();
        line.insert("split".into(), split.into());
        line.insert("step".into(), step.into());
        line.insert("epoch".into(), epoch.into());
        for (name, value) in values {
            // JSON has no NaN; null says that the value was not finite.
            line.insert((*name).into(), (*value).into());
            self.events.scalar(&format!("{split}/{name}"), step, *value)?;
        }
        writeln!(self.metrics, "{}", Value::Object(line)).map_err(|e| Error::write(&self.metrics_path, e))
    }

    /// Writes a text to the event file.
    pub(crate) fn text(&mut self, tag: &str, step: u64, text: &str) -> Result<()> {
        self.events.text(tag, step, text)
    }

    /// Updates the progress bar; without a terminal, prints a plain line every ten seconds. A rate of 0 is none yet.
    pub(crate) fn progress(&mut self, step: u64, total: u64, message: &str, per_second: f64) {
        match &self.bar {
            Some(bar) => {
                if per_second == 0.0 {
                    bar.start_at(step);
                }
                bar.show(step, message);
            }
            None if self.last_line.elapsed() > Duration::from_secs(10) => {
                self.last_line = Instant::now();
                let pace = || format!("  {} steps/s  ETA {}", rate(per_second), duration((total - step) as f64 / per_second));
                self.say(&format!("step {step}/{total}  {message}{}", if per_second > 0.0 { pace() } else { String::new() }));
            }
            None => {}
        }
    }

    /// Flushes all buffers to the operating system.
    pub(crate) fn flush(&mut self) -> Result<()> {
        fault::file("write").and_then(|()| self.metrics.flush()).map_err(|e| Error::write(&self.metrics_path, e))?;
        self.events.flush()
    }

    /// Removes the progress bar and flushes.
    pub(crate) fn close(&mut self) -> Result<()> {
        if let Some(bar) = &self.bar {
            bar.clear();
        }
        self.flush()
    }
}
