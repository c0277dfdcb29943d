//! A training run for a browser: its plan as JSON, its kernels as WGSL, its weights, batches and states as bytes, and the page that replays
//! them. The browser gets no model, no data, no schedule and no random numbers of its own.

use std::any::Any;
use std::path::Path;

use serde::Serialize;

use super::web_plan::{self, Buffer, Files, Fill, Kernels, Launch, Limits, Part, Places, browser};
use crate::error::{Error, Result, json};
use crate::gpu::Gpu;
use crate::kernels::State;
use crate::kernels::metrics::{COUNT, NORM, RECORD, SKIPPED, SUMS};
use crate::models::initial_weights;
use crate::plan::{Flat, LayoutOptions, Lowered, Memory, Section};
use crate::problem::{Loaded, Problem};
use crate::registry::Config;
use crate::session::{PredictIo, RING, TrainIo};
use crate::tasks::{IntegerSequencesConfig, Purpose};
use crate::train::Weights;

const PLAN: &str = "plan.json";
const WEIGHTS: &str = "weights.bin";
const STEPS: &str = "steps.bin";
const SAMPLES: &str = "samples.bin";

/// Sequences that the page of a run of integer sequences completes.
const COMPLETED: usize = 6;

/// Learning rate of step `step` (from 0) of a run without validations: a plateau schedule never lowers it.
fn learning_rate(problem: &Loaded, step: u64) -> f64 {
    let (settings, epochs) = (&problem.settings, problem.settings.train.epochs);
    settings.schedule.learning_rate(settings.optimizer.learning_rate, step, total(problem), epochs)
}

/// Number of steps of the whole run.
fn total(problem: &Loaded) -> u64 {
    problem.settings.train.epochs.saturating_mul(problem.source().steps_per_epoch())
}

/// What the host writes before each micro-batch, one part after another in the file.
#[derive(Debug, Serialize)]
struct Steps {
    file: &'static str,
    writes: Vec<Part>,
    /// Micro-batches of each step.
    micro_batches: Vec<usize>,
}

/// A metric of the record of a step: a sum, divided by the number that stands at `count`.
#[derive(Debug, Serialize)]
struct Metric {
    name: &'static str,
    title: &'static str,
    /// Word of the record.
    at: usize,
    /// Digits to show; none for percent.
    digits: Option<usize>,
    /// The same of a guess that needs no training.
    guess: Option<f64>,
}

/// The ring of records, of which step s writes record s modulo `slots`.
#[derive(Debug, Serialize)]
struct Records {
    #[serde(flatten)]
    at: Part,
    slots: u64,
    words: usize,
    count: usize,
    norm: usize,
    skipped: usize,
    metrics: Vec<Metric>,
}

/// Sequences that the model completes as it learns: from the numbers that are given, one number after another.
#[derive(Debug, Serialize)]
struct Samples {
    /// The whole sequences, of which the model sees the first numbers.
    sequences: Vec<Vec<u32>>,
    given: usize,
    /// State of the launches.
    file: &'static str,
    state: Option<Part>,
    launches: Vec<Launch>,
    tokens: Part,
    /// A logit for each class, position and sequence.
    logits: Part,
    classes: usize,
}

/// What `plan.json` holds.
#[derive(Debug, Serialize)]
struct Plan {
    run: String,
    engine: &'static str,
    parameters: usize,
    /// Name of the guess of the metrics.
    guess: Option<&'static str>,
    /// Steps of the whole run.
    total: u64,
    limits: Limits,
    features: Vec<&'static str>,
    /// Bytes of the other files.
    files: Vec<(String, usize)>,
    kernels: Vec<String>,
    buffers: Vec<Buffer>,
    fills: Vec<Fill>,
    launches: Vec<Launch>,
    /// Launches of all micro-batches of a step but the last, which has the update too.
    gradients: usize,
    steps: Steps,
    weights: Part,
    records: Records,
    samples: Option<Samples>,
}

/// What a page has of a run.
pub(super) struct Recorded<'a> {
    pub(super) name: &'a str,
    pub(super) steps: u64,
    /// With sequences that the model completes.
    pub(super) completes: bool,
    /// So many of the weights at most: where times alone count, the page repeats them.
    pub(super) weights: usize,
}

/// A training run for a browser: the files of a folder that any web server can give.
#[derive(Debug)]
pub struct WebRun {
    plan: Plan,
    files: Files,
}

impl WebRun {
    /// Records the first `steps` steps of a run, from its initial weights or from others. `open` opens a device where the plan has
    /// constants: they are read back from it.
    ///
    /// # Errors
    /// As a start of the run; `Config` without a step.
    pub fn of(
        config: &Config,
        name: &str,
        weights: Option<&mut Weights>,
        steps: u64,
        open: impl FnOnce() -> Result<Gpu>,
    ) -> Result<WebRun> {
        let (mut problem, mut weights) = (Problem::open(config, Purpose::Train)?, weights);
        if let Some(weights) = &mut weights {
            problem.use_saved_buffers(weights.buffers(problem.buffers())?);
        }
        let completes = (config.data.kind() as &dyn Any).is::<IntegerSequencesConfig>();
        let run = WebRun::recorded(problem.load()?.0, weights, Recorded { name, steps, completes, weights: usize::MAX }, open)?;
        let page = web_plan::page(include_str!("web/index.html"), ("page.js", include_str!("web/page.js")));
        Ok(WebRun { files: run.files.into_iter().chain(page).collect(), ..run })
    }

    /// The run without a page, of a problem whose samples are loaded.
    pub(super) fn recorded(
        mut problem: Loaded,
        weights: Option<&mut Weights>,
        wanted: Recorded<'_>,
        open: impl FnOnce() -> Result<Gpu>,
    ) -> Result<WebRun> {
        let (plan, io) = problem.record_training(browser())?;
        if plan.options.frozen {
            return Err(Error::Config("[adapt]: a page trains all weights, and has no others beside them. Leave the table out".into()));
        }
        let values = match weights {
            Some(weights) => weights.load(plan.parameters())?,
            None => initial_weights(plan.parameters(), problem.settings.train.seed),
        };
        let (predict, predict_io) = wanted.completes.then(|| problem.record_prediction(browser(), COMPLETED)).transpose()?.unzip();
        let (memory, lowered) = Memory::lay_out([plan].into_iter().chain(predict).collect(), LayoutOptions::default())?;
        let mut kernels = Kernels::default();
        lowered.iter().try_for_each(|lowered| kernels.add(lowered))?;
        let placed = lowered.iter().map(Places::of).collect::<Result<Vec<_>>>()?;
        let (train, places) = (&lowered[0], &placed[0]);
        let (launches, buffers) = (web_plan::launches(train, places, &kernels)?, web_plan::buffers(&memory));
        let mut limits = Limits::default();
        limits.raise(train, &launches, &buffers);
        let (mut fills, mut files) = web_plan::constants(train, places, &memory, open)?;
        fills.push(Fill { file: WEIGHTS.into(), to: web_plan::flat(&memory, Flat::Parameters)? });
        files.push((WEIGHTS.into(), bytemuck::cast_slice(&values[..values.len().min(wanted.weights)]).to_vec()));
        let (steps, bytes) = record_steps(&mut problem, train, places, &io, wanted.steps)?;
        files.push((STEPS.into(), bytes));
        let mut samples = None;
        if let (Some(lowered), Some(places), Some(io)) = (lowered.get(1), placed.get(1), predict_io) {
            let (recorded, state) = record_samples(&mut problem, (lowered, places, &kernels), &io, steps.micro_batches.len() as u64)?;
            limits.raise(lowered, &recorded.launches, &buffers);
            samples = Some(recorded);
            files.push((SAMPLES.into(), state));
        }
        files.extend(std::mem::take(&mut kernels.files));
        let plan = Plan {
            run: wanted.name.into(),
            engine: env!("CARGO_PKG_VERSION"),
            parameters: train.plan.parameter_count(),
            guess: problem.scorecard().baselines().first().map(|(name, _)| *name),
            total: total(&problem),
            limits,
            features: kernels.features,
            files: files.iter().map(|(name, bytes)| (name.clone(), bytes.len())).collect(),
            kernels: kernels.names,
            buffers,
            gradients: launches.len() - train.plan.launches().filter(|l| train.plan.entries()[l.start].section == Section::Update).count(),
            launches,
            weights: web_plan::flat(&memory, Flat::Parameters)?,
            fills,
            steps,
            records: records(&problem, places.of_tensor(train, io.records)?),
            samples,
        };
        files.push((PLAN.into(), json(&plan)?.into_bytes()));
        Ok(WebRun { plan, files })
    }

    /// Names of the files, with what they hold; `plan.json` comes after all that it names.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(name, bytes)| (name.as_str(), &bytes[..]))
    }

    /// Number of steps that were recorded.
    pub fn steps(&self) -> usize {
        self.plan.steps.micro_batches.len()
    }

    /// Writes the files into a folder that is new or empty.
    ///
    /// # Errors
    /// `CannotCreate` when the folder has something in it or cannot be made, and `Io` when the disk is full.
    pub fn write(&self, folder: &Path) -> Result<()> {
        web_plan::write(folder, self.files())
    }
}

/// State of a prediction with so many rows.
pub(super) fn predicting(rows: usize) -> State {
    State { scale: 1.0, drawn: 1.0, rows: rows as u32, count: rows as u32, ..State::default() }
}

/// Sequences that no recorded step has, with the prediction that completes them, and its state.
fn record_samples(
    problem: &mut Loaded,
    (lowered, places, kernels): (&Lowered, &Places, &Kernels),
    io: &PredictIo,
    step: u64,
) -> Result<(Samples, Vec<u8>)> {
    let batch = problem.batches(step)?.into_iter().next().ok_or_else(|| Error::Internal("a step without a batch".into()))?;
    let context = lowered.plan.shape(io.feed.input("tokens")?)[1];
    let numbers = batch.words("tokens").chunks(context).zip(batch.words("targets").chunks(context));
    let whole = |(tokens, targets): (&[u32], &[u32])| tokens.iter().chain(targets.last()).copied().collect();
    let classes = problem.source().fields().below("engine export", "tokens")?;
    let state = places.find(io.feed.state).ok().map(|_| places.of_tensor(lowered, io.feed.state)).transpose()?;
    let samples = Samples {
        sequences: numbers.map(whole).take(COMPLETED).collect(),
        given: context / 2,
        file: SAMPLES,
        state,
        launches: web_plan::launches(lowered, places, kernels)?,
        tokens: places.of_tensor(lowered, io.feed.input("tokens")?)?,
        logits: places.of_tensor(lowered, io.output)?,
        classes,
    };
    Ok((samples, bytemuck::bytes_of(&predicting(COMPLETED)).to_vec()))
}

/// What the host writes in the first steps of the run, with its bytes.
fn record_steps(problem: &mut Loaded, lowered: &Lowered, places: &Places, io: &TrainIo, steps: u64) -> Result<(Steps, Vec<u8>)> {
    let count = steps.min(total(problem));
    if count == 0 {
        return Err(Error::Config("--steps 0: a page without a step shows nothing. Record at least one".into()));
    }
    let accumulate = problem.settings.train.accumulate;
    let (mut writes, mut bytes, mut micro_batches) = (vec![], vec![], vec![]);
    for step in 0..count {
        let batches = problem.batches(step)?;
        let state = problem.state(step, learning_rate(problem, step));
        for (batch, state) in batches.iter().zip(io.feed.states(&batches, state, step, accumulate)) {
            let inputs = io.feed.words(&lowered.plan, batch)?;
            if writes.is_empty() {
                let tensors = inputs.iter().map(|(tensor, _)| *tensor).chain([io.feed.state]);
                writes = tensors.map(|tensor| places.of_tensor(lowered, tensor)).collect::<Result<_>>()?;
            }
            inputs.iter().for_each(|(_, words)| bytes.extend_from_slice(bytemuck::cast_slice(words)));
            bytes.extend_from_slice(bytemuck::bytes_of(&state));
        }
        micro_batches.push(batches.len());
    }
    Ok((Steps { file: STEPS, writes, micro_batches }, bytes))
}

/// Where the record of a step is, and what the page shows of it: the metrics of the run's own tables that each step has.
fn records(problem: &Loaded, at: Part) -> Records {
    let (names, baselines) = (problem.loss().columns().names, problem.scorecard().baselines());
    let guess = |name: &str| baselines.first().and_then(|(_, metrics)| metrics.get(name));
    let metrics = problem.card().table_columns.into_iter().filter_map(|column| {
        let word = SUMS + names.iter().position(|name| *name == column.name)?;
        Some(Metric { name: column.name, title: column.title, at: word, digits: column.digits, guess: guess(column.name) })
    });
    Records { at, slots: RING, words: RECORD, count: COUNT, norm: NORM, skipped: SKIPPED, metrics: metrics.collect() }
}
