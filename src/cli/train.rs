//! `engine train`: a run into a folder of its own, or many.

use std::path::{Path, PathBuf};

use clap::Args;
use tempfile::TempDir;

use super::args::{DeviceArg, JsonArg, KeyValue, parse_bytes};
use super::devices::device_of;
use super::live::View;
use super::signals::stop_on_signals;
use super::sweep::{Member, members};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::ranks::Ranks;
use crate::registry::Config;
use crate::runs::compare;
use crate::train::{Options, Origin, Swept, chosen, expect_met, fit, mirrored, train_many, train_with_restarts};

/// Train a run into a folder of its own, or many runs side by side
#[derive(Debug, Args)]
pub(super) struct TrainArgs {
    /// Run files; those shipped are in data/runs/. Several are trained one after the other, each in a folder of its name
    #[arg(value_name = "RUN.toml", required = true)]
    runs: Vec<PathBuf>,
    /// Override a key, as in --set train.batch=64, or take it away, as in --set train.batch= (repeatable); `engine help keys` lists them
    #[arg(long = "set", value_name = "TABLE.KEY=VALUE", value_parser = KeyValue, hide_possible_values = true)]
    set: Vec<String>,
    /// Run folder [default: runs/ and the name of the run file]; of several runs, the folder of the runs' folders
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on from the newest valid checkpoint of the folder; of many runs, with those that have not ended
    #[arg(long)]
    resume: bool,
    /// Start from these weights: safetensors with PyTorch names, or for a language model a folder of transformers
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,
    /// One run for each of these seeds
    #[arg(long, value_name = "1,2,3", value_delimiter = ',')]
    seeds: Vec<u64>,
    /// One run for each value of a key, as in --grid optimizer.learning_rate=1e-3,5e-4 (repeatable: every combination)
    #[arg(long, value_name = "KEY=A,B,C", value_parser = KeyValue, hide_possible_values = true)]
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
    /// Draw curves, the best so far and the time left in the terminal; q leaves this view
    #[arg(long)]
    live: bool,
    /// Write metrics.csv too: a row a step, a column for each metric of each split
    #[arg(long)]
    csv: bool,
    /// Exit code 76 when something that was expected is missed
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    json: JsonArg,
}

pub(super) fn run(host: &Host, args: TrainArgs, ranks: Ranks) -> Result<()> {
    let members = members(&args.seeds, &args.grid)?;
    let TrainArgs { runs: files, set, out, resume, init, budget, device, steps, csv, strict, json, fit, spread, live, .. } = args;
    let many = files.len() > 1 || !members.is_empty();
    if spread && !many {
        return Err(Error::Config("--spread deals runs out among ranks: name some with --seeds, --grid or several run files".into()));
    }
    let out = out.unwrap_or_else(|| match &files[..] {
        [file] => PathBuf::from("runs").join(name_of(file)),
        _ => "runs".into(),
    });
    // A run and its attempts lie where a link leads to.
    let out = if out.is_symlink() && out.is_dir() { out.canonicalize().map_err(|e| Error::create(&out, e))? } else { out };
    let device = device_of(ranks, device.device)?;
    let stop = stop_on_signals(host)?;
    // A run of several processes has its results in the folder of the first; the others have one that goes with them.
    let sharing = if spread { Ranks::default() } else { ranks };
    let scratch = if sharing.leads() { None } else { Some(tempfile::tempdir().map_err(|e| Error::create(&std::env::temp_dir(), e))?) };
    ranks.watch(scratch.as_ref().map(|folder| folder.path().to_path_buf()));
    let given = |flag: bool| if flag { "given".to_string() } else { String::new() };
    let path = |path: Option<&PathBuf>| path.map(|path| path.display().to_string()).unwrap_or_default();
    let number = |n: Option<u64>| n.map(|n| n.to_string()).unwrap_or_default();
    ranks.expect_same_start(&[
        ("run files", files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join("; ")),
        ("--seeds or --grid", members.iter().map(|member| member.set.join(" ")).collect::<Vec<_>>().join("; ")),
        ("--spread", given(spread)),
        ("--fit", given(fit)),
        ("--resume", given(resume)),
        ("--init", path(init.as_ref())),
        ("--out", path(Some(&out))),
        ("--steps", number(steps)),
        ("--budget", number(budget)),
        ("--csv", given(csv)),
        ("--strict", given(strict)),
        ("--json", given(json.json)),
    ])?;
    let mut runs = planned(&files, &set, &members, &out)?;
    runs.iter().try_for_each(|(_, config)| expect_same_configuration(config, ranks))?;
    let out = if sharing.shared() { mirrored(&out, scratch.as_ref().map(TempDir::path), resume, sharing)? } else { out };
    let quiet = json.json || !sharing.leads();
    let options = Options { out: out.clone(), resume, init, budget, device, steps, csv, quiet, stop, ranks: sharing, host: host.clone() };
    if sharing.shared() {
        // In the folder that goes with this rank.
        runs = planned(&files, &set, &members, &out)?;
    }
    if fit {
        for (folder, config) in &mut runs {
            *config = fitted(config, &Options { out: folder.clone(), ..options.clone() })?;
        }
    }
    let view = if live && ranks.leads() { View::open(&options, runs.iter().map(|(folder, _)| folder.clone()).collect()) } else { None };
    if many {
        return train_all(runs, &options, view, Closing { strict, json: json.json }, ranks);
    }
    let (_, config) = runs.remove(0);
    let report = train_with_restarts(&config, &options);
    drop(view);
    let report = report?;
    if !ranks.leads() {
        return Ok(());
    }
    if json.json { host.print_json(&report) } else { host.print(&report.table()) }?;
    if strict { expect_met(&report) } else { Ok(()) }
}

/// Fails on a rank whose configuration differs from that of the first rank.
pub(super) fn expect_same_configuration(config: &Config, ranks: Ranks) -> Result<()> {
    if !ranks.shared() {
        return Ok(());
    }
    let own = config.to_toml()?;
    let first = ranks.broadcast(if ranks.leads() { own.clone().into_bytes() } else { vec![] });
    let origin = Origin { config: own, ..Origin::default() };
    let differ = origin.all_differences(&String::from_utf8_lossy(&first), ["there", "here"]);
    // Rank 0 waits, and is ended by one that differs.
    ranks.gather(0);
    match &differ[..] {
        [] => Ok(()),
        lines => Err(Error::Config(format!(
            "rank {} was started with another configuration than rank 0: give all the same\n  {}",
            ranks.rank,
            lines.join("\n  ")
        ))),
    }
}

/// The run in a form that fits the budget; a resumed run keeps its form.
fn fitted(config: &Config, options: &Options) -> Result<Config> {
    let choice = |c: &Config| (c.train.batch, c.train.accumulate, c.train.recompute, c.train.precision);
    // What else differs is reported when the run is resumed.
    let started = if options.resume { Config::started(&options.out).ok() } else { None };
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
            let budget = options.budget.unwrap_or_else(|| gpu.budget());
            // All take the same form: the one for the rank with the least memory.
            fit(config, gpu.target, options.ranks.least(budget), options.ranks)?
        }
    };
    if !options.quiet {
        options.say(&format!("fit         {}", chosen(&config.train)));
    }
    Ok(config)
}

/// Name of a run file without its extension.
fn name_of(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Folder and configuration of each run: one for each file, or one for each file and member of a sweep.
fn planned(files: &[PathBuf], set: &[String], members: &[Member], out: &Path) -> Result<Vec<(PathBuf, Config)>> {
    let mut runs: Vec<(PathBuf, Config)> = Vec::new();
    for file in files {
        let folder = if files.len() > 1 { out.join(name_of(file)) } else { out.to_path_buf() };
        if runs.iter().any(|(known, _)| known.starts_with(&folder)) {
            let name = name_of(file);
            return Err(Error::Config(format!(
                "two run files are called {name}, and their runs would have one folder: give one of them another name"
            )));
        }
        if members.is_empty() {
            runs.push((folder, Config::load(file, set)?));
            continue;
        }
        for member in members {
            runs.push((folder.join(&member.name), Config::load(file, &[set, &member.set].concat())?));
        }
    }
    Ok(runs)
}

/// Options for the end of several runs.
#[derive(Debug, Clone, Copy)]
struct Closing {
    strict: bool,
    json: bool,
}

/// Trains several runs and compares them.
fn train_all(
    runs: Vec<(PathBuf, Config)>,
    options: &Options,
    view: Option<View>,
    Closing { strict, json }: Closing,
    ranks: Ranks,
) -> Result<()> {
    let swept = train_many(&runs, options, strict, ranks);
    drop(view);
    let Swept { mut failed, elsewhere } = swept?;
    if !ranks.leads() {
        return Ok(());
    }
    let (count, here) = (runs.len(), failed.len());
    let folders: Vec<PathBuf> = runs.into_iter().map(|(folder, _)| folder).filter(|folder| folder.join("metrics.jsonl").exists()).collect();
    if !folders.is_empty() {
        let comparison = compare(&folders, None)?;
        if json { options.host.print_json(&comparison) } else { options.host.print(&comparison.table()) }?;
    }
    if elsewhere > 0 {
        failed.push(format!("{elsewhere} on other ranks"));
    }
    match here + elsewhere {
        0 => Ok(()),
        n => Err(Error::Aborted(format!("{n} of {count} runs: {}", failed.join("; ")))),
    }
}
