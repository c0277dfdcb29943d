//! `engine train`: a run into a folder of its own, or many.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use clap::Args;
use tempfile::TempDir;

use super::args::{DeviceArg, JsonArg, RunArgs, parse_bytes, run_config};
use super::devices::device_of;
use super::sweep::{Member, members};
use crate::error::{Error, Result};
use crate::files;
use crate::gpu::Gpu;
use crate::host::Host;
use crate::problem::{Problem, default_budget};
use crate::ranks::Ranks;
use crate::registry::Config;
use crate::tasks::Purpose;
use crate::train::{Options, Origin, Report, Weights, compare, expect_startable, fit, train};

/// Train a run into a folder of its own, or many runs side by side
#[derive(Debug, Args)]
pub(super) struct TrainArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Run folder [default: runs/ and the name of the run file]; with --seeds or --grid, the folder of the runs' folders
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on from the newest valid checkpoint of the folder; of many runs, with those that have not ended
    #[arg(long)]
    resume: bool,
    /// Start from these weights (safetensors with PyTorch names)
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,
    /// One run for each of these seeds
    #[arg(long, value_name = "1,2,3", value_delimiter = ',')]
    seeds: Vec<u64>,
    /// One run for each value of a key, as in --grid optimizer.learning_rate=1e-3,5e-4 (repeatable: every combination)
    #[arg(long, value_name = "KEY=A,B,C")]
    grid: Vec<String>,
    /// Memory budget, as in 8GiB [default: 8GiB, or what the card has free]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    budget: Option<u64>,
    #[command(flatten)]
    device: DeviceArg,
    /// With mpirun: each rank trains runs of its own of --seeds and --grid, instead of its part of every batch
    #[arg(long)]
    spread: bool,
    /// Choose micro-batch, recomputation and precision so that the run fits the budget; its steps take the same samples
    #[arg(long)]
    fit: bool,
    /// End after this many steps; the schedule stays that of the run
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Exit code 76 when something that was expected is missed
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    json: JsonArg,
}

pub(super) fn run(host: &Host, args: TrainArgs, ranks: Ranks) -> Result<()> {
    let members = members(&args.seeds, &args.grid)?;
    let TrainArgs { run, out, resume, init, budget, device, steps, strict, json, fit, spread, .. } = args;
    let config = run.load()?;
    if spread && members.is_empty() {
        return Err(Error::Config("--spread deals the runs of --seeds or --grid out among ranks: name some with those".into()));
    }
    let name = run.run.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let out = out.unwrap_or_else(|| PathBuf::from("runs").join(name));
    // A run and its attempts lie where a link leads to.
    let out = if out.is_symlink() && out.is_dir() { out.canonicalize().map_err(|e| Error::create(&out, &e))? } else { out };
    let device = device_of(ranks, device.device)?;
    let stop = if host.is_process() { stop_on_signals()? } else { Arc::default() };
    // A run of several processes has its results in the folder of the first; the others have one that goes with them.
    let sharing = if spread { Ranks::default() } else { ranks };
    let scratch = if sharing.leads() { None } else { Some(tempfile::tempdir().map_err(|e| Error::create(&std::env::temp_dir(), &e))?) };
    ranks.watch(scratch.as_ref().map(|folder| folder.path().to_path_buf()));
    let given = |flag: bool| if flag { "given".to_string() } else { String::new() };
    let path = |path: Option<&PathBuf>| path.map(|path| path.display().to_string()).unwrap_or_default();
    let number = |n: Option<u64>| n.map(|n| n.to_string()).unwrap_or_default();
    ranks.expect_same_start(&[
        ("--seeds or --grid", members.iter().map(|member| member.set.join(" ")).collect::<Vec<_>>().join("; ")),
        ("--spread", given(spread)),
        ("--fit", given(fit)),
        ("--resume", given(resume)),
        ("--init", path(init.as_ref())),
        ("--out", path(Some(&out))),
        ("--steps", number(steps)),
        ("--budget", number(budget)),
        ("--strict", given(strict)),
        ("--json", given(json.json)),
    ])?;
    expect_same_configuration(&config, ranks)?;
    let out = if sharing.shared() { mirrored(&out, scratch.as_ref().map(TempDir::path), resume, sharing)? } else { out };
    let quiet = json.json || !sharing.leads();
    let options = Options { out, resume, init, budget, device, steps, quiet, stop, ranks: sharing, host: host.clone() };
    if !members.is_empty() {
        return sweep(&run, members, &options, Closing { strict, json: json.json, fit }, ranks);
    }
    let config = if fit { fitted(&config, &options)? } else { config };
    let report = with_restarts(&config, &options, 1)?;
    if !ranks.leads() {
        return Ok(());
    }
    if json.json { host.print_json(&report) } else { host.print(&report.table()) }?;
    if strict { expect_met(&report) } else { Ok(()) }
}

/// Fails on a rank that has another configuration than the first.
pub(super) fn expect_same_configuration(config: &Config, ranks: Ranks) -> Result<()> {
    if !ranks.shared() {
        return Ok(());
    }
    let own = config.to_toml()?;
    let first = ranks.broadcast(if ranks.leads() { own.clone().into_bytes() } else { vec![] });
    let origin = Origin { config: own, ..Origin::default() };
    let differ = origin.all_differences(&String::from_utf8_lossy(&first));
    // Rank 0 waits, and is ended by one that differs.
    ranks.gather(0);
    match &differ[..] {
        [] => Ok(()),
        lines => Err(Error::Config(format!(
            "rank {} was started with another configuration than rank 0: give all the same\n  {}",
            ranks.rank,
            lines.join("\n  ").replace(" then, ", " there, ").replace(" now", " here")
        ))),
    }
}

/// Whether a rank needs a file of a run folder to go on with the run as the first does.
fn decides(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".safetensors") || ["config.toml", "report.json", "metrics.jsonl"].contains(&&*name)
}

/// Files of a folder that decide how a run goes on, and the folders in it, by their paths from `root`. Of attempts that were given up the names decide.
fn contents(root: &Path, folder: &Path, found: &mut Vec<(PathBuf, Option<PathBuf>)>) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry.map_err(|e| Error::read(folder, &e))?.path();
        let relative = path.strip_prefix(root).unwrap_or(&path).to_path_buf();
        if path.is_dir() {
            let attempt = relative.file_name().is_some_and(|name| name.to_string_lossy().contains("-attempt-"));
            found.push((relative, None));
            if !attempt {
                contents(root, &path, found)?;
            }
        } else if decides(&path) {
            found.push((relative, Some(path)));
        }
    }
    Ok(())
}

/// The folder that a rank trains in: the first rank's own, and for the others one in `scratch` with what a resumed run goes on from.
fn mirrored(out: &Path, scratch: Option<&Path>, resume: bool, ranks: Ranks) -> Result<PathBuf> {
    let out: PathBuf = out.components().collect();
    let Some(name) = out.file_name() else {
        return Err(Error::Config(format!(
            "{}: a run of several processes needs a folder with a name: choose another with --out",
            out.display()
        )));
    };
    let mut found = vec![];
    if ranks.leads() && resume {
        contents(out.parent().unwrap_or(Path::new("")), &out, &mut found)?;
        let restarts = (1..).map(|n| attempt_folder(&out, n)).take_while(|folder| folder.exists());
        found.extend(restarts.filter_map(|folder| Some((PathBuf::from(folder.file_name()?), None))));
    }
    let list: Vec<(PathBuf, bool)> = found.iter().map(|(path, file)| (path.clone(), file.is_some())).collect();
    let sent = ranks.broadcast(serde_json::to_vec(&list).map_err(|e| Error::Internal(format!("a list of files: {e}")))?);
    let list: Vec<(PathBuf, bool)> = serde_json::from_slice(&sent).map_err(|e| Error::Internal(format!("a list of files: {e}")))?;
    for (number, (path, is_file)) in list.iter().enumerate() {
        let here = scratch.map(|scratch| scratch.join(path));
        if !is_file {
            here.map_or(Ok(()), |here| std::fs::create_dir_all(&here).map_err(|e| Error::create(&here, &e)))?;
            continue;
        }
        let own = found.get(number).and_then(|(_, file)| file.as_ref());
        let bytes = own.map_or(Ok(vec![]), |file| files::bytes(file, files::LARGE).map_err(|e| Error::read(file, &e)))?;
        let bytes = ranks.broadcast(bytes);
        if let Some(here) = here {
            let folder = here.parent().unwrap_or(Path::new(""));
            std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&here, bytes)).map_err(|e| Error::create(&here, &e))?;
        }
    }
    Ok(scratch.map_or(out.clone(), |scratch| scratch.join(name)))
}

/// Fails where something that was expected is missed.
fn expect_met(report: &Report) -> Result<()> {
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

/// Where the n-th attempt of a run lies after a rule has ended it.
fn attempt_folder(out: &Path, n: u64) -> PathBuf {
    let out: PathBuf = out.components().collect();
    out.with_file_name(format!("{}-attempt-{n}", out.file_name().unwrap_or_default().to_string_lossy()))
}

/// Attempts that lie beside a run folder, of as many as there may be.
fn attempts(out: &Path, times: u64) -> u64 {
    (1..=times).take_while(|n| attempt_folder(out, *n).join("config.toml").exists()).count() as u64
}

/// The configuration of the start after so many attempts.
fn restarted(config: &Config, attempt: u64, stride: u64) -> Config {
    let mut config = config.clone();
    config.train.seed = config.train.seed.saturating_add(attempt.saturating_mul(stride)).min(i64::MAX as u64);
    config
}

/// Fails where restarts have no place to lie, or where those of another run do.
fn expect_room(config: &Config, out: &Path, resume: bool) -> Result<()> {
    let Some(restart) = &config.restart else { return Ok(()) };
    if out.components().collect::<PathBuf>().file_name().is_none() {
        return Err(Error::Config(format!(
            "{}: restart keeps attempts beside the run folder: give the run a folder of its own with --out",
            out.display()
        )));
    }
    if !resume && attempts(out, restart.times) > 0 {
        let left = attempt_folder(out, 1);
        return Err(Error::CannotCreate(format!(
            "{} is an attempt of a run that was in {}. Go on with that run with --resume, move its attempts away, or choose another folder with --out",
            left.display(),
            out.display()
        )));
    }
    for n in attempts(out, restart.times) + 1..=restart.times {
        expect_free(&attempt_folder(out, n))?;
    }
    Ok(())
}

/// Fails where something is in the way of an attempt.
fn expect_free(aside: &Path) -> Result<()> {
    match aside.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(_) => Err(Error::CannotCreate(format!(
            "{} is in the way of a restart: it is no attempt of this run. Move it away, or choose another folder with --out",
            aside.display()
        ))),
    }
}

/// Trains; a run that a rule ends, or that diverges, starts over with the seed that is `stride` further, as often as `restart.times` says. Its
/// folder is kept under another name.
fn with_restarts(config: &Config, options: &Options, stride: u64) -> Result<Report> {
    expect_room(config, &options.out, options.resume)?;
    let times = config.restart.as_ref().map_or(0, |restart| restart.times);
    let mut attempt = attempts(&options.out, times);
    if attempt > 0 {
        let seed = restarted(config, attempt, stride).train.seed;
        options.say(&format!(
            "{attempt} of {times} restarts were made before: train.seed = {seed}. The last attempt is in {}",
            attempt_folder(&options.out, attempt).display()
        ));
    }
    loop {
        let now = restarted(config, attempt, stride);
        match train(Problem::open_for(&now, options.ranks)?, options) {
            Err(Error::Aborted(why)) if attempt < times => {
                attempt += 1;
                let aside = attempt_folder(&options.out, attempt);
                expect_free(&aside)?;
                std::fs::rename(&options.out, &aside).map_err(|e| Error::create(&aside, &e))?;
                let why = why.replace(&options.out.display().to_string(), &aside.display().to_string());
                let seed = restarted(config, attempt, stride).train.seed;
                options.say(&format!(
                    "{why}\nrestart {attempt} of {times} with train.seed = {seed}; the attempt before is in {}",
                    aside.display()
                ));
            }
            ended => return ended,
        }
    }
}

/// The run in the form that fits the budget; one that is resumed keeps the form that it has.
fn fitted(config: &Config, options: &Options) -> Result<Config> {
    let choice = |c: &Config| (c.train.batch, c.train.accumulate, c.train.recompute, c.train.precision);
    // What else differs is reported when the run is resumed.
    let started = if options.resume { run_config(&options.out).ok() } else { None };
    let started = started.filter(|started| started.train.samples() == config.train.samples()).map(|started| choice(&started));
    let config = match started {
        Some(choice) => {
            let mut config = config.clone();
            let train = &mut config.train;
            (train.batch, train.accumulate, train.recompute, train.precision) = choice;
            config
        }
        None => {
            let gpu = options.host.open(options.device.as_deref())?;
            let budget = options.budget.unwrap_or_else(|| default_budget(&gpu));
            // All take the same form: the one for the rank with the least memory.
            fit(config, gpu.target, options.ranks.least(budget), options.ranks)?
        }
    };
    if !options.quiet {
        let (batch, accumulate, recompute, precision) = choice(&config);
        let [recompute, precision] = [serde_json::to_value(recompute), serde_json::to_value(precision)].map(|v| v.unwrap_or_default());
        options.say(&format!(
            "fit         train.batch = {batch}, train.accumulate = {accumulate}, train.recompute = {recompute}, train.precision = {precision}"
        ));
    }
    Ok(config)
}

impl Options {
    /// A line on standard error, of the first rank.
    fn say(&self, line: &str) {
        if self.ranks.leads() {
            self.host.say(line);
        }
    }
}

/// What a rank says instead of a number of failed runs when a signal has stopped it.
const STOPPED: u64 = u64::MAX;

/// What a sweep ends with, and starts with.
#[derive(Debug, Clone, Copy)]
struct Closing {
    strict: bool,
    json: bool,
    fit: bool,
}

/// What became of a run of a sweep that needs nothing more: nothing, or why it counts as failed.
fn ended(
    folder: &Path,
    config: &Config,
    stride: u64,
    strict: bool,
    known: &mut BTreeMap<PathBuf, String>,
) -> Result<Option<Option<String>>> {
    let read = |name: &str| files::text(&folder.join(name), files::SMALL).ok();
    let Some(report) = read("report.json").and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok()) else { return Ok(None) };
    let times = config.restart.as_ref().map_or(0, |restart| restart.times);
    let attempt = attempts(folder, times);
    let how = report["ended"].as_str().unwrap_or("cut");
    let aborted = how.starts_with("aborted");
    let problem = Problem::open(&restarted(config, attempt, stride), Purpose::Train)?;
    let same = read("config.toml") == Some(problem.toml);
    // One of another configuration is refused with what differs when it is resumed; one that may start over does.
    if how.starts_with("cut") || !same || aborted && attempt < times {
        return Ok(None);
    }
    // Runs on other data are no members of this sweep.
    let weights = folder.join("model.safetensors");
    if weights.exists() {
        Weights::open(&weights)?.expect_data(&problem.files, known)?;
    }
    let missed = report["expectations"].as_array().into_iter().flatten().filter(|e| e[2] == serde_json::Value::Bool(false)).count();
    Ok(Some(match (aborted, strict && missed > 0) {
        (true, _) => Some(format!("{}: {how}", folder.display())),
        (_, true) => Some(format!("{}: {missed} expectations are missed", folder.display())),
        _ => None,
    }))
}

/// Those of some runs, by number, that have ended, and why they count as failed if they do. Fails, before any of the others starts, where one of them could not.
fn ended_runs<'r>(
    runs: impl Iterator<Item = (usize, &'r (PathBuf, Config))>,
    options: &Options,
    stride: u64,
    strict: bool,
) -> Result<BTreeMap<usize, Option<String>>> {
    let (mut known, mut done, mut gpu, mut read) = (BTreeMap::new(), BTreeMap::new(), None, vec![]);
    for (number, (folder, config)) in runs {
        if options.resume
            && let Some(failure) = ended(folder, config, stride, strict, &mut known)?
        {
            done.insert(number, failure);
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
    Ok(done)
}

/// Trains the members one after the other and compares them. A run that a rule ends, or that diverges, does not end the sweep.
///
/// Ranks that do not share the runs (`options.ranks`) deal them out among themselves.
fn sweep(run: &RunArgs, members: Vec<Member>, options: &Options, Closing { strict, json, fit }: Closing, ranks: Ranks) -> Result<()> {
    let mut runs = Vec::with_capacity(members.len());
    // What is wrong with the last run is said before the first starts.
    for member in members {
        let config = Config::load(&run.run, &[run.set.clone(), member.set].concat())?;
        let folder = options.out.join(&member.name);
        let config = if fit { fitted(&config, &Options { out: folder.clone(), ..options.clone() })? } else { config };
        expect_room(&config, &folder, options.resume)?;
        runs.push((folder, config));
    }
    // A run that starts over must not take the seed of another.
    let seeds = || runs.iter().map(|(_, config)| config.train.seed);
    let stride = seeds().max().unwrap_or(0) - seeds().min().unwrap_or(0) + 1;
    let (count, mut failed) = (runs.len(), Vec::new());
    let spread = if options.ranks.shared() { Ranks::default() } else { ranks };
    let own = || runs.iter().enumerate().filter(|(number, _)| number % spread.count == spread.rank);
    let mut done = ended_runs(own(), options, stride, strict)?;
    // No rank begins before all have looked at theirs.
    spread.gather(0);
    for (number, (folder, config)) in own() {
        options.say(&format!("\nrun {} of {count}: {}", number + 1, folder.display()));
        if let Some(failure) = done.remove(&number) {
            options.say("it has ended: nothing to do");
            failed.extend(failure);
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
        return Err(Error::Interrupted(signal_hook::consts::SIGTERM, "so was another rank. Continue with --resume".into()));
    }
    let elsewhere = counts.iter().sum::<u64>() as usize - failed.len();
    if elsewhere > 0 {
        failed.push(format!("{elsewhere} on other ranks"));
    }
    if !ranks.leads() {
        return Ok(());
    }
    let folders: Vec<PathBuf> = runs.into_iter().map(|(folder, _)| folder).filter(|folder| folder.join("metrics.jsonl").exists()).collect();
    if !folders.is_empty() {
        let comparison = compare(&folders, None)?;
        if json { options.host.print_json(&comparison) } else { options.host.print(&comparison.table()) }?;
    }
    match failed.len() - usize::from(elsewhere > 0) + elsewhere {
        0 => Ok(()),
        n => Err(Error::Aborted(format!("{n} of {count} runs: {}", failed.join("; ")))),
    }
}

/// Whether whoever started this process wants it to live on after a signal, as `nohup` and scripts do with what they leave in the background.
#[cfg(unix)]
fn ignored(signal: i32) -> bool {
    // SAFETY: the call only writes what is set for the signal, to a place of that type, of which all bits may be 0.
    unsafe {
        let mut set: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut set) == 0 && set.sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(not(unix))]
fn ignored(_signal: i32) -> bool {
    false
}

/// A number that becomes that of the first SIGINT, SIGTERM or, where there is one, SIGHUP; a second one ends the process at once.
fn stop_on_signals() -> Result<Arc<AtomicUsize>> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let (stop, armed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let signals = [
        SIGINT,
        SIGTERM,
        #[cfg(unix)]
        signal_hook::consts::SIGHUP,
    ];
    for signal in signals.into_iter().filter(|signal| !ignored(*signal)) {
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, armed.clone())
            .and_then(|_| signal_hook::flag::register(signal, armed.clone()))
            .and_then(|_| signal_hook::flag::register_usize(signal, stop.clone(), signal as usize))
            .map_err(|e| Error::Internal(format!("signal handler: {e}")))?;
    }
    Ok(stop)
}
