//! `engine generate`: what a trained run predicts, step after step.

use std::any::Any;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::args::{DeviceArg, JsonArg, RunFolderArgs, expect_apart, trained, weights_of};
use crate::datasets::linkages;
use crate::datasets::npz::Npz;
use crate::draw;
use crate::error::{Error, Result};
use crate::files;
use crate::generate::{Decoder, Strategy};
use crate::host::Host;
use crate::problem::Problem;
use crate::registry::Config;
use crate::tasks::{DataKind, MechanismScorecard, MechanismsConfig, Purpose, until_stop};

/// Continue a sequence, or make mechanisms from latents, with a trained run
#[derive(Debug, Args)]
pub(super) struct GenerateArgs {
    #[command(flatten)]
    weights: RunFolderArgs,
    /// Numbers to continue, as in 1,2,4,8
    #[arg(long, value_delimiter = ',')]
    prompt: Vec<u32>,
    /// Latents and types of mechanisms [default: those of the run]
    #[arg(long, value_name = "FILE.npz", conflicts_with = "prompt")]
    data: Option<PathBuf>,
    /// Numbers of samples in the file, as in 3,14 [default: the first six, or six that validate]
    #[arg(long, value_name = "N", value_delimiter = ',', conflicts_with = "prompt")]
    sample: Vec<usize>,
    /// Draw the predicted mechanisms over the true ones
    #[arg(long, value_name = "FILE.svg", conflicts_with = "prompt")]
    svg: Option<PathBuf>,
    /// How many numbers to add [default: 5]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: Option<u32>,
    /// Beam search of this width
    #[arg(long, value_name = "WIDTH", conflicts_with = "temperature", value_parser = clap::value_parser!(u32).range(1..=256))]
    beam: Option<u32>,
    /// Draw from the softmax at this temperature
    #[arg(long)]
    temperature: Option<f64>,
    /// Compute every position anew for each number, instead of keeping what they leave
    #[arg(long, conflicts_with = "data")]
    naive: bool,
    /// Seed of --temperature [default: 1]
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    json: JsonArg,
}

pub(super) fn run(host: &Host, args: GenerateArgs) -> Result<()> {
    let config = Config::of_run(args.weights.folder()?)?;
    if (config.data.kind() as &dyn Any).is::<MechanismsConfig>() {
        if !args.prompt.is_empty()
            || args.count.is_some()
            || args.beam.is_some()
            || args.temperature.is_some()
            || args.seed.is_some()
            || args.naive
        {
            let options = "--prompt, --count, --beam, --temperature, --seed and --naive";
            return Err(Error::Config(format!("{options} are for runs on integer sequences; this one takes --data, --sample and --svg")));
        }
        return mechanisms(host, config, &args);
    }
    if args.data.is_some() || !args.sample.is_empty() || args.svg.is_some() {
        return Err(Error::Config("--data, --sample and --svg are for runs of data.kind = \"mechanisms\"".into()));
    }
    let strategy = match (args.beam, args.temperature) {
        (Some(width), _) => Strategy::Beam(width as usize),
        (_, Some(t)) if t > 0.0 && t.is_finite() => Strategy::Temperature(t, args.seed.unwrap_or(1)),
        (_, Some(t)) => return Err(Error::Config(format!("--temperature {t} is out of range: it must be above 0, and finite"))),
        _ => Strategy::Greedy,
    };
    let gpu = Arc::new(host.open(args.device.device.as_deref())?);
    let batch = if let Strategy::Beam(width) = strategy { width } else { 1 };
    let mut decoder = Decoder::new(&Problem::open(&config, Purpose::Generate)?, &gpu, batch)?;
    decoder.load(&weights_of(host, &args.weights)?.load(decoder.plan().parameters())?)?;
    decoder.naive = args.naive;
    let count = args.count.unwrap_or(5) as usize;
    let numbers = decoder.generate(&args.prompt, count, strategy)?;
    // Of the last number that is added the model sees all before it.
    let seen = args.prompt.len() + count - 1;
    match (decoder.limit(), decoder.context()) {
        (Some(limit), _) if seen > limit => {
            host.note(&format!("the model sees {limit} numbers: each further one is predicted from the last {limit} alone"));
        }
        (None, context) if seen > context => {
            host.note(&format!("the model sees all numbers, and was trained on sequences of {context}: longer ones are new to it"));
        }
        _ => {}
    }
    if args.json.json {
        return host.print_json(&json!({ "prompt": args.prompt, "generated": numbers }));
    }
    let list = |v: &[u32]| v.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    host.print(&format!("{} → {}", list(&args.prompt), list(&numbers)))
}

/// Generates mechanisms from latents and types: joints until the stop bit, beside the true ones if the file has them.
fn mechanisms(host: &Host, mut config: Config, args: &GenerateArgs) -> Result<()> {
    const SHOWN: usize = 6;
    if let Some(file) = &args.data {
        config.data.on_file(file)?;
    }
    let file = config.data.files().first().map(|(_, file)| file.to_path_buf()).filter(|file| file.exists());
    let truth = file.map(|file| Npz::open(&file)).transpose()?.is_some_and(|npz| npz.names().iter().any(|n| n == "joints"));
    config.train.batch = args.sample.len().clamp(1, 64);
    if let Some(path) = &args.svg {
        let read: Vec<&Path> = config.data.files().into_iter().map(|(_, file)| file).collect();
        expect_apart(path, &read, args.weights.folder()?)?;
    }
    // The run's own file is split, as training saw it.
    let purpose = match (&args.data, truth) {
        (_, false) => Purpose::Generate,
        (Some(_), true) => Purpose::Test,
        (None, true) => Purpose::Train,
    };
    let (problem, session) =
        trained(host, weights_of(host, &args.weights)?, Problem::open(&config, purpose)?, args.device.device.as_deref())?;
    let scorecard: Box<dyn Any> = problem.scorecard();
    let none = || Error::Config("this run makes no mechanisms".into());
    let scorecard = scorecard.downcast_ref::<MechanismScorecard>().ok_or_else(none)?;
    let data = scorecard.data();
    let samples = data.counts.len();
    if let Some(beyond) = args.sample.iter().find(|n| **n >= samples) {
        return Err(Error::Config(format!("--sample {beyond}: the file has {samples} samples, numbered from 0")));
    }
    let numbers = match (&args.sample[..], &args.data) {
        ([], None) => scorecard.validation().iter().copied().take(SHOWN).collect(),
        ([], Some(_)) => (0..samples.min(SHOWN)).collect(),
        (given, _) => given.to_vec(),
    };
    let known = |kind: u32| linkages::KINDS.get(kind as usize).filter(|_| data.linkages);
    let name = |kind: u32| known(kind).map_or(format!("type {kind}"), |k| k.name.to_string());
    let mut rows: Vec<Made> = Vec::new();
    for (i, joints) in numbers.iter().zip(scorecard.generate(&session, &numbers)?) {
        let stop = until_stop(&joints);
        let predicted: Vec<[f64; 2]> = joints[..stop].iter().map(|(p, _)| *p).collect();
        let truth = data.joints_of(*i);
        let distances: Vec<f64> = truth.iter().zip(&predicted).map(|(t, p)| (p[0] - t[0]).hypot(p[1] - t[1])).collect();
        let error = (!distances.is_empty()).then(|| distances.iter().sum::<f64>() / distances.len() as f64);
        rows.push((*i, data.types[*i], predicted, truth, error));
    }
    if let Some(path) = &args.svg {
        let shape = |kind: u32, joints, predicted| draw::Drawing { kind: known(kind), joints, predicted };
        let cells: Vec<draw::Cell<'_>> = rows
            .iter()
            .map(|(i, kind, predicted, truth, error)| draw::Cell {
                caption: format!("{i}: {}{}", name(*kind).replace('_', " "), error.map_or(String::new(), |e| format!(", {e:.2} mm"))),
                drawings: vec![shape(*kind, &truth[..], false), shape(*kind, &predicted[..], true)],
            })
            .collect();
        files::write(path, draw::picture(&cells, 3).as_bytes())?;
    }
    if args.json.json {
        let list: Vec<_> = rows
            .iter()
            .map(|(i, kind, predicted, truth, error)| {
                json!({ "sample": i, "type": kind, "name": name(*kind), "joints": predicted, "true_joints": truth, "error_mm": error })
            })
            .collect();
        return host.print_json(&list);
    }
    let mut out = rows.iter().map(|row| described(row, &name(row.1))).collect::<String>();
    if let Some(path) = &args.svg {
        let _ = write!(out, "\npredicted (dashed) over true linkages, and the curves that both trace, are in {}", path.display());
    }
    host.print(&out)
}

/// A generated mechanism: number and type of its sample, predicted and true joints, and their mean distance in mm.
type Made = (usize, u32, Vec<[f64; 2]>, Vec<[f64; 2]>, Option<f64>);

/// Describes a sample with its joints, one line each.
fn described(row: &Made, name: &str) -> String {
    let (i, _, predicted, truth, error) = row;
    let compared = error.map_or(String::new(), |e| format!(", {} in truth; {e:.2} mm apart", truth.len()));
    let mut out = format!("sample {i}, {name}: {} joints{compared}\n", predicted.len());
    for (j, p) in predicted.iter().enumerate() {
        let _ = write!(out, "  J{}  ({:>7.2}, {:>7.2})", j + 1, p[0], p[1]);
        if let Some(t) = truth.get(j) {
            let _ = write!(out, "   true ({:>7.2}, {:>7.2})", t[0], t[1]);
        }
        out.push('\n');
    }
    out
}
