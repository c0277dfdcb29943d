//! Arguments that commands share.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};

use crate::error::{Error, Failure, Result, argument};
use crate::files::{self, folder_of};
use crate::host::Host;
use crate::plan::Flat;
use crate::problem::{Loaded, Problem};
use crate::registry::Config;
use crate::runs::{compare, members};
use crate::session::Session;
use crate::train::Weights;

/// Version of the program, with the commit that it was built from where that is known.
pub(super) const VERSION: &str = env!("ENGINE_VERSION");

/// A run file and what is overridden in it.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Run file; those shipped are in data/runs/
    #[arg(value_name = "RUN.toml")]
    pub(super) run: PathBuf,
    /// Override a key, as in --set train.batch=64, or take it away, as in --set train.batch= (repeatable); `engine help keys` lists them
    #[arg(long = "set", value_name = "TABLE.KEY=VALUE", value_parser = KeyValue, hide_possible_values = true)]
    pub(super) set: Vec<String>,
}

/// A run folder and which of its weights are meant.
#[derive(Debug, Args)]
pub(super) struct RunFolderArgs {
    /// Run folder
    #[arg(value_name = "DIR", conflicts_with = "run")]
    folder: Option<PathBuf>,
    /// The same by its name
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Weights: the best so far, those of the newest checkpoint, or a file of them
    #[arg(long, value_name = "best|last|FILE", default_value = "best")]
    pub(super) checkpoint: String,
}

#[derive(Debug, Args)]
pub(super) struct DeviceArg {
    /// Adapter by number or part of its name (see `engine devices`)
    #[arg(long, value_name = "N|NAME")]
    pub(super) device: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct JsonArg {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Takes any text, and lets a shell complete the keys of a run file.
#[derive(Debug, Clone)]
pub(super) struct KeyValue;

impl TypedValueParser for KeyValue {
    type Value = String;

    fn parse_ref(&self, command: &clap::Command, arg: Option<&clap::Arg>, value: &OsStr) -> std::result::Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        // Of a list only the whole can be set.
        let keys = Config::tables().into_iter().flat_map(|table| table.keys).filter(|key| !key.name.contains("[]"));
        let names: BTreeSet<String> = keys.map(|key| format!("{}=", key.name)).collect();
        Some(Box::new(names.into_iter().map(PossibleValue::new)))
    }
}

impl RunArgs {
    /// Reads the configuration of the run file, with its overrides.
    pub(super) fn load(&self) -> Result<Config> {
        Config::load(&self.run, &self.set)
    }
}

impl RunFolderArgs {
    /// Arguments for a run folder that is already known.
    pub(super) fn named(run: PathBuf, checkpoint: String) -> Self {
        RunFolderArgs { folder: None, run: Some(run), checkpoint }
    }

    /// Path of the run folder.
    ///
    /// # Errors
    /// `Config` when none was named, `MissingInput` for a folder of runs, such as that of a sweep.
    pub(super) fn folder(&self) -> Result<&Path> {
        let none =
            || Error::Config("name a run folder, as in `engine eval runs/lvm_mlp`. `engine status` lists those that there are".into());
        let folder = self.folder.as_ref().or(self.run.as_ref()).ok_or_else(none)?;
        let runs = members(std::slice::from_ref(folder));
        if runs == [folder.clone()] {
            return Ok(folder);
        }
        // Of runs that have nothing in common there is no best.
        let best = compare(&runs, None).ok().filter(|of| of.sets.len() == 1).and_then(|of| Some(of.rows.first()?.run.clone()));
        let best = best.map_or(String::new(), |run| format!(": the best is {}", argument(Path::new(&run))));
        Err(Error::MissingInput(
            format!("{} is a folder of {} runs, such as that of a sweep. Name one of them{best}", folder.display(), runs.len()).into(),
        ))
    }
}

/// Opens the weights that were asked for, and prints on standard error which they are.
pub(super) fn weights_of(host: &Host, weights: &RunFolderArgs) -> Result<Weights> {
    let found = Weights::of_run(weights.folder()?, &weights.checkpoint)?;
    let step = found.step().map_or(String::new(), |step| format!(" of step {step}"));
    host.say(&format!("weights{step}: {}", found.path.display()));
    Ok(found)
}

/// Loads the data of a problem and the weights of a run, and creates an evaluation session.
pub(super) fn trained(host: &Host, mut weights: Weights, mut problem: Problem, device: Option<&str>) -> Result<(Loaded, Session)> {
    problem.use_saved_buffers(weights.buffers(problem.buffers())?);
    let (problem, _) = problem.load()?;
    let session = problem.evaluation(&Arc::new(host.open(device)?))?;
    session.arena.write_flat(Flat::Parameters, &weights.load(session.parameters())?)?;
    weights.unused(session.parameters(), problem.buffers()).iter().for_each(|note| host.note(note));
    Ok((problem, session))
}

/// Fails, before any work, if a file cannot be created.
pub(super) fn expect_writable(path: &Path) -> Result<()> {
    files::replaceable(path)?;
    tempfile::tempfile_in(folder_of(path))
        .map(|_| ())
        .map_err(|e| Error::CannotCreate(Failure::new(format!("cannot create {}: {e}", path.display()), e)))
}

/// Fails if a file to be written is one of the others, by whatever name.
pub(super) fn expect_others(path: &Path, others: &[&Path]) -> Result<()> {
    match others.iter().any(|other| files::same(path, other)) {
        true => Err(Error::Config(format!("{} is a file that is read or written here: name another one to write", path.display()))),
        false => Ok(()),
    }
}

/// Fails, before any work, if a file cannot be created, is one of those that are read, or lies in the run folder.
pub(super) fn expect_apart(path: &Path, read: &[&Path], run: &Path) -> Result<()> {
    let place = |path: &Path| std::fs::canonicalize(path).ok();
    expect_others(path, read)?;
    let of_run = place(run).is_some_and(|run| place(folder_of(path)).is_some_and(|folder| folder.starts_with(run)));
    if of_run && (path.exists() || place(folder_of(path)) != place(run)) {
        return Err(Error::CannotCreate(format!("{} lies in the run's own folder: name a file elsewhere", path.display()).into()));
    }
    expect_writable(path)
}

/// Parses a size in bytes, as in 8GiB, 500MB or 1048576.
pub(super) fn parse_bytes(text: &str) -> std::result::Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: f64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1024.0 * 1024.0,
        "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err("expected a size such as 8GiB, 500MB or 1048576".into()),
    };
    let value = number.parse::<f64>().map_err(|_| "expected a size such as 8GiB, 500MB or 1048576".to_string())? * factor;
    if (1.0..9e18).contains(&value) { Ok(value as u64) } else { Err("a budget is at least one byte".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_written() {
        assert_eq!(parse_bytes("8GiB"), Ok(8 << 30));
        assert_eq!(parse_bytes("1.5 MiB"), Ok(1_572_864));
        assert_eq!(parse_bytes("500MB"), Ok(500_000_000));
        assert_eq!(parse_bytes("77"), Ok(77));
        assert!(parse_bytes("lots").is_err() && parse_bytes("0").is_err() && parse_bytes("-1").is_err());
    }
}
