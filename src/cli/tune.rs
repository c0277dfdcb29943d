//! `engine tune`: the fastest ways to launch a run's kernels on this device, measured and kept for the runs after it.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::args::{DeviceArg, JsonArg, RunArgs, expect_writable};
use super::profile::{problem_with_data, timed_step};
use crate::error::{Error, Failure, Result};
use crate::files;
use crate::gpu::{Gpu, Target, Tuning};
use crate::host::Host;
use crate::metrics::aligned;
use crate::problem::Loaded;
use crate::ranks::Ranks;

/// Smallest relative gain that counts, of a launch and of a whole step; less is noise.
const GAIN: f64 = 0.03;
const STEP_GAIN: f64 = 0.01;

/// Measure which ways to launch a run's kernels are fastest on this device, and keep them for the runs after it
#[derive(Debug, Args)]
pub(super) struct TuneArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Repetitions of each launch; medians count
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    json: JsonArg,
}

/// Launches of one kind: their number, and their total seconds in each way that was measured, the model's way first.
#[derive(Debug, Default)]
struct Kind {
    launches: usize,
    seconds: Vec<(String, f64)>,
}

impl Kind {
    fn before(&self) -> f64 {
        self.seconds.first().map_or(0.0, |(_, seconds)| *seconds)
    }

    /// The fastest way, if it gains enough.
    fn best(&self) -> Option<&(String, f64)> {
        let best = self.seconds.iter().skip(1).min_by(|a, b| a.1.total_cmp(&b.1));
        best.filter(|(_, seconds)| *seconds < (1.0 - GAIN) * self.before())
    }
}

/// Launches of one kind, as measured in one way.
#[derive(Debug, Default)]
struct Measured {
    launches: usize,
    /// Seconds of all these launches together.
    seconds: f64,
    /// Constants that they were compiled with, as `name=value`.
    consts: Vec<String>,
}

/// Measures the launches of a step, by kind.
fn measure(problem: &mut Loaded, target: Target, gpu: &Arc<Gpu>, rounds: u32) -> Result<BTreeMap<String, Measured>> {
    let (session, _) = timed_step(problem, target, gpu, 2)?;
    let program = &session.step()?.0;
    let mut kinds: BTreeMap<String, Measured> = BTreeMap::new();
    for timing in program.profile(rounds as usize)? {
        let entry = &program.plan.entries()[timing.entries.start];
        let known = kinds.entry(entry.kind.clone()).or_default();
        known.launches += 1;
        known.seconds += timing.seconds;
        known.consts = entry.shader.consts.iter().map(|(name, value)| format!("{name}={value}")).collect();
    }
    Ok(kinds)
}

/// Measures the seconds of a step on each of two targets: the shorter of two medians, taken in turn.
fn compare(problem: &mut Loaded, targets: [Target; 2], gpu: &Arc<Gpu>) -> Result<[f64; 2]> {
    let mut seconds = [f64::INFINITY; 2];
    for _ in 0..2 {
        for (target, seconds) in targets.iter().zip(&mut seconds) {
            *seconds = seconds.min(timed_step(problem, *target, gpu, 12)?.1);
        }
    }
    Ok(seconds)
}

/// Measures which way to read arrays is faster on a software adapter; none if it is the way chosen for its driver.
fn other_reads(problem: &mut Loaded, gpu: &Arc<Gpu>, say: &impl Fn(&str)) -> Result<Option<bool>> {
    if !(gpu.target.software && gpu.reads_images) {
        return Ok(None);
    }
    say("measuring how arrays are read");
    let given = gpu.tuned(Tuning::default());
    let images = given.image_rows == 0;
    let mut tuning = Tuning::default();
    tuning.set_images(Some(images));
    match compare(problem, [given, gpu.tuned(tuning)], gpu) {
        Ok([before, after]) => Ok((after < (1.0 - GAIN) * before).then_some(images)),
        // More arrays than the device binds in that way.
        Err(Error::Config(_)) => Ok(None),
        Err(other) => Err(other),
    }
}

pub(super) fn run(host: &Host, args: TuneArgs) -> Result<()> {
    let TuneArgs { run, rounds, device, json: JsonArg { json } } = args;
    let config = run.load()?;
    let gpu = Arc::new(host.open(device.device.as_deref())?);
    let file = Tuning::file(&gpu.summary).ok_or_else(|| {
        Error::CannotCreate(
            "the system names no folder for what can be made again: name one for the measurements with ENGINE_CACHE".to_string().into(),
        )
    })?;
    let mut problem = problem_with_data(&config, Ranks::default())?;
    if let Some(folder) = file.parent() {
        let failed = |e| {
            Error::CannotCreate(Failure::new(
                format!("cannot create {}: {e}. Name another folder for measurements with ENGINE_CACHE", folder.display()),
                e,
            ))
        };
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    expect_writable(&file)?;
    if let Some(why) = &gpu.untuned {
        host.note(&format!("measured anew: {why}"));
    }
    let say = |what: &str| {
        if !json {
            host.say(what);
        }
    };
    say(&gpu.describe());
    let by_model = gpu.tuned(Tuning::default());
    problem.place(by_model, gpu.budget())?;
    let images = other_reads(&mut problem, &gpu, &say)?;
    let with_reads = |mut tuning: Tuning| {
        tuning.set_images(images);
        tuning
    };
    // Every launch alone: pairs are made of what is chosen.
    let alone = |tuning: Tuning| Target { pair_flops: 0, ..gpu.tuned(with_reads(tuning)) };
    let mut ways: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in problem.record_training(alone(Tuning::default()))?.0.entries() {
        ways.entry(entry.kind.clone()).or_insert_with(|| entry.ways().collect());
    }
    let kinds = measured(&mut problem, &gpu, &ways, rounds, alone, &say)?;
    let mut chosen = Tuning(kinds.iter().filter_map(|(kind, known)| Some((kind.clone(), known.best()?.0.clone()))).collect());
    chosen.set_images(images);
    say("measuring whole steps");
    let [before, after] = compare(&mut problem, [by_model, gpu.tuned(chosen.clone())], &gpu)?;
    let kept = !chosen.is_empty() && after < (1.0 - STEP_GAIN) * before;
    // What other runs were measured to need stays, but for the launches that were measured again.
    let mut all = Tuning::kept(&gpu.summary).unwrap_or_default();
    all.set_images(None);
    all.0.retain(|kind, _| !kinds.contains_key(kind));
    if kept {
        all.0.extend(chosen.0.clone());
    }
    files::write(&file, all.text(&gpu.summary).as_bytes())?;
    if json {
        let list: Vec<_> = kinds
            .iter()
            .map(|(kind, known)| json!({ "launch": kind, "launches": known.launches, "seconds": known.seconds, "chosen": chosen.of(kind) }))
            .collect();
        return host.print_json(&json!({
            "device": gpu.describe(), "file": file.display().to_string(), "kept": kept, "step_seconds": { "model": before, "tuned": after },
            "images": chosen.images(), "launches": list,
        }));
    }
    let table = table_of(&kinds);
    let reads =
        chosen.images().map_or(String::new(), |images| format!("arrays are read from {}\n", if images { "images" } else { "buffers" }));
    host.print(&format!(
        "{table}{reads}\na step as trained takes {:.0} µs by the model's ways and {:.0} µs by these, {:.2} times as fast\n{} {}",
        1e6 * before,
        1e6 * after,
        before / after,
        if kept { "kept in" } else { "nothing gained: the model's ways stay. Written to" },
        file.display()
    ))
}

/// Table of launches, with the time of the model's way and of the fastest way.
fn table_of(kinds: &BTreeMap<String, Kind>) -> String {
    let heads = [("launch", true), ("launches", false), ("model (µs)", false), ("tuned (µs)", false), ("way", true)];
    let rows: Vec<Vec<String>> = kinds
        .iter()
        .filter_map(|(kind, known)| {
            let (way, seconds) = known.best()?;
            let micros = |seconds: f64| format!("{:.1}", 1e6 * seconds);
            // Options that are off say nothing.
            let on = |part: &&str| !(part.ends_with("=0") && part.starts_with(char::is_uppercase));
            let kind = kind.split(' ').filter(on).collect::<Vec<_>>().join(" ");
            Some(vec![kind, known.launches.to_string(), micros(known.before()), micros(*seconds), way.clone()])
        })
        .collect();
    match rows.len() {
        0 => "the model's ways are the fastest here\n".to_string(),
        _ => aligned(&heads.map(|(name, left)| (name.to_string(), left)), &rows),
    }
}

/// Measures each launch in each of its ways; `alone` makes the target for a set of choices.
fn measured(
    problem: &mut Loaded,
    gpu: &Arc<Gpu>,
    ways: &BTreeMap<String, Vec<String>>,
    rounds: u32,
    alone: impl Fn(Tuning) -> Target,
    say: &impl Fn(&str),
) -> Result<BTreeMap<String, Kind>> {
    let most = ways.values().map(Vec::len).max().unwrap_or(0);
    let mut kinds: BTreeMap<String, Kind> = BTreeMap::new();
    // The model's ways first and last, as a device may be slower before it is warm.
    for number in 0..most + 2 {
        say(&format!("measuring ways to launch, {} of {}", number + 1, most + 2));
        let nth = |(kind, ways): (&String, &Vec<String>)| Some((kind.clone(), ways.get(number.checked_sub(1)?)?.clone()));
        let candidates = Tuning(ways.iter().filter_map(nth).collect());
        for (kind, Measured { launches, seconds, consts }) in measure(problem, alone(candidates.clone()), gpu, rounds)? {
            let known = kinds.entry(kind.clone()).or_default();
            known.launches = launches;
            match (candidates.of(&kind), known.seconds.first_mut()) {
                // One that the device does not allow is not taken.
                (Some(way), _) if way.split(' ').all(|part| consts.iter().any(|other| other == part)) => {
                    known.seconds.push((way.to_string(), seconds));
                }
                (Some(_), _) => {}
                (None, Some((_, before))) => *before = before.min(seconds),
                (None, None) => known.seconds.push(("the model's".into(), seconds)),
            }
        }
    }
    Ok(kinds)
}
