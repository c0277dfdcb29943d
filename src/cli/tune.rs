//! `engine tune`: the fastest ways to launch a run's kernels on this device, measured and kept for the runs after it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::args::{DeviceArg, JsonArg, RunArgs};
use super::output::{note, print, print_json};
use super::profile::{problem_with_data, timed_step};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Target, Tuning};
use crate::metrics::aligned;
use crate::problem::Loaded;
use crate::train::{default_budget, write_atomically};

/// Gains below this share are noise.
const GAIN: f64 = 0.03;

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

/// Launches of one kind: how many there are, and their seconds together in each way that was measured, the model's first.
#[derive(Debug, Default)]
struct Kind {
    launches: usize,
    seconds: Vec<(String, f64)>,
}

impl Kind {
    fn before(&self) -> f64 {
        self.seconds.first().map_or(0.0, |(_, seconds)| *seconds)
    }

    /// The fastest way, where it gains something.
    fn best(&self) -> Option<&(String, f64)> {
        let best = self.seconds.iter().skip(1).min_by(|a, b| a.1.total_cmp(&b.1));
        best.filter(|(_, seconds)| *seconds < (1.0 - GAIN) * self.before())
    }
}

/// Seconds of the launches of each kind, and how many they are.
fn measure(problem: &mut Loaded, target: Target, gpu: &Arc<Gpu>, rounds: u32) -> Result<BTreeMap<String, (usize, f64)>> {
    let (session, _) = timed_step(problem, target, gpu, 2)?;
    let program = &session.step()?.0;
    let mut kinds: BTreeMap<String, (usize, f64)> = BTreeMap::new();
    for timing in program.profile(rounds as usize)? {
        let (launches, seconds) = kinds.entry(program.plan.entries()[timing.entries.start].kind.clone()).or_default();
        *launches += 1;
        *seconds += timing.seconds;
    }
    Ok(kinds)
}

/// Seconds of a step on each of two targets: the shorter of two medians, taken in turn.
fn compare(problem: &mut Loaded, targets: [Target; 2], gpu: &Arc<Gpu>) -> Result<[f64; 2]> {
    let mut seconds = [f64::INFINITY; 2];
    for _ in 0..2 {
        for (target, seconds) in targets.iter().zip(&mut seconds) {
            *seconds = seconds.min(timed_step(problem, *target, gpu, 12)?.1);
        }
    }
    Ok(seconds)
}

pub(super) fn run(args: TuneArgs) -> Result<()> {
    let TuneArgs { run, rounds, device, json: JsonArg { json } } = args;
    let gpu = Arc::new(Gpu::open(device.device.as_deref())?);
    let file = Tuning::file(&gpu.summary).ok_or_else(|| {
        Error::CannotCreate("no folder to keep measurements in: neither HOME nor XDG_CACHE_HOME is set. Name one with ENGINE_CACHE".into())
    })?;
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(|e| Error::create(folder, &e))?;
    }
    if let Some(why) = &gpu.untuned {
        note(&format!("measured anew: {why}"));
    }
    let by_model = gpu.tuned(Tuning::default());
    let mut problem = problem_with_data(&run.load()?)?;
    problem.place(by_model, default_budget(&gpu))?;
    // Every launch alone: pairs are made of what is chosen.
    let alone = |tuning: Tuning| Target { pair_flops: 0, ..gpu.tuned(tuning) };
    let say = |what: &str| {
        if !json {
            let _ = writeln!(std::io::stderr(), "{what}");
        }
    };
    say(&format!("{}\nmeasuring the ways that the model chooses", gpu.describe()));
    let mut kinds: BTreeMap<String, Kind> = BTreeMap::new();
    for (kind, (launches, seconds)) in measure(&mut problem, alone(Tuning::default()), &gpu, rounds)? {
        kinds.insert(kind, Kind { launches, seconds: vec![("the model's".into(), seconds)] });
    }
    let mut ways: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in problem.record_training(alone(Tuning::default()))?.0.entries() {
        ways.entry(entry.kind.clone()).or_insert_with(|| entry.ways().collect());
    }
    let most = ways.values().map(Vec::len).max().unwrap_or(0);
    for number in 0..most {
        say(&format!("measuring other ways, {} of {most}", number + 1));
        let candidates = Tuning(ways.iter().filter_map(|(kind, ways)| Some((kind.clone(), ways.get(number)?.clone()))).collect());
        let measured = match measure(&mut problem, alone(candidates.clone()), &gpu, rounds) {
            Ok(measured) => measured,
            Err(why @ Error::Config(_)) => {
                note(&format!("left aside: {why}"));
                continue;
            }
            Err(other) => return Err(other),
        };
        for (kind, way) in candidates.0 {
            if let (Some(known), Some((_, seconds))) = (kinds.get_mut(&kind), measured.get(&kind)) {
                known.seconds.push((way, *seconds));
            }
        }
    }
    let mut chosen = Tuning(kinds.iter().filter_map(|(kind, known)| Some((kind.clone(), known.best()?.0.clone()))).collect());
    if gpu.reads_images {
        say("measuring how arrays are read");
        let reads = |images: bool| {
            let mut tuning = chosen.clone();
            tuning.set_images(images);
            gpu.tuned(tuning)
        };
        let [buffers, images] = compare(&mut problem, [reads(false), reads(true)], &gpu)?;
        chosen.set_images(images < buffers);
    }
    say("measuring whole steps");
    let [before, after] = compare(&mut problem, [by_model, gpu.tuned(chosen.clone())], &gpu)?;
    let kept = after < before && !chosen.is_empty();
    // What earlier runs were measured to need stays, but for the launches that were measured again.
    let mut all = Tuning::kept(&gpu.summary).unwrap_or_default();
    let again: BTreeSet<&String> = kinds.keys().collect();
    all.0.retain(|kind, _| !again.contains(kind));
    if kept {
        all.0.extend(chosen.0.clone());
    }
    write_atomically(&file, all.text(&gpu.summary).as_bytes())?;
    if json {
        let list: Vec<_> = kinds
            .iter()
            .map(|(kind, known)| json!({ "launch": kind, "launches": known.launches, "seconds": known.seconds, "chosen": chosen.of(kind) }))
            .collect();
        return print_json(&json!({
            "device": gpu.describe(), "file": file, "kept": kept, "step_seconds": { "model": before, "tuned": after },
            "images": chosen.images(), "launches": list,
        }));
    }
    let heads = [("launch", true), ("launches", false), ("model (µs)", false), ("tuned (µs)", false), ("way", true)];
    let rows: Vec<Vec<String>> = kinds
        .iter()
        .filter_map(|(kind, known)| {
            let (way, seconds) = known.best()?;
            let micros = |seconds: f64| format!("{:.1}", 1e6 * seconds);
            Some(vec![kind.clone(), known.launches.to_string(), micros(known.before()), micros(*seconds), way.clone()])
        })
        .collect();
    let table = match rows.len() {
        0 => "the model's ways are the fastest here\n".to_string(),
        _ => aligned(&heads.map(|(name, left)| (name.to_string(), left)), &rows),
    };
    let reads =
        chosen.images().map_or(String::new(), |images| format!("arrays are read from {}\n", if images { "images" } else { "buffers" }));
    print(&format!(
        "{table}{reads}\na step as trained takes {:.0} µs by the model's ways and {:.0} µs by these, {:.2} times as fast\n{} {}",
        1e6 * before,
        1e6 * after,
        before / after,
        if kept { "kept in" } else { "nothing gained: the model's ways stay. Written to" },
        file.display()
    ))
}
