//! What each command does.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Instant;

use serde_json::json;

use super::{Command, Data, RunArgs, WeightsArgs, bytes, print, print_json};
use crate::config::{Config, DataConfig, ImagesConfig, MechanismsConfig};
use crate::datasets::integer_sequences::{CONTEXT, FAMILIES, LENGTH, Sequence, draw_family};
use crate::datasets::linkages;
use crate::datasets::npz::{Npz, Numbers, write_arrays};
use crate::datasets::{Split, folder_of};
use crate::draw;
use crate::error::{Error, Result};
use crate::generate::{self, Decoder, Strategy};
use crate::gpu::{Gpu, Target, adapters};
use crate::harness::batch::{ALLOWED, check_batch};
use crate::harness::model::check_model;
use crate::harness::{FAMILIES as KERNELS, check_spec, targets};
use crate::kernels::State;
use crate::models::{ModelConfig, SequenceTransformerConfig};
use crate::plan::{Flat, Program};
use crate::random::Random;
use crate::train::{
    self, ImageTask, IntegerTask, Judgement, MechanismTask, Metrics, Session, Task, VectorTask, default_budget, largest_batch,
    load_weights, record_training, task,
};

/// Working set that the last-level cache of the RX 6600 holds.
const INFINITY_CACHE: u64 = 32 << 20;

pub(super) fn run(command: Command) -> Result<()> {
    match command {
        Command::Train { run, out, resume, init, budget, device, steps, json } => {
            let config = load(&run)?;
            let name = run.run.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let out = out.unwrap_or_else(|| PathBuf::from("runs").join(name));
            let options =
                train::Options { out, resume, init, budget, device: device.device, steps, quiet: json.json, stop: stop_on_signals()? };
            let report = train::train(&config, &options)?;
            if json.json { print_json(&report) } else { print(&report.table()) }
        }
        Command::Eval { weights, sequences, data, predictions, device, json } => {
            eval(&EvalArgs { weights, sequences, data, predictions, device: device.device, json: json.json })
        }
        Command::Compare { runs, markdown, svg, json } => {
            let comparison = train::compare(&runs, svg.as_deref())?;
            match (json.json, markdown) {
                (true, _) => print_json(&comparison),
                (_, true) => print(&comparison.markdown()),
                _ => print(&comparison.table()),
            }
        }
        Command::Export { weights, out } => export(&weights, &out),
        Command::Encode { weights, data, out, device, json } => encode(&weights, &data, &out, device.device.as_deref(), json.json),
        Command::Generate { weights, prompt, data, sample, svg, count, beam, temperature, seed, device, json } => {
            let config = run_config(&weights.run)?;
            if matches!(config.data, DataConfig::Mechanisms(_)) {
                let args = GenerateArgs { weights, data, sample, svg, device: device.device, json: json.json };
                if !prompt.is_empty() || count.is_some() || beam.is_some() || temperature.is_some() || seed.is_some() {
                    let options = "--prompt, --count, --beam, --temperature and --seed";
                    return Err(Error::Config(format!(
                        "{options} are for runs on integer sequences; this one takes --data, --sample and --svg"
                    )));
                }
                return generate_mechanisms(config, &args);
            }
            if data.is_some() || !sample.is_empty() || svg.is_some() {
                return Err(Error::Config("--data, --sample and --svg are for runs of data.kind = \"mechanisms\"".into()));
            }
            let strategy = match (beam, temperature) {
                (Some(width), _) => Strategy::Beam(width as usize),
                (_, Some(t)) if t > 0.0 && t.is_finite() => Strategy::Temperature(t, seed.unwrap_or(1)),
                (_, Some(t)) => return Err(Error::Config(format!("--temperature {t} is out of range: it must be above 0, and finite"))),
                _ => Strategy::Greedy,
            };
            let gpu = Arc::new(Gpu::open(device.device.as_deref())?);
            let batch = if let Strategy::Beam(width) = strategy { width } else { 1 };
            let mut decoder = Decoder::new(&config, &gpu, batch)?;
            decoder.load(&load_weights(&file_of(&weights)?, decoder.plan().parameters())?)?;
            let numbers = decoder.generate(&prompt, count.unwrap_or(5) as usize, strategy)?;
            if json.json {
                return print_json(&json!({ "prompt": prompt, "generated": numbers }));
            }
            let list = |v: &[u32]| v.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            print(&format!("{} → {}", list(&prompt), list(&numbers)))
        }
        Command::Estimate { runs, set, budget, all, device, json } => {
            let on = On::new(device.device.as_deref(), budget)?;
            match &runs[..] {
                [run] => estimate(&Config::load(run, &set)?, &on, all, json.json),
                _ => estimates(&runs, &set, &on, json.json),
            }
        }
        Command::Check { runs, set, cases, device, json } => {
            check(&runs, &set, cases.map(|n| n as usize), device.device.as_deref(), json.json)
        }
        Command::Profile { run, rounds, all, device, json } => {
            profile(&load(&run)?, rounds as usize, all, device.device.as_deref(), json.json)
        }
        Command::Plan { run } => {
            let config = load(&run)?;
            print(&record_training(&config, task(&config)?.as_ref(), Target::default())?.0.dump())
        }
        Command::Data { what } => data(what),
        Command::Devices { json } => devices(json.json),
        Command::Inspect { file, json } => inspect(&file, json.json),
    }
}

fn load(run: &RunArgs) -> Result<Config> {
    Config::load(&run.run, &run.set)
}

/// Configuration of a run folder.
fn run_config(folder: &Path) -> Result<Config> {
    let path = folder.join("config.toml");
    if !path.exists() {
        return Err(Error::MissingInput(format!(
            "{} is no run folder: it has no config.toml. Train one with `engine train`",
            folder.display()
        )));
    }
    Config::load(&path, &[])
}

/// A number that becomes that of the first SIGINT, SIGTERM or, where there is one, SIGHUP; a second one ends the process at once.
fn stop_on_signals() -> Result<Arc<AtomicUsize>> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let (stop, armed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut signals = vec![SIGINT, SIGTERM];
    #[cfg(unix)]
    signals.push(signal_hook::consts::SIGHUP);
    for signal in signals {
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, armed.clone())
            .and_then(|_| signal_hook::flag::register(signal, armed.clone()))
            .and_then(|_| signal_hook::flag::register_usize(signal, stop.clone(), signal as usize))
            .map_err(|e| Error::Internal(format!("signal handler: {e}")))?;
    }
    Ok(stop)
}

fn devices(json: bool) -> Result<()> {
    let all = adapters();
    if all.is_empty() {
        return Gpu::open(None).map(|_| ());
    }
    if json {
        return print_json(&all);
    }
    let width = all.iter().map(|a| a.name.len()).max().unwrap_or(0);
    let mut out = format!("   {:width$}  {:8} {:10} {:>9}  driver\n", "name", "backend", "kind", "buffer");
    for a in all {
        let buffer = bytes(a.max_binding);
        let _ = writeln!(out, "{:2} {:width$}  {:8} {:10} {buffer:>9}  {}", a.index, a.name, a.backend, a.kind, a.driver);
        if let Some(why) = a.unusable {
            let _ = writeln!(out, "   unusable: {why}");
        }
    }
    print(&out)
}

struct EvalArgs {
    weights: WeightsArgs,
    sequences: Option<u32>,
    data: Option<PathBuf>,
    predictions: Option<PathBuf>,
    device: Option<String>,
    json: bool,
}

/// The file with the weights that were asked for; standard error says which they are.
fn file_of(weights: &WeightsArgs) -> Result<PathBuf> {
    let (file, step) = train::weights_of(&weights.run, &weights.checkpoint)?;
    let step = step.map_or(String::new(), |step| format!(" of step {step}"));
    let _ = writeln!(std::io::stderr(), "weights{step}: {}", file.display());
    Ok(file)
}

/// A task with its data and an evaluating session with the run's weights.
fn trained<T: Task>(weights: &WeightsArgs, mut task: T, device: Option<&str>) -> Result<(T, Session)> {
    let file = file_of(weights)?;
    task.take_buffers(&file)?;
    task.load()?;
    let gpu = Arc::new(Gpu::open(device)?);
    let session = Session::evaluation(&task, &gpu)?;
    session.arena.write_flat(Flat::Parameters, &load_weights(&file, session.evaluate.0.plan.parameters())?)?;
    Ok((task, session))
}

fn eval(args: &EvalArgs) -> Result<()> {
    let mut config = run_config(&args.weights.run)?;
    if args.sequences.is_some() && !matches!(config.data, DataConfig::IntegerSequences(_)) {
        return Err(Error::Config("--sequences is for runs of data.kind = \"integer_sequences\"".into()));
    }
    if let DataConfig::Vectors(source) = &mut config.data {
        if let Some(file) = &args.data {
            (source.file, source.ood_file) = (file.clone(), None);
            // A file to test on may be smaller than a batch to train on.
            if file.exists() {
                let samples = crate::datasets::vectors::header(file)?.samples;
                let training = crate::datasets::training_samples(samples, source.validation_share).max(1);
                config.train.batch = config.train.batch.min(training);
            }
        }
        let (task, session) = trained(&args.weights, VectorTask::new(&config)?, args.device.as_deref())?;
        return eval_vectors(args, &task, &session);
    }
    if let DataConfig::Mechanisms(MechanismsConfig { file, .. }) | DataConfig::Images(ImagesConfig { file, .. }) = &mut config.data {
        if args.predictions.is_some() {
            return Err(Error::Config(
                "--predictions is for runs of data.kind = \"vectors\". Use `engine generate` or `engine encode`".into(),
            ));
        }
        let whole = args.data.is_some();
        if let Some(data) = &args.data {
            file.clone_from(data);
        }
        let device = args.device.as_deref();
        let judgement = if matches!(config.data, DataConfig::Images(_)) {
            let task = ImageTask::new(&config)?;
            let (task, session) = trained(&args.weights, if whole { task.whole() } else { task }, device)?;
            (task.judge(&session, 0)?, task.shown())
        } else {
            let task = MechanismTask::new(&config)?;
            let (task, session) = trained(&args.weights, if whole { task.whole(true) } else { task }, device)?;
            (task.judge(&session, 0)?, task.shown())
        };
        let (Judgement { rows, notes }, shown) = judgement;
        if args.json {
            return print_json(&rows.into_iter().collect::<BTreeMap<_, _>>());
        }
        return print(&format!("{}\n{}", train::metrics_table(&rows, &shown), notes.join("\n")));
    }
    if args.data.is_some() || args.predictions.is_some() {
        return Err(Error::Config("--data and --predictions are for runs on files; sequences are generated".into()));
    }
    let (task, session) = trained(&args.weights, IntegerTask::new(&config)?, args.device.as_deref())?;
    let sequences = args.sequences.unwrap_or(500) as usize;
    let mut rows: Vec<(String, Metrics)> = Vec::new();
    for family in &FAMILIES {
        let draw = |i: usize| draw_family(family, &mut Random::new(task.seed(), Split::Test as u32, i as u64));
        let samples: Vec<_> = (0..sequences).map(draw).collect();
        rows.push((format!("{} {}", family.phase, family.name), train::evaluate_sequences(&session, &samples)?));
    }
    rows.extend(task.test(&session, sequences)?.0);
    let (name, guess) = task.baseline();
    let Judgement { rows, notes } = Judgement::beside(rows, vec![(name.into(), guess)], &task.shown(), vec![]);
    if args.json {
        let map: BTreeMap<_, _> = rows.into_iter().collect();
        return print_json(&map);
    }
    let table = train::metrics_table(&rows, &task.shown());
    print(&format!("{table}\n{sequences} fresh sequences a row; ninth acc. predicts the ninth number from eight.\n{}", notes.join("\n")))
}

/// Metrics on each set of the file, and the predictions for its first one.
fn eval_vectors(args: &EvalArgs, task: &VectorTask, session: &Session) -> Result<()> {
    let data = task.data()?;
    let judgement = task.judge(session, 0)?;
    let mut rows = vec![("training".to_string(), task.evaluate(session, &data.train)?)];
    rows.extend(judgement.rows.into_iter().map(|(name, m)| (if name == "this model" { "validation".into() } else { name }, m)));
    if let Some(path) = &args.predictions {
        let sets = [Some(("train", &data.train)), Some(("val", &data.validation)), data.ood.as_ref().map(|o| ("ood", o))];
        let mut arrays = Vec::new();
        for (name, set) in sets.into_iter().flatten() {
            let (predictions, cosines) = task.predict(session, set)?;
            arrays.push((format!("{name}_predictions"), vec![set.samples, set.dim], predictions));
            arrays.push((format!("{name}_cosines"), vec![set.samples], cosines));
        }
        let views: Vec<_> = arrays.iter().map(|(n, s, v)| (n.as_str(), s.as_slice(), v.as_slice())).collect();
        crate::datasets::npz::write(path, &views)?;
    }
    if args.json {
        let map: BTreeMap<_, _> = rows.into_iter().collect();
        return print_json(&map);
    }
    let mut out = train::metrics_table(&rows, &task.shown());
    for note in judgement.notes {
        let _ = write!(out, "\n{note}");
    }
    if let Some(path) = &args.predictions {
        let _ = write!(out, "\npredictions (unit vectors) and cosines are in {}", path.display());
    }
    print(&out)
}

/// Latents of the images of a file, with what else it says of them.
fn encode(weights: &WeightsArgs, data: &Path, out: &Path, device: Option<&str>, json: bool) -> Result<()> {
    let mut config = run_config(&weights.run)?;
    let DataConfig::Images(source) = &mut config.data else {
        let run = weights.run.display();
        return Err(Error::Config(format!("{run} encodes no images: give a run of model.kind = \"image_vae\"")));
    };
    source.file = data.to_path_buf();
    if out.exists() && std::fs::canonicalize(out).ok() == std::fs::canonicalize(data).ok() {
        return Err(Error::Config(format!("--out {} is the file of the images: name another one", out.display())));
    }
    expect_writable(out)?;
    let (task, session) = trained(weights, ImageTask::new(&config)?.whole(), device)?;
    let bar = train::progress_bar(task.samples()? as u64, "images", json);
    let (latents, width) = task.encode(&session, |n| bar.inc(n as u64))?;
    bar.finish_and_clear();
    let samples = latents.len() / width;
    let mut npz = Npz::open(data)?;
    let mut others = Vec::new();
    for name in ["types", "joints", "mask", linkages::MARK] {
        if npz.names().iter().any(|n| n == name) {
            let array = npz.array(name)?;
            others.push((name, array.shape, array.values.to_f32()));
        }
    }
    let whole = |name: &str| name == "types" || name == linkages::MARK;
    let integers: Vec<Vec<i32>> = others.iter().map(|(.., v)| v.iter().map(|t| *t as i32).collect()).collect();
    let shape = [samples, width];
    let mut arrays = vec![("latents", &shape[..], Numbers::F32(&latents))];
    for ((name, shape, values), integers) in others.iter().zip(&integers) {
        arrays.push((name, shape, if whole(name) { Numbers::I32(integers) } else { Numbers::F32(values) }));
    }
    write_arrays(out, &arrays)?;
    let names: Vec<&str> = arrays.iter().map(|(name, ..)| *name).collect();
    if json {
        return print_json(&json!({ "file": out, "samples": samples, "latents": width, "members": names }));
    }
    print(&format!("{}: {samples} samples, latents of {width}; members {}", out.display(), names.join(", ")))
}

struct GenerateArgs {
    weights: WeightsArgs,
    data: Option<PathBuf>,
    sample: Vec<usize>,
    svg: Option<PathBuf>,
    device: Option<String>,
    json: bool,
}

/// Mechanisms from latents and types: joints until the stop bit, beside the true ones where the file has them.
fn generate_mechanisms(mut config: Config, args: &GenerateArgs) -> Result<()> {
    const SHOWN: usize = 6;
    let DataConfig::Mechanisms(source) = &mut config.data else {
        return Err(Error::Internal("no run on mechanisms".into()));
    };
    if let Some(file) = &args.data {
        source.file.clone_from(file);
    }
    let truth = source.file.exists() && Npz::open(&source.file)?.names().iter().any(|n| n == "joints");
    config.train.batch = args.sample.len().clamp(1, 64);
    if let Some(path) = &args.svg {
        expect_writable(path)?;
    }
    let mut task = MechanismTask::new(&config)?;
    // The run's own file is split, as training saw it.
    if args.data.is_some() || !truth {
        task = task.whole(truth);
    }
    let (task, session) = trained(&args.weights, task, args.device.as_deref())?;
    let data = task.data()?;
    let samples = data.counts.len();
    if let Some(beyond) = args.sample.iter().find(|n| **n >= samples) {
        return Err(Error::Config(format!("--sample {beyond}: the file has {samples} samples, numbered from 0")));
    }
    let numbers = match (&args.sample[..], &args.data) {
        ([], None) => task.validation().iter().copied().take(SHOWN).collect(),
        ([], Some(_)) => (0..samples.min(SHOWN)).collect(),
        (given, _) => given.to_vec(),
    };
    let known = |kind: u32| linkages::KINDS.get(kind as usize).filter(|_| data.linkages);
    let name = |kind: u32| known(kind).map_or(format!("type {kind}"), |k| k.name.to_string());
    let mut rows = Vec::new();
    for (i, joints) in numbers.iter().zip(task.generate(&session, &numbers)?) {
        let stop = train::until_stop(&joints);
        let predicted: Vec<[f64; 2]> = joints[..stop].iter().map(|(p, _)| *p).collect();
        let truth = data.joints_of(*i);
        let distances: Vec<f64> = truth.iter().zip(&predicted).map(|(t, p)| (p[0] - t[0]).hypot(p[1] - t[1])).collect();
        let error = (!distances.is_empty()).then(|| distances.iter().sum::<f64>() / distances.len() as f64);
        rows.push((*i, data.types[*i], predicted, truth, error));
    }
    if let Some(path) = &args.svg {
        let shape = |kind: u32, joints, predicted| draw::Shape { kind: known(kind), joints, predicted };
        let cells: Vec<draw::Cell<'_>> = rows
            .iter()
            .map(|(i, kind, predicted, truth, error)| draw::Cell {
                caption: format!("{i}: {}{}", name(*kind), error.map_or(String::new(), |e| format!(", {e:.2} mm"))),
                shapes: vec![shape(*kind, &truth[..], false), shape(*kind, &predicted[..], true)],
            })
            .collect();
        train::write_atomically(path, draw::picture(&cells, 3).as_bytes())?;
    }
    if args.json {
        let list: Vec<_> = rows
            .iter()
            .map(|(i, kind, predicted, truth, error)| {
                json!({ "sample": i, "type": kind, "name": name(*kind), "joints": predicted, "true_joints": truth, "error_mm": error })
            })
            .collect();
        return print_json(&list);
    }
    let mut out = String::new();
    for (i, kind, predicted, truth, error) in &rows {
        let compared = error.map_or(String::new(), |e| format!(", {} in truth; {e:.2} mm apart", truth.len()));
        let _ = writeln!(out, "sample {i}, {}: {} joints{compared}", name(*kind), predicted.len());
        for (j, p) in predicted.iter().enumerate() {
            let _ = write!(out, "  J{}  ({:>7.2}, {:>7.2})", j + 1, p[0], p[1]);
            if let Some(t) = truth.get(j) {
                let _ = write!(out, "   true ({:>7.2}, {:>7.2})", t[0], t[1]);
            }
            out.push('\n');
        }
    }
    if let Some(path) = &args.svg {
        let _ = write!(out, "\npredicted (dashed) over true linkages, and the curves that both trace, are in {}", path.display());
    }
    print(&out)
}

/// Weights of a run alone, under their PyTorch names.
fn export(from: &WeightsArgs, out: &Path) -> Result<()> {
    let config = run_config(&from.run)?;
    let mut task = train::task(&config)?;
    let (plan, _) = train::record_evaluation(task.as_ref(), Target::default())?;
    let place = |path: &Path| std::fs::canonicalize(path).ok();
    if place(folder_of(out)).is_some_and(|folder| place(&from.run).is_some_and(|run| folder.starts_with(run))) {
        return Err(Error::CannotCreate(format!("{} lies in the run's own folder: name a file elsewhere", out.display())));
    }
    expect_writable(out)?;
    let from = file_of(from)?;
    task.take_buffers(&from)?;
    let weights = load_weights(&from, plan.parameters())?;
    train::export_weights(out, plan.parameters(), &weights, task.buffers())?;
    let buffers: Vec<&str> = task.buffers().iter().map(|b| b.name.as_str()).collect();
    let (also, strict) = match &buffers[..] {
        [] => (String::new(), ""),
        names => (format!(", and {}", names.join(", ")), ", strict=False"),
    };
    print(&format!(
        "{}: {} weights in {} tensors{also}. In PyTorch: model.load_state_dict(safetensors.torch.load_file(\"{}\"){strict})",
        out.display(),
        plan.parameter_count(),
        plan.parameters().len(),
        out.display()
    ))
}

/// Whose memory is estimated.
struct On {
    device: String,
    target: Target,
    budget: u64,
}

impl On {
    /// A device of this machine by number or name, or the RX 6600 without asking any.
    fn new(device: Option<&str>, budget: Option<u64>) -> Result<On> {
        let Some(wanted) = device else {
            let device = "an RX 6600; --device takes one of this machine".into();
            return Ok(On { device, target: Target::default(), budget: budget.unwrap_or(8 << 30) });
        };
        let gpu = Gpu::open(Some(wanted))?;
        Ok(On { device: gpu.describe(), target: gpu.target, budget: budget.unwrap_or_else(|| default_budget(&gpu)) })
    }
}

/// One line a run.
fn estimates(runs: &[PathBuf], set: &[String], on: &On, as_json: bool) -> Result<()> {
    let (target, budget) = (on.target, on.budget);
    let width = runs.iter().map(|r| r.display().to_string().chars().count()).max().unwrap_or(0);
    let mut out = format!("{:width$}{:>12}{:>8}{:>12}  {:<6}{:>14}\n", "run", "parameters", "batch", "memory", "fits", "largest batch");
    let mut list = Vec::new();
    for run in runs {
        let config = Config::load(run, set)?;
        let memory = train::memory(&config, target, budget)?;
        let parameters = record_training(&config, task(&config)?.as_ref(), target)?.0.parameter_count();
        let total = memory.report.total_bytes;
        let fits = total <= budget && memory.buffers.iter().all(|b| b.bytes <= target.max_binding);
        let largest = largest_batch(&config, target, budget);
        let (yes, most) = (if fits { "yes" } else { "no" }, largest.map_or("none".to_string(), |b| b.to_string()));
        let (name, batch) = (run.display().to_string(), config.train.batch);
        let _ = writeln!(out, "{name:width$}{parameters:>12}{batch:>8}{:>12}  {yes:<6}{most:>14}", bytes(total));
        list.push(json!({ "run": run, "parameters": parameters, "total_bytes": total, "fits": fits, "largest_batch": largest }));
    }
    if as_json {
        return print_json(&list);
    }
    print(&format!("{out}\non {}; budget {}", on.device, bytes(budget)))
}

fn estimate(config: &Config, on: &On, all: bool, json: bool) -> Result<()> {
    let (target, budget) = (on.target, on.budget);
    let memory = train::memory(config, target, budget)?;
    let report = &memory.report;
    let (plan, _) = record_training(config, task(config)?.as_ref(), target)?;
    let largest = largest_batch(config, target, budget);
    let batch = config.train.batch as u64;
    let decode = match &config.model {
        ModelConfig::SequenceTransformer(m) => Some((generate::memory(config, target, 1)?.report.total_bytes, rule_of_thumb(m, batch))),
        _ => None,
    };
    let limit = target.max_binding;
    let too_large = memory.buffers.iter().find(|b| b.bytes > limit).map(|b| b.name.clone());
    if json {
        return print_json(&json!({
            "device": on.device,
            "parameters": plan.parameter_count(),
            "total_bytes": report.total_bytes,
            "bytes_by_role": report.bytes_by_role,
            "budget_bytes": budget,
            "fits": report.total_bytes <= budget && too_large.is_none(),
            "largest_batch": largest,
            "peak_live_bytes": report.peak_live_bytes,
            "peak_at": report.peak_at,
            "unshared_activation_bytes": report.unshared_activation_bytes,
            "working_set_bytes": report.working_set_bytes,
            "working_set_at": report.working_set_at,
            "step_traffic_bytes": report.step_traffic_bytes,
            "infinity_cache_bytes": INFINITY_CACHE,
            "decode_bytes": decode.map(|(bytes, _)| bytes),
            "dispatches": plan.entries().len(),
            "rule_of_thumb": decode.map(|(_, [embedding, layers, inputs])| {
                let rule = embedding + layers + inputs;
                json!({ "embedding": embedding, "layers": layers, "batch": inputs, "intermediate_low": 2 * rule, "intermediate_high": 3 * rule })
            }),
            "data_set": data_set(config)?,
            "tensors": report.tensors,
        }));
    }
    let mut out =
        format!("{} parameters, {} dispatches a step, batch {batch}; on {}\n\n", plan.parameter_count(), plan.entries().len(), on.device);
    for (role, n) in &report.bytes_by_role {
        let _ = writeln!(out, "{role:<14}{n:>16}  {:>10}", bytes(*n));
    }
    let _ = writeln!(out, "{:<14}{:>16}  {:>10}\n", "total", report.total_bytes, bytes(report.total_bytes));
    let mut tensors: Vec<_> = report.tensors.iter().collect();
    tensors.sort_by(|a, b| b.bytes.cmp(&a.bytes).then(a.name.cmp(&b.name)));
    let shown = if all { tensors.len() } else { tensors.len().min(10) };
    let width = tensors[..shown].iter().map(|t| t.name.len()).max().unwrap_or(0);
    for t in &tensors[..shown] {
        let shape = format!("{:?}", t.shape);
        let _ = writeln!(out, "{:width$}  {shape:<16}{:>12}  {:<12} {:<9} in {}", t.name, t.bytes, t.role, t.plan, t.buffer);
    }
    if shown < tensors.len() {
        let _ = writeln!(out, "… and {} smaller ones (--all lists them)", tensors.len() - shown);
    }
    let share = |n: u64| format!("{:.1} % of the 32 MiB Infinity Cache", 100.0 * n as f64 / INFINITY_CACHE as f64);
    let _ = writeln!(out, "\npeak          {} of pooled tensors alive, at {}", bytes(report.peak_live_bytes), report.peak_at);
    let _ = writeln!(out, "without reuse {}", bytes(report.unshared_activation_bytes));
    let _ = writeln!(
        out,
        "working set   {} at most in one dispatch ({}), at {}",
        bytes(report.working_set_bytes),
        share(report.working_set_bytes),
        report.working_set_at
    );
    let traffic = report.step_traffic_bytes;
    let _ = writeln!(out, "step traffic  {}, {:.3} ms at 224 GB/s", bytes(traffic), traffic as f64 / 224e6);
    let _ = writeln!(out, "all buffers   {}", share(report.total_bytes));
    if let Some((decode, [embedding, layers, inputs])) = decode {
        let rule = embedding + layers + inputs;
        let _ = writeln!(out, "decoding      {} more for `engine generate`", bytes(decode));
        let _ = writeln!(
            out,
            "rule of thumb embedding {} + layers {} + batch {} = {}, with 2 to 3 times the forward pass {} to {}: {:.2} of the plan's total",
            bytes(embedding),
            bytes(layers),
            bytes(inputs),
            bytes(rule),
            bytes(2 * rule),
            bytes(3 * rule),
            3.0 * rule as f64 / report.total_bytes as f64
        );
    }
    if let Some(text) = data_set(config)? {
        let resident = memory.buffers.iter().any(|b| b.name.starts_with("data."));
        let note = if resident { "on the device, gathered there" } else { "not on the device: batches are streamed" };
        let _ = writeln!(out, "data set      {text}; {note}");
    }
    let fits = match (&too_large, report.total_bytes <= budget) {
        (Some(name), _) => format!("no: buffer {name} exceeds the {} of one binding", bytes(limit)),
        (None, true) => "yes".to_string(),
        (None, false) => "no".to_string(),
    };
    let largest = largest.map_or("none".to_string(), |b| b.to_string());
    let _ = writeln!(out, "budget        {}: fits: {fits}; largest train.batch that fits: {largest}", bytes(budget));
    print(&out)
}

/// The rule of thumb of the original design notes, with four bytes a number: embedding, layers, inputs.
fn rule_of_thumb(m: &SequenceTransformerConfig, batch: u64) -> [u64; 3] {
    let (d, length) = (m.d_model as u64, CONTEXT as u64);
    let per_layer = 2 * (d * m.heads as u64 * length * 4) + m.feed_forward as u64 * length * 4;
    [256 * d * 4, m.layers as u64 * per_layer, batch * length * d * 4]
}

/// What is known of a run's data file.
fn data_set(config: &Config) -> Result<Option<String>> {
    let Some(file) = config.data.file() else { return Ok(None) };
    if !file.exists() {
        let of = match &config.data {
            DataConfig::IntegerSequences(_) => return Ok(None),
            DataConfig::Vectors(d) => format!("contexts of {} vectors of {}", d.context, d.dim),
            DataConfig::Mechanisms(d) => format!("latents of {}", d.latents),
            DataConfig::Images(d) => format!("images of {0} × {0}", d.side),
        };
        return Ok(Some(format!("{} is not there: estimated for {of}", file.display())));
    }
    let found = match &config.data {
        DataConfig::Mechanisms(_) => {
            let (samples, width) = crate::datasets::mechanisms::header(file, true)?;
            format!("{samples} samples, latents of {width}")
        }
        DataConfig::Images(_) => {
            let (samples, side) = crate::datasets::images::header(file)?;
            format!("{samples} images of {side} × {side}")
        }
        _ => {
            let h = crate::datasets::vectors::header(file)?;
            format!("{} samples, contexts of {} vectors of {}", h.samples, h.context, h.dim)
        }
    };
    Ok(Some(format!("{}: {found}", file.display())))
}

fn check(runs: &[PathBuf], set: &[String], cases: Option<usize>, device: Option<&str>, json: bool) -> Result<()> {
    let configs = runs.iter().map(|path| Config::load(path, set)).collect::<Result<Vec<_>>>()?;
    let gpu = Arc::new(Gpu::open(device)?);
    let progress = !json && std::io::stderr().is_terminal();
    if !json {
        print(&format!("{}\n\n{:<16}{:>8}{:>12}{:>18}{:>9}", gpu.describe(), "kernels", "cases", "elements", "error / allowed", ""))?;
    }
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    let targets = targets(&gpu);
    for family in &KERNELS {
        let count = cases.unwrap_or(family.pinned).min(family.pinned);
        let (mut worst, mut elements, mut failed) = (0.0f64, 0, 0);
        for &target in &targets {
            for i in 0..count {
                if progress && i % 8 == 0 {
                    let _ = write!(std::io::stderr(), "\r{} {i}/{count}   ", family.name);
                }
                match check_spec(&gpu, family, &family.pinned_spec(i), target) {
                    Ok(outcome) => {
                        worst = worst.max(outcome.worst);
                        elements += outcome.elements;
                    }
                    Err(what) => {
                        failed += 1;
                        failures.push(what);
                    }
                }
            }
        }
        if progress {
            let _ = write!(std::io::stderr(), "\r{:40}\r", "");
        }
        let status = if failed == 0 { "ok".to_string() } else { format!("{failed} FAILED") };
        if !json {
            print(&format!("{:<16}{:>8}{elements:>12}{worst:>18.3}{status:>9}", family.name, targets.len() * count))?;
        }
        rows.push(
            json!({ "kernels": family.name, "cases": targets.len() * count, "elements": elements, "worst": worst, "failed": failed }),
        );
    }
    let mut models = Vec::new();
    for (path, config) in runs.iter().zip(&configs) {
        let b = check_batch(&gpu, config)?;
        let mut ok = b.worst.0 <= ALLOWED;
        if !json {
            print(&format!(
                "\n{}: a step at batch {}: {} of {} different dispatches compared with f64, largest NMSE {:.1e} (allowed {ALLOWED:.0e}, {}): {}",
                path.display(),
                b.batch,
                b.dispatches.1,
                b.dispatches.0,
                b.worst.0,
                b.worst.1,
                if ok { "ok" } else { "FAILED" }
            ))?;
        }
        if !ok {
            failures.push(format!("{}: a step at its own batch {b:?}", path.display()));
        }
        let mut row = json!({ "run": path, "batch": b.batch, "compared": b.dispatches.1, "batch_nmse": b.worst.0 });
        if let Some(o) = check_model(&gpu, config)? {
            let fine = o.nmse <= 1e-9 && o.dead.is_empty() && (o.loss.0 - o.loss.1).abs() <= 1e-5 * o.loss.1.abs();
            if !fine {
                failures.push(format!("{}: whole-model gradient {o:?}", path.display()));
            }
            ok &= fine;
            if !json {
                print(&format!(
                    "{}: gradient of {} weights, NMSE {:.1e} (allowed 1e-9), worst tensor {} {:.1e}; loss {:.6}, oracle {:.6}: {}",
                    path.display(),
                    o.weights,
                    o.nmse,
                    o.worst.1,
                    o.worst.0,
                    o.loss.0,
                    o.loss.1,
                    if fine { "ok" } else { "FAILED" }
                ))?;
            }
            let whole = json!({ "weights": o.weights, "nmse": o.nmse, "loss": o.loss.0, "oracle_loss": o.loss.1 });
            row["whole_model"] = whole;
        } else if !json {
            print(&format!(
                "{}: the whole gradient is too large for the f64 tape; a smaller model is checked with --set, as in --set data.dim=32",
                path.display()
            ))?;
        }
        row["ok"] = ok.into();
        models.push(row);
    }
    if json {
        print_json(&json!({ "device": gpu.describe(), "families": rows, "models": models, "failures": failures }))?;
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Error::Internal(format!("kernels differ from their references:\n{}", failures.join("\n"))))
    }
}

/// The task of a run with its data; random data of its sizes where its file is not there.
pub(crate) fn task_with_data(config: &Config) -> Result<Box<dyn Task>> {
    if config.data.file().is_some_and(|f| !f.exists()) {
        return train::random_task(config, (4 * config.train.batch * config.train.accumulate).max(512));
    }
    let mut task = task(config)?;
    task.load()?;
    Ok(task)
}

/// A training program of the run, warmed up, and the median seconds of its steps on real data.
pub(crate) fn timed_step(config: &Config, gpu: &Arc<Gpu>) -> Result<(Session, f64)> {
    let mut task = task_with_data(config)?;
    task.settle(gpu.target, default_budget(gpu))?;
    let session = Session::training(config, task.as_ref(), gpu)?;
    let count = task.steps_per_epoch().min(8);
    let batches = (0..count).map(|step| task.batches(step)).collect::<Result<Vec<_>>>()?;
    let mut state = State { seed: 1, ..State::default() };
    config.optimizer.fill(&mut state, 1000, 1e-6);
    let mut times = Vec::new();
    let started = Instant::now();
    let mut step = 0;
    for round in 0..12 {
        let start = Instant::now();
        let mut last = None;
        // A round of a slow step is one step.
        let steps = if round == 0 {
            2
        } else if times.first().is_some_and(|t| *t > 0.3) {
            1
        } else {
            8
        };
        for _ in 0..steps {
            last = Some(session.submit_step(&batches[step as usize % batches.len()], state, step, config.train.accumulate)?);
            step += 1;
        }
        if let Some(index) = last {
            gpu.wait(index)?;
        }
        times.push(start.elapsed().as_secs_f64() / f64::from(steps));
        if round > 3 && started.elapsed().as_secs_f64() > 15.0 {
            break;
        }
    }
    let mut rest = times.split_off(1);
    rest.sort_by(f64::total_cmp);
    let median = rest[rest.len() / 2];
    Ok((session, median))
}

fn profile(config: &Config, rounds: usize, all: bool, device: Option<&str>, json: bool) -> Result<()> {
    let gpu = Arc::new(Gpu::open(device)?);
    let (session, step) = timed_step(config, &gpu)?;
    let program: &Program = &session.step()?.0;
    let timings = program.profile(rounds)?;
    let total: f64 = timings.iter().map(|t| t.seconds).sum();
    #[derive(Default)]
    struct Row {
        calls: usize,
        seconds: f64,
        flops: u64,
        bytes: u64,
    }
    let mut rows: Vec<(String, Row)> = Vec::new();
    for timing in &timings {
        let entry = &program.plan.entries()[timing.entry];
        let name = if all { format!("{:3} {} {}", timing.entry, entry.shader.name, entry.label) } else { entry.shader.name.clone() };
        let at = rows.iter().position(|(n, _)| *n == name).unwrap_or_else(|| {
            rows.push((name, Row::default()));
            rows.len() - 1
        });
        let row = &mut rows[at].1;
        row.calls += 1;
        row.seconds += timing.seconds;
        row.flops += entry.flops;
        row.bytes += entry.bytes;
    }
    if !all {
        rows.sort_by(|a, b| b.1.seconds.total_cmp(&a.1.seconds));
    }
    if json {
        let list: Vec<_> = rows
            .iter()
            .map(|(name, r)| json!({ "kernel": name, "calls": r.calls, "seconds": r.seconds, "flops": r.flops, "bytes": r.bytes, "share": r.seconds / total }))
            .collect();
        return print_json(&json!({ "device": gpu.describe(), "step_seconds": step, "kernel_seconds": total, "kernels": list }));
    }
    let width = rows.iter().map(|(n, _)| n.len()).max().unwrap_or(0);
    let mut out = format!(
        "{}\n\n{:width$}{:>7}{:>12}{:>9}{:>12}{:>12}{:>10}{:>9}\n",
        gpu.describe(),
        "kernel",
        "calls",
        "time (µs)",
        "share",
        "MFLOP",
        "MB",
        "GFLOP/s",
        "GB/s"
    );
    for (name, r) in &rows {
        let _ = writeln!(
            out,
            "{name:width$}{:>7}{:>12.1}{:>7.1} %{:>12.3}{:>12.3}{:>10.2}{:>9.2}",
            r.calls,
            r.seconds * 1e6,
            100.0 * r.seconds / total,
            r.flops as f64 / 1e6,
            r.bytes as f64 / 1e6,
            r.flops as f64 / r.seconds.max(1e-12) / 1e9,
            r.bytes as f64 / r.seconds.max(1e-12) / 1e9
        );
    }
    let _ = write!(
        out,
        "\n{:.0} µs in {} dispatches, each timed alone (median of {rounds}); a whole step as trained takes {:.0} µs (median), {:.0} steps/s",
        total * 1e6,
        timings.len(),
        step * 1e6,
        1.0 / step
    );
    print(&out)
}

/// Samples on a contact sheet, and in a row of it.
const SHEET: usize = 24;
const SHEET_COLUMNS: usize = 6;

/// Fails, before any work, where a file cannot be made.
fn expect_writable(path: &Path) -> Result<()> {
    tempfile::tempfile_in(folder_of(path)).map(|_| ()).map_err(|e| Error::CannotCreate(format!("cannot create {}: {e}", path.display())))
}

/// The sequences of a run, in the order in which it sees them.
fn sequences(config: &Config, out: &Path) -> Result<()> {
    let mut task = IntegerTask::new(config)?;
    expect_writable(out)?;
    let (train, validation) = (&config.train, &config.validation);
    let steps = train.epochs.saturating_mul(train.steps_per_epoch);
    let validations = steps.div_ceil(validation.every.unwrap_or(train.steps_per_epoch));
    let values = |sequences: Vec<Sequence>| sequences.into_iter().flatten().map(f32::from);
    let bar = train::progress_bar(steps, "steps", false);
    let mut arrays = [vec![], vec![], vec![]];
    for step in 0..steps {
        arrays[0].extend(values(task.training_sequences(step)));
        bar.inc(1);
    }
    bar.finish_and_clear();
    (1..=validations).for_each(|number| arrays[1].extend(values(task.validation_sequences(number))));
    let sets = task.test_sets(train::TESTED);
    let count = sets.len();
    sets.into_iter().for_each(|(_, sequences)| arrays[2].extend(values(sequences)));
    let shapes = [
        [steps as usize, train.batch * train.accumulate, LENGTH],
        [validations as usize, validation.sequences, LENGTH],
        [count, train::TESTED, LENGTH],
    ];
    let names = ["train", "validation", "test"];
    let views: Vec<_> = (0..3).map(|i| (names[i], &shapes[i][..], arrays[i].as_slice())).collect();
    crate::datasets::npz::write(out, &views)?;
    print(&format!("{}: {steps} training steps, {validations} validations, {count} test sets", out.display()))
}

fn data(what: Data) -> Result<()> {
    let (count, seed, out, only, sheet, json) = match what {
        Data::Sequences { run, out } => return sequences(&load(&run)?, &out),
        Data::Linkages { count, seed, out, only, sheet, json } => (count, seed, out, only, sheet, json),
    };
    let started = Instant::now();
    let names = || linkages::KINDS.iter().map(|k| k.name).collect::<Vec<_>>().join(", ");
    let unknown = |name: &String| Error::Config(format!("--only {name}: no such type of linkage. There are {}", names()));
    let mut kinds = only.iter().map(|name| linkages::kind(name).ok_or_else(|| unknown(name))).collect::<Result<Vec<_>>>()?;
    if kinds.is_empty() {
        kinds = (0..linkages::KINDS.len()).collect();
    }
    kinds.sort_unstable();
    kinds.dedup();
    for path in [Some(&out), sheet.as_ref()].into_iter().flatten() {
        expect_writable(path)?;
    }
    let count = count as usize;
    let bar = train::progress_bar(count as u64, "linkages", json.json);
    let samples = linkages::samples(seed, count, &kinds, || bar.inc(1));
    bar.finish_and_clear();
    linkages::write(&out, &samples)?;
    if let Some(path) = &sheet {
        let cells: Vec<_> = samples.iter().take(SHEET).map(draw::sample_cell).collect();
        train::write_atomically(path, draw::picture(&cells, SHEET_COLUMNS).as_bytes())?;
    }
    let rows: Vec<(&str, usize, usize)> = kinds
        .iter()
        .map(|k| (linkages::KINDS[*k].name, linkages::KINDS[*k].joints, samples.iter().filter(|s| s.kind == *k).count()))
        .collect();
    let deviation = linkages::deviation(&samples);
    if json.json {
        let types: Vec<_> = rows.iter().map(|(n, j, c)| json!({ "type": n, "joints": j, "samples": c })).collect();
        return print_json(&json!({ "file": out, "samples": count, "seed": seed, "types": types, "deviation_mm": deviation }));
    }
    let mut text = format!("{:<22}{:>8}{:>10}\n", "type", "joints", "samples");
    for (name, joints, samples) in rows {
        let _ = writeln!(text, "{name:<22}{joints:>8}{samples:>10}");
    }
    let _ = write!(
        text,
        "\n{}: {count} linkages in {:.1} s; coordinates deviate by {:.2} and {:.2} mm",
        out.display(),
        started.elapsed().as_secs_f64(),
        deviation[0],
        deviation[1]
    );
    if let Some(path) = &sheet {
        let _ = write!(text, "; the first {} are drawn in {}", count.min(SHEET), path.display());
    }
    print(&text)
}

fn inspect(file: &Path, json: bool) -> Result<()> {
    std::fs::metadata(file).map_err(|e| Error::read(file, &e))?;
    match file.extension().and_then(|e| e.to_str()) {
        Some("safetensors") => inspect_tensors(file, json),
        Some("toml") => inspect_run(file, json),
        Some("npz") => inspect_npz(file, json),
        _ => Err(Error::Config(format!("{}: inspect knows .npz data, .safetensors files and .toml run files", file.display()))),
    }
}

fn inspect_tensors(file: &Path, as_json: bool) -> Result<()> {
    let tensors = train::TensorFile::open(file)?;
    let size = |info: &safetensors::tensor::TensorInfo| info.data_offsets.1 - info.data_offsets.0;
    let mut rows: Vec<_> =
        tensors.metadata.tensors().into_iter().map(|(n, i)| (n, i.shape.clone(), format!("{:?}", i.dtype), size(i))).collect();
    rows.sort();
    let progress = tensors.progress();
    let count: usize = rows.iter().filter(|r| !r.0.starts_with("optimizer.")).map(|r| r.1.iter().product::<usize>()).sum();
    if as_json {
        let list: Vec<_> = rows.iter().map(|(n, s, t, b)| json!({ "name": n, "shape": s, "dtype": t, "bytes": b })).collect();
        let progress: Option<serde_json::Value> = progress.and_then(|p| serde_json::from_str(p).ok());
        return print_json(&json!({ "tensors": list, "parameters": count, "progress": progress }));
    }
    let width = rows.iter().map(|r| r.0.len()).max().unwrap_or(0);
    let mut out = String::new();
    for (name, shape, dtype, n) in &rows {
        let _ = writeln!(out, "{name:width$}  {dtype:5} {:<16}{n:>12}", format!("{shape:?}"));
    }
    let _ = writeln!(out, "\n{count} weights in {} tensors, {}", rows.len(), bytes(tensors.metadata.data_len() as u64));
    if let Some(progress) = progress {
        let _ = writeln!(out, "checkpoint: {progress}");
    }
    print(&out)
}

/// Members of a data file with their shapes and, where they are vectors, their norms.
fn inspect_npz(file: &Path, as_json: bool) -> Result<()> {
    let mut npz = Npz::open(file)?;
    let mut rows = Vec::new();
    for member in npz.members()? {
        let mut facts = None;
        if let (None, Some(&width)) = (&member.needed_problem, member.shape.last())
            && member.shape.len() >= 2
            && width > 0
        {
            let values = npz.array(&member.name)?.values;
            let norm = |i: usize| (i * width..(i + 1) * width).map(|j| f64::from(values.get(j)).powi(2)).sum::<f64>().sqrt();
            let norms: Vec<f64> = (0..values.len() / width).map(norm).collect();
            let bad = (0..values.len()).filter(|i| !values.get(*i).is_finite()).count();
            let (low, high) = norms.iter().fold((f64::INFINITY, 0.0f64), |(l, h), n| (l.min(*n), h.max(*n)));
            facts = Some((norms.iter().sum::<f64>() / norms.len().max(1) as f64, low, high, bad));
        }
        rows.push((member, facts));
    }
    if as_json {
        let list: Vec<_> = rows
            .iter()
            .map(|(m, f)| {
                json!({
                    "name": m.name, "dtype": m.dtype, "shape": m.shape, "bytes": m.bytes, "problem": m.needed_problem,
                    "norm_mean": f.map(|f| f.0), "norm_min": f.map(|f| f.1), "norm_max": f.map(|f| f.2), "not_finite": f.map(|f| f.3),
                })
            })
            .collect();
        return print_json(&list);
    }
    let width = rows.iter().map(|(m, _)| m.name.chars().count()).max().unwrap_or(0).max(6);
    let mut out = format!("{:width$}  {:<8}{:<20}{:>12}  norms (mean, least, most)\n", "member", "dtype", "shape", "bytes");
    for (m, facts) in rows {
        let shape = format!("{:?}", m.shape);
        let _ = write!(out, "{:width$}  {:<8}{shape:<20}{:>12}", m.name, m.dtype, m.bytes);
        if let Some((mean, low, high, bad)) = facts {
            let _ = write!(out, "  {mean:.4}, {low:.4}, {high:.4}");
            if bad > 0 {
                let _ = write!(out, "; {bad} values are NaN or infinite");
            }
        }
        if let Some(problem) = m.needed_problem {
            let _ = write!(out, "  skipped: {problem}");
        }
        out.push('\n');
    }
    print(&out)
}

/// Families of the generator: an example, and how many different sequences there are among many draws.
fn inspect_run(file: &Path, as_json: bool) -> Result<()> {
    const DRAWS: usize = 50_000;
    let config = Config::load(file, &[])?;
    let data = match (&config.data, config.data.file()) {
        (DataConfig::IntegerSequences(data), _) => data,
        (_, Some(file)) => return inspect_npz(file, as_json),
        _ => return Err(Error::Internal("data of neither a generator nor a file".into())),
    };
    let mut rows = Vec::new();
    for family in &FAMILIES {
        let mut random = Random::new(data.seed, Split::Train as u32, 0);
        let draws: Vec<_> = (0..DRAWS).map(|_| draw_family(family, &mut random)).collect();
        let different = draws.iter().collect::<std::collections::HashSet<_>>().len();
        rows.push((family.phase, family.name, different, draws[0]));
    }
    if as_json {
        let list: Vec<_> =
            rows.iter().map(|(p, n, d, e)| json!({ "phase": p, "family": n, "distinct": d, "draws": DRAWS, "example": e })).collect();
        return print_json(&list);
    }
    let mut out = format!("phase  {:<26}{:>10}   example of {LENGTH} numbers\n", "family", "distinct");
    for (phase, name, different, example) in rows {
        let _ = writeln!(out, "{phase:>5}  {name:<26}{different:>10}   {example:?}");
    }
    let _ = write!(out, "\ndistinct sequences among {DRAWS} draws of each family");
    print(&out)
}
