//! Programs that measure, each in a process of its own: a device that is lost or a driver that crashes ends that process alone, and one
//! that takes too long is ended.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::error::shortened;

/// Why there is no result.
#[derive(Debug)]
pub(super) enum Missing {
    /// For this reason.
    Failed(String),
    /// It did not end in time.
    TooLong,
    /// The user has ended all of it by a signal.
    Stopped(i32),
}

/// A result, or why there is none.
pub(super) type Found<T = Value> = Result<T, Missing>;

/// Starts programs.
pub(super) struct Children {
    /// This program.
    pub(super) program: PathBuf,
    /// Device that is measured, by its number.
    pub(super) device: String,
    /// Folder for what is made on the way.
    pub(super) scratch: PathBuf,
    /// Number of the signal that ends all of it; 0 so far.
    pub(super) stop: Arc<AtomicUsize>,
}

impl Children {
    /// Result that a command of this program prints as JSON, if it ends before `end`. A check that finds a difference prints it and
    /// fails, so what is printed counts.
    pub(super) fn engine(&self, args: &[&str], end: Instant) -> Found {
        self.engine_with(args, &[], end)
    }

    /// The same with these variables in the environment of the command.
    pub(super) fn engine_with(&self, args: &[&str], set: &[(&str, &Path)], end: Instant) -> Found {
        let mut command = Command::new(&self.program);
        // What `engine tune` has measured for the user's runs stays out of it.
        command.env("ENGINE_CACHE", self.scratch.join("untuned")).envs(set.iter().copied());
        self.result(command.args(args).args(["--json", "--device", &self.device]), end)
    }

    /// Result that a program prints as JSON.
    pub(super) fn result(&self, command: &mut Command, end: Instant) -> Found {
        let (status, out, err) = self.ended(command, end)?;
        match serde_json::from_str(&out) {
            Ok(value) => Ok(value),
            Err(_) if status.success() => Err(Missing::Failed(format!("no JSON: {}", shortened(&out)))),
            Err(_) => Err(Missing::Failed(format!("{status}: {}", shortened(last_words(&err))))),
        }
    }

    fn ended(&self, command: &mut Command, end: Instant) -> Found<(ExitStatus, String, String)> {
        let failed = |e: io::Error| Missing::Failed(e.to_string());
        // Files, as pipes would fill up.
        let (mut out, mut err) =
            (tempfile::tempfile_in(&self.scratch).map_err(failed)?, tempfile::tempfile_in(&self.scratch).map_err(failed)?);
        let stream = |file: &File| file.try_clone().map(Stdio::from).map_err(failed);
        let mut child = command.stdin(Stdio::null()).stdout(stream(&out)?).stderr(stream(&err)?).spawn().map_err(failed)?;
        let mut wait = || {
            loop {
                if let Some(status) = child.try_wait().map_err(failed)? {
                    return Ok(status);
                }
                match self.stop.load(Ordering::Relaxed) {
                    0 if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
                    0 => return Err(Missing::TooLong),
                    signal => return Err(Missing::Stopped(signal as i32)),
                }
            }
        };
        let status = wait().inspect_err(|_| {
            let _ = child.kill().and_then(|()| child.wait());
        })?;
        // A signal from a terminal reaches the child, too.
        match self.stop.load(Ordering::Relaxed) {
            0 => Ok((status, text(&mut out).map_err(failed)?, text(&mut err).map_err(failed)?)),
            signal => Err(Missing::Stopped(signal as i32)),
        }
    }
}

/// The last message of a program, without its name.
fn last_words(err: &str) -> &str {
    let from = err.rfind("engine: ").map_or(0, |at| at + "engine: ".len());
    err[from..].trim()
}

fn text(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
