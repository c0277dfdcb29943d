//! Many runs, one after the other: what each needs is looked at before the first is trained, and a sweep that was stopped goes on with what
//! is open.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::checkpoint::Weights;
use super::folder::free_name;
use super::options::Options;
use super::report::Report;
use super::restarts::{attempts, expect_room, restarted, with_restarts};
use super::start::expect_startable;
use crate::config::Config;
use crate::error::{Error, Result, argument};
use crate::files;
use crate::gpu::Gpu;
use crate::losses::LossKind;
use crate::models::ModelKind;
use crate::problem::{Problem, Table};
use crate::ranks::Ranks;
use crate::tasks::{DataKind, Purpose};

/// Number of the signal with which a launcher ends other processes.
const SIGTERM: i32 = 15;

/// Fails if an expectation is missed.
pub fn expect_met(report: &Report) -> Result<()> {
    let missed: Vec<&str> = report.expectations.iter().filter(|(.., met)| !met).map(|(what, ..)| what.as_str()).collect();
    match &missed[..] {
        [] => Ok(()),
        _ => Err(Error::Aborted(format!(
            "{}: {} of {} expectations are missed: {}",
            report.run,
            missed.len(),
            report.expectations.len(),
            missed.join("; ")
        ))),
    }
}

/// State of a run in a sweep.
#[derive(Debug)]
enum State {
    /// The run has to be trained, from its start or its newest checkpoint.
    Open,
    /// The run has ended and needs nothing more.
    Done,
    /// The run has ended and counts as failed, for this reason.
    Failed(String),
}

/// State of the run in a folder.
fn state_of<M, D, L>(
    folder: &Path,
    config: &Config<M, D, L>,
    stride: u64,
    strict: bool,
    known: &mut BTreeMap<PathBuf, String>,
) -> Result<State>
where
    M: ModelKind + Table,
    D: DataKind + Table,
    L: LossKind + Table,
{
    let read = |name: &str| files::text(&folder.join(name), files::SMALL).ok();
    let Some(report) = read("report.json").and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok()) else {
        return Ok(State::Open);
    };
    let times = config.restart.as_ref().map_or(0, |restart| restart.times);
    let attempt = attempts(folder, times);
    let how = report["ended"].as_str().unwrap_or("cut");
    let aborted = how.starts_with("aborted");
    let problem = Problem::open(&restarted(config, attempt, stride), Purpose::Train)?;
    let same = read("config.toml").and_then(|text| (problem.canonical)(&text).ok()) == Some(problem.toml);
    // One of another configuration is refused with what differs when it is resumed; one that may start over does.
    if how.starts_with("cut") || !same || aborted && attempt < times {
        return Ok(State::Open);
    }
    // Runs on other data are no members of this sweep.
    let weights = folder.join("model.safetensors");
    if weights.exists() {
        Weights::open(&weights)?.expect_data(&problem.files, known)?;
    }
    let missed = report["expectations"].as_array().into_iter().flatten().filter(|e| e[2] == serde_json::Value::Bool(false)).count();
    Ok(match (aborted, strict && missed > 0) {
        (true, _) => State::Failed(format!("{}: {how}", folder.display())),
        (_, true) => State::Failed(format!("{}: {missed} expectations are missed", folder.display())),
        _ => State::Done,
    })
}

/// States of some runs. Fails before any of them is trained if one of them could not start.
fn states<M, D, L>(runs: &[(usize, &Run<M, D, L>)], options: &Options, stride: u64, strict: bool) -> Result<Vec<State>>
where
    M: ModelKind + Table,
    D: DataKind + Table,
    L: LossKind + Table,
{
    let (mut known, mut states, mut gpu, mut read) = (BTreeMap::new(), vec![], None, vec![]);
    for (_, (folder, config)) in runs {
        let state = if options.resume { state_of(folder, config, stride, strict, &mut known)? } else { State::Open };
        let open = matches!(state, State::Open);
        states.push(state);
        if !open {
            continue;
        }
        let gpu: &Gpu = match &mut gpu {
            Some(gpu) => gpu,
            none => none.insert(options.host.open(options.device.as_deref())?),
        };
        let member = Options { out: folder.clone(), ..options.clone() };
        let mut look = || {
            let problem = Problem::open_for(config, options.ranks)?;
            let files = problem.files.clone();
            expect_startable(problem, gpu, &member)?;
            // The samples of the first are read by its own start; those of other files are looked at now.
            if !read.is_empty() && !read.contains(&files) {
                Problem::open_for(config, options.ranks)?.load()?;
            }
            read.push(files);
            Ok(())
        };
        look().map_err(|e: Error| e.of(&folder.display().to_string()))?;
    }
    Ok(states)
}

/// Fails if a run of a sweep that is not resumed has a folder with a run: the sweep as a whole then takes another place.
fn expect_new(folder: &Path, options: &Options) -> Result<()> {
    if options.resume || !folder.join("config.toml").is_file() {
        return Ok(());
    }
    let (shown, free) = (folder.display(), argument(&free_name(&options.out)));
    Err(Error::CannotCreate(
        format!("{shown} already holds a run. Go on with all of them with --resume, or give the runs another folder: --out {free}").into(),
    ))
}

/// A run of a sweep: its folder and its configuration.
pub type Run<M, D, L> = (PathBuf, Config<M, D, L>);

/// Number that a rank sends, instead of its number of failed runs, if a signal has stopped it.
const STOPPED: u64 = u64::MAX;

/// Result of a sweep, as this process knows it.
#[derive(Debug, Clone, Default)]
pub struct Swept {
    /// Reasons for which runs count as failed.
    pub failed: Vec<String>,
    /// Number of failed runs of other processes.
    pub elsewhere: usize,
}

/// Trains runs one after the other, each with its restarts; all are checked before the first one starts. A run that a rule stops or that
/// diverges does not end the others. With `strict`, a run that misses an expectation counts as failed.
///
/// Ranks that do not share each run (`options.ranks`) distribute the runs among themselves.
///
/// # Errors
/// Errors of `train`, but for `Aborted`.
pub fn train_many<M, D, L>(runs: &[Run<M, D, L>], options: &Options, strict: bool, ranks: Ranks) -> Result<Swept>
where
    M: ModelKind + Table,
    D: DataKind + Table,
    L: LossKind + Table,
{
    for (folder, config) in runs {
        expect_new(folder, options)?;
        expect_room(config, folder, options.resume)?;
    }
    // A run that starts over must not take the seed of another.
    let seeds = || runs.iter().map(|(_, config)| config.train.seed);
    let stride = seeds().max().unwrap_or(0) - seeds().min().unwrap_or(0) + 1;
    let (count, mut failed) = (runs.len(), Vec::new());
    let spread = if options.ranks.shared() { Ranks::default() } else { ranks };
    let own: Vec<(usize, &Run<M, D, L>)> = runs.iter().enumerate().filter(|(number, _)| number % spread.count == spread.rank).collect();
    let states = states(&own, options, stride, strict)?;
    // No rank begins before all have looked at theirs.
    spread.gather(0);
    for ((number, (folder, config)), state) in own.into_iter().zip(states) {
        options.say(&format!("\nrun {} of {count}: {}", number + 1, folder.display()));
        if !matches!(state, State::Open) {
            options.say("it has ended: nothing to do");
            failed.extend(if let State::Failed(why) = state { Some(why) } else { None });
            continue;
        }
        let options = Options { out: folder.clone(), ..options.clone() };
        match with_restarts(config, &options, stride) {
            Ok(report) if strict => failed.extend(expect_met(&report).err().map(|e| e.to_string())),
            Ok(_) => {}
            Err(Error::Aborted(why)) => {
                options.say(&why);
                failed.push(why);
            }
            Err(stopped @ Error::Interrupted(..)) => {
                // No rank ends before the checkpoints of the others are written.
                spread.gather(STOPPED);
                return Err(stopped);
            }
            Err(error) => return Err(error),
        }
    }
    let counts = spread.gather(failed.len() as u64);
    if counts.contains(&STOPPED) {
        return Err(Error::Interrupted(SIGTERM, "so was another rank. Continue with --resume".into()));
    }
    let elsewhere = counts.iter().sum::<u64>() as usize - failed.len();
    Ok(Swept { failed, elsewhere })
}
