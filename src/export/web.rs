//! A training run for a browser: its plan as JSON, its kernels as WGSL, its weights, batches and states as bytes, and the page that replays
//! them. The browser gets no model, no data, no schedule and no random numbers of its own.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::wgsl::{validated, wgsl};
use crate::error::{Error, Result, json};
use crate::files;
use crate::gpu::{BindingKind, CARD, Gpu, LAUNCH, Shader, Target};
use crate::kernels::metrics::{COUNT, NORM, RECORD, SKIPPED, SUMS};
use crate::models::initial_weights;
use crate::plan::{Arena, BufferSpec, Flat, LayoutOptions, Lowered, Memory, Place, Program, Section, Tensor};
use crate::problem::{Loaded, Problem};
use crate::registry::Config;
use crate::session::{RING, TrainIo};
use crate::tasks::Purpose;
use crate::train::Weights;

/// Files of the page, as they lie in the folder.
const PAGE: [(&str, &str); 3] = [
    ("index.html", include_str!("web/index.html")),
    ("page.js", include_str!("web/page.js")),
    ("replay.js", include_str!("web/replay.js")),
];

const PLAN: &str = "plan.json";
const KERNELS: &str = "kernels";
const WEIGHTS: &str = "weights.bin";
const STEPS: &str = "steps.bin";

/// The target of a plan for browsers: a card with the limits that WebGPU promises, but for its storage buffers, of which it promises eight
/// and browsers have ten or more.
pub fn browser() -> Target {
    Target { storage_buffers: 10, max_binding: 128 << 20, half: false, ..Target::default() }
}

/// Learning rate of step `step` (from 0) of a run without validations: a plateau schedule never lowers it.
fn learning_rate(problem: &Loaded, step: u64) -> f64 {
    let (settings, epochs) = (&problem.settings, problem.settings.train.epochs);
    settings.schedule.learning_rate(settings.optimizer.learning_rate, step, total(problem), epochs)
}

/// Number of steps of the whole run.
fn total(problem: &Loaded) -> u64 {
    problem.settings.train.epochs.saturating_mul(problem.source().steps_per_epoch())
}

/// A part of a buffer.
#[derive(Debug, Serialize)]
struct Part {
    buffer: usize,
    offset: u64,
    bytes: u64,
}

impl Part {
    fn of(place: Place, bytes: u64) -> Part {
        Part { buffer: place.buffer, offset: place.offset, bytes }
    }
}

#[derive(Debug, Serialize)]
struct Buffer {
    name: String,
    bytes: u64,
}

/// What a buffer holds before the first step; all else is 0.
#[derive(Debug, Serialize)]
struct Fill {
    file: String,
    #[serde(flatten)]
    to: Part,
}

#[derive(Debug, Serialize)]
struct Bound {
    binding: u32,
    #[serde(flatten)]
    part: Part,
}

#[derive(Debug, Serialize)]
struct Launch {
    label: String,
    kernel: usize,
    grid: [u32; 3],
    /// Words of the immediate block.
    immediates: Vec<u32>,
    bindings: Vec<Bound>,
    /// Seconds that an RX 6600 takes for it at least.
    seconds: f64,
}

/// Most of what the kernels and buffers need of a device, by the names of WebGPU.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Limits {
    max_storage_buffers_per_shader_stage: u64,
    max_compute_workgroup_storage_size: u64,
    max_compute_invocations_per_workgroup: u64,
    max_compute_workgroup_size_x: u64,
    max_compute_workgroups_per_dimension: u64,
    max_storage_buffer_binding_size: u64,
    max_buffer_size: u64,
    max_immediate_size: u64,
}

impl Limits {
    fn of(lowered: &Lowered, launches: &[Launch], buffers: &[Buffer]) -> Limits {
        let most = |of: &dyn Fn(&Shader) -> u64| lowered.launches.iter().map(|launch| of(&launch.shader)).max().unwrap_or(0);
        let bound = launches.iter().flat_map(|launch| &launch.bindings).map(|bound| bound.part.bytes);
        Limits {
            max_storage_buffers_per_shader_stage: most(&|shader| shader.bindings.len() as u64),
            max_compute_workgroup_storage_size: most(&|shader| shader.workgroup_bytes.into()),
            max_compute_invocations_per_workgroup: most(&|shader| shader.workgroup.into()),
            max_compute_workgroup_size_x: most(&|shader| shader.workgroup.into()),
            max_compute_workgroups_per_dimension: launches.iter().flat_map(|launch| launch.grid).max().unwrap_or(0).into(),
            max_storage_buffer_binding_size: bound.max().unwrap_or(0),
            max_buffer_size: buffers.iter().map(|buffer| buffer.bytes).max().unwrap_or(0),
            max_immediate_size: most(&|shader| shader.params_bytes.into()),
        }
    }
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
}

/// A training run for a browser: the files of a folder that any web server can give.
#[derive(Debug)]
pub struct WebRun {
    plan: Plan,
    files: Vec<(String, Vec<u8>)>,
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
        let (mut problem, _) = problem.load()?;
        let (plan, io) = problem.record_training(browser())?;
        let values = match weights {
            Some(weights) => weights.load(plan.parameters())?,
            None => initial_weights(plan.parameters(), problem.settings.train.seed),
        };
        let (memory, lowered) = Memory::of(plan, LayoutOptions::default())?;
        let places = Places::of(&lowered)?;
        let mut files = vec![];
        let kernels = Kernels::of(&lowered, &mut files)?;
        let launches = launches(&lowered, &places, &kernels)?;
        let fills = fills(&lowered, &places, &memory, &values, open, &mut files)?;
        let recorded = record_steps(&mut problem, &lowered, &places, &io, steps)?;
        files.push((STEPS.into(), recorded.1));
        // The last is for reading back, which the page does in its own way.
        let buffer = |spec: &BufferSpec| Buffer { name: spec.name.clone(), bytes: spec.bytes };
        let buffers: Vec<Buffer> = memory.buffers[..memory.buffers.len() - 1].iter().map(buffer).collect();
        let plan = Plan {
            run: name.into(),
            engine: env!("CARGO_PKG_VERSION"),
            parameters: lowered.plan.parameter_count(),
            guess: problem.scorecard().baselines().first().map(|(name, _)| *name),
            total: total(&problem),
            limits: Limits::of(&lowered, &launches, &buffers),
            features: kernels.features,
            files: files.iter().map(|(name, bytes)| (name.clone(), bytes.len())).collect(),
            kernels: kernels.files,
            buffers,
            gradients: launches.len()
                - lowered.plan.launches().filter(|l| lowered.plan.entries()[l.start].section == Section::Update).count(),
            launches,
            weights: flat(&memory, Flat::Parameters)?,
            fills,
            steps: recorded.0,
            records: records(&problem, places.of_tensor(&lowered, io.records)?),
        };
        files.push((PLAN.into(), json(&plan)?.into_bytes()));
        files.extend(PAGE.map(|(name, text)| (name.to_string(), text.as_bytes().to_vec())));
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
        files::expect_new_folder(folder)?;
        fs::create_dir_all(folder.join(KERNELS)).map_err(|e| Error::create(folder, e))?;
        self.files().try_for_each(|(name, bytes)| files::write(&folder.join(name), bytes))
    }
}

/// Places of the tensors that are left after the passes.
struct Places(HashMap<Tensor, Place>);

impl Places {
    fn of(lowered: &Lowered) -> Result<Places> {
        // What only dropped launches used has a place without a byte.
        let placed: Vec<Place> = lowered.places.iter().copied().filter(|place| place.bytes > 0).collect();
        let tensors: Vec<Tensor> = lowered.plan.tensors().map(|(tensor, _)| tensor).collect();
        if placed.len() != tensors.len() {
            return Err(Error::Internal(format!("{} places for {} tensors", placed.len(), tensors.len())));
        }
        Ok(Places(tensors.into_iter().zip(placed).collect()))
    }

    fn find(&self, tensor: Tensor) -> Result<Place> {
        self.0.get(&tensor).copied().ok_or_else(|| Error::Internal(format!("{tensor:?} has no place")))
    }

    /// The bytes of a tensor alone, which a binding may pass by a few.
    fn of_tensor(&self, lowered: &Lowered, tensor: Tensor) -> Result<Part> {
        Ok(Part::of(self.find(tensor)?, lowered.plan.bytes(tensor)))
    }
}

/// The different kernels of a plan.
struct Kernels {
    /// Numbers by the addresses of the shaders.
    numbers: HashMap<*const Shader, usize>,
    files: Vec<String>,
    features: Vec<&'static str>,
}

impl Kernels {
    /// Writes them into files, those of the same text once.
    fn of(lowered: &Lowered, files: &mut Vec<(String, Vec<u8>)>) -> Result<Kernels> {
        let mut kernels = Kernels { numbers: HashMap::new(), files: vec![], features: vec![] };
        let mut texts: HashMap<String, usize> = HashMap::new();
        for launch in &lowered.launches {
            let shader = &launch.shader;
            if kernels.numbers.contains_key(&Arc::as_ptr(shader)) {
                continue;
            }
            let text = wgsl(shader, &validated(shader)?)?;
            for (said, feature) in [("enable f16;", "shader-f16"), ("enable subgroups;", "subgroups")] {
                if text.contains(said) && !kernels.features.contains(&feature) {
                    kernels.features.push(feature);
                }
            }
            let number = *texts.entry(text.clone()).or_insert(kernels.files.len());
            if number == kernels.files.len() {
                let name = format!("{KERNELS}/{number:02}-{}.wgsl", shader.name.replace(" + ", "+").replace('/', "-"));
                kernels.files.push(name.clone());
                files.push((name, text.into_bytes()));
            }
            kernels.numbers.insert(Arc::as_ptr(shader), number);
        }
        Ok(kernels)
    }
}

/// The launches of a step, as `Program` runs them.
fn launches(lowered: &Lowered, places: &Places, kernels: &Kernels) -> Result<Vec<Launch>> {
    let costs = lowered.cost(&CARD, 1).launches;
    let one = |(launch, cost): (&crate::plan::Launch, &crate::plan::LaunchCost)| {
        let entries = &lowered.plan.entries()[launch.entries.clone()];
        let bound = |(tensor, binding): (&Tensor, &crate::gpu::Binding)| {
            if binding.kind != BindingKind::Storage {
                return Err(Error::Internal(format!("{}: {} is no storage buffer", launch.shader.name, binding.name)));
            }
            let place = places.find(*tensor)?;
            Ok(Bound { binding: binding.index, part: Part::of(place, place.bytes) })
        };
        let immediates: Vec<u8> = entries.iter().flat_map(|entry| entry.immediates.iter().copied()).collect();
        Ok(Launch {
            label: entries.iter().map(|entry| entry.label.as_str()).collect::<Vec<_>>().join(" + "),
            kernel: kernels.numbers[&Arc::as_ptr(&launch.shader)],
            // Two entries lie in one row.
            grid: if let [entry] = entries { entry.grid } else { [entries.iter().map(|e| e.grid[0]).sum(), 1, 1] },
            immediates: bytemuck::pod_collect_to_vec(&immediates),
            bindings: launch.tensors.iter().zip(&launch.shader.bindings).map(bound).collect::<Result<_>>()?,
            seconds: cost.seconds + LAUNCH,
        })
    };
    lowered.launches.iter().zip(&costs).map(one).collect()
}

/// A whole flat buffer.
fn flat(memory: &Memory, flat: Flat) -> Result<Part> {
    let found = memory.buffers.iter().position(|buffer| buffer.name == flat.name());
    let buffer = found.ok_or_else(|| Error::Internal(format!("no buffer {}", flat.name())))?;
    Ok(Part { buffer, offset: 0, bytes: memory.buffers[buffer].bytes })
}

/// What buffers hold before the first step: weights, and constants.
fn fills(
    lowered: &Lowered,
    places: &Places,
    memory: &Memory,
    weights: &[f32],
    open: impl FnOnce() -> Result<Gpu>,
    files: &mut Vec<(String, Vec<u8>)>,
) -> Result<Vec<Fill>> {
    let mut fills = vec![Fill { file: WEIGHTS.into(), to: flat(memory, Flat::Parameters)? }];
    files.push((WEIGHTS.into(), bytemuck::cast_slice(weights).to_vec()));
    if lowered.plan.constants().is_empty() {
        return Ok(fills);
    }
    // A program without launches: it writes the constants, and they are read back.
    let idle = Lowered { launches: vec![], ..lowered.clone() };
    let program = Program::new(idle, Arc::new(Arena::new(Arc::new(open()?), memory)?))?;
    for (number, (tensor, _)) in lowered.plan.constants().iter().enumerate() {
        let (file, words) = (format!("constant-{number}.bin"), program.read::<u32>(*tensor)?);
        fills.push(Fill { file: file.clone(), to: places.of_tensor(lowered, *tensor)? });
        files.push((file, bytemuck::cast_slice(&words).to_vec()));
    }
    Ok(fills)
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
