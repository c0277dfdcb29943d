//! A page on which any card can be checked and measured: cases of every kernel family with what their f64 references say, launches to time,
//! and training steps of shipped runs. The browser gets all of it as bytes; it draws no numbers and knows no kernel.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::web::{Recorded, WebRun};
use super::web_plan::{self, Buffer, Files, Kernels, Launch, Limits, Part, Places, browser};
use crate::error::{Error, Result, json};
use crate::gpu::{CARD, Gpu, Role, Shader};
use crate::harness::{Case, FAMILIES, FLUSHED, Family, GUARD_BYTES, POISONS, Spec, Tolerance, Wanted};
use crate::kernels::attention::{Backward, Forward, Shape};
use crate::kernels::matmul::Matmul;
use crate::plan::{FixedPlan, LayoutOptions, Memory, Plan, Section, Storage};
use crate::problem::Loaded;
use crate::random::Random;
use crate::registry::Config;

const CARD_FILE: &str = "card.json";
const CASES: &str = "cases.bin";
const NUMBERS: &str = "numbers.bin";

/// Cases of a family at most, those of them that bring kernels of their own, and numbers of a case: the page is loaded over a network, and
/// compiling takes most of its time.
const MOST_CASES: usize = 12;
const MOST_BRINGING: usize = 6;
const MOST_NUMBERS: usize = 12_000;

/// Runs whose training steps are timed, at their own sizes: a transformer over tokens, a perceptron, a recurrent network, and an
/// autoencoder of images.
const RUNS: [&str; 4] = ["integer_sequences_d64", "lvm_mlp", "lvm_lstm_small", "linkage_vae"];

/// Numbers that fill the buffers of what is timed, and the weights of runs, again and again: zeros would take less power, and with it a
/// higher clock.
const DRAWN: usize = 1 << 14;

/// What is written to a tensor before a case runs: a part of the file of all cases, from byte `at` on.
#[derive(Debug, Serialize)]
struct Input {
    #[serde(flatten)]
    to: Part,
    at: usize,
}

/// How results are compared.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", content = "limit", rename_all = "snake_case")]
enum Compared {
    /// Words, which must be the same.
    Exact,
    /// Numbers of 64 bits, then the error that each may have as numbers of 32 bits.
    Each,
    /// Numbers of 64 bits; the sum of squares of the errors, as a share of that of the numbers, may be so large.
    Nmse(f64),
}

/// A result and what it must be, from byte `at` of the file of all cases on.
#[derive(Debug, Serialize)]
struct Output {
    name: String,
    #[serde(flatten)]
    from: Part,
    at: usize,
    compared: Compared,
}

/// A buffer with the part that a case may write, if it has words around it that must stay.
#[derive(Debug, Serialize)]
struct Guarded {
    bytes: u64,
    tensor: Option<[u64; 2]>,
}

#[derive(Debug, Serialize)]
struct WebCase {
    spec: String,
    buffers: Vec<Guarded>,
    launches: Vec<Launch>,
    inputs: Vec<Input>,
    outputs: Vec<Output>,
}

#[derive(Debug, Serialize)]
struct WebFamily {
    name: &'static str,
    /// Number of cases that `engine check` has.
    of: usize,
    cases: Vec<WebCase>,
}

/// Launches that are timed. Without any, a buffer is copied to another.
#[derive(Debug, Serialize)]
struct Rate {
    kind: &'static str,
    title: String,
    flops: u64,
    bytes: u64,
    /// Seconds that the card of the predictions takes at least.
    predicted: f64,
    buffers: Vec<u64>,
    launches: Vec<Launch>,
}

/// A run whose step is timed, from the plan in a folder. It has one step, and the first of its weights.
#[derive(Debug, Serialize)]
struct Timed {
    name: String,
    folder: String,
}

/// What `card.json` holds.
#[derive(Debug, Serialize)]
struct Card {
    engine: &'static str,
    /// Card of the predictions.
    predicted: &'static str,
    guard: u64,
    /// Word that fills tensors and word around them, of two runs of a case.
    poisons: [[u32; 2]; 2],
    limits: Limits,
    features: Vec<&'static str>,
    files: Vec<(String, usize)>,
    kernels: Vec<String>,
    families: Vec<WebFamily>,
    rates: Vec<Rate>,
    runs: Vec<Timed>,
}

/// The page of a card: the files of a folder that any web server can give.
#[derive(Debug)]
pub struct WebCard {
    card: Card,
    files: Files,
}

impl WebCard {
    /// Records cases, launches, and steps of the runs in a folder. `open` opens a device where a plan has constants.
    ///
    /// # Errors
    /// Those of the run files, and `Internal` where a case has no reference.
    pub fn of(runs: &Path, open: impl Fn() -> Result<Gpu>) -> Result<WebCard> {
        let (mut kernels, mut limits, mut cases) = (Kernels::default(), Limits::default(), vec![]);
        let families = FAMILIES.iter().map(|family| record_family(family, &mut kernels, &mut limits, &mut cases));
        let families = families.collect::<Result<Vec<_>>>()?;
        let plans = products().chain(attentions()).collect::<Result<Vec<_>>>()?;
        let rates = plans.into_iter().map(|(kind, title, plan)| record_rate(kind, title, plan, &mut kernels, &mut limits));
        let rates = rates.chain(copies().map(Ok)).collect::<Result<Vec<_>>>()?;
        let mut random = Random::new(1, 2, 3);
        let numbers: Vec<f32> = (0..DRAWN).map(|_| random.normal() as f32).collect();
        let mut files = vec![(CASES.into(), cases), (NUMBERS.into(), bytemuck::cast_slice(&numbers).to_vec())];
        files.extend(std::mem::take(&mut kernels.files));
        let mut card = Card {
            engine: env!("CARGO_PKG_VERSION"),
            predicted: CARD.name,
            guard: GUARD_BYTES,
            poisons: POISONS,
            limits,
            features: kernels.features,
            files: files.iter().map(|(name, bytes)| (name.clone(), bytes.len())).collect(),
            kernels: kernels.names,
            families,
            rates,
            runs: vec![],
        };
        for name in RUNS {
            let config = Config::load(&runs.join(format!("{name}.toml")), &[])?;
            let problem = Loaded::made_up(&config, 4 * config.train.batch)?;
            let run = WebRun::recorded(problem, None, Recorded { name, steps: 1, completes: false, weights: DRAWN }, &open)?;
            let folder = format!("runs/{name}/");
            files.extend(run.files().map(|(file, bytes)| (format!("{folder}{file}"), bytes.to_vec())));
            card.runs.push(Timed { name: name.into(), folder });
        }
        files.push((CARD_FILE.into(), json(&card)?.into_bytes()));
        files.extend(web_plan::page(include_str!("web/card.html"), ("card.js", include_str!("web/card.js"))));
        Ok(WebCard { card, files })
    }

    /// Names of the files, with what they hold.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(name, bytes)| (name.as_str(), &bytes[..]))
    }

    /// Number of families, of their cases, and of different kernels.
    pub fn counts(&self) -> [usize; 3] {
        let cases = self.card.families.iter().map(|family| family.cases.len()).sum();
        [self.card.families.len(), cases, self.card.kernels.len()]
    }

    /// Writes the files into a folder that is new or empty.
    ///
    /// # Errors
    /// `CannotCreate` when the folder has something in it or cannot be made, and `Io` when the disk is full.
    pub fn write(&self, folder: &Path) -> Result<()> {
        web_plan::write(folder, self.files())
    }
}

/// The cases of a family that the page has. All that bring a kernel come first, then some that bring a value of an option, then others that
/// take the kernels of these.
fn chosen(family: &Family) -> Result<Vec<(Spec, Case)>> {
    let (mut kernels, mut options, mut chosen, mut others) = (HashSet::new(), HashSet::new(), vec![], vec![]);
    for spec in (0..family.pinned).map(|i| family.pinned_spec(i)) {
        let case = family.case(&spec, browser())?;
        let numbers: usize = case.plan().tensors().map(|(_, info)| info.len()).sum();
        if numbers > MOST_NUMBERS {
            continue;
        }
        let own = |shader: &&Shader| family.name == "layers" || shader.name.split('/').next() == Some(family.name);
        let shaders: Vec<_> = case.plan().entries().iter().map(|entry| entry.shader.clone()).collect();
        let brings_kernel = shaders.iter().map(|s| &**s).filter(own).filter(|shader| kernels.insert(shader.name.clone())).count() > 0;
        let values =
            shaders.iter().map(|s| &**s).filter(own).flat_map(|shader| shader.consts.iter().map(|value| (shader.name.clone(), *value)));
        let brings_option = values.filter(|value| options.insert(value.clone())).count() > 0;
        if brings_kernel {
            chosen.push((spec, case));
        } else {
            others.push((spec, case, brings_option));
        }
    }
    let compiled = |case: &Case| case.plan().entries().iter().map(|entry| Arc::as_ptr(&entry.shader)).collect::<Vec<_>>();
    let mut known: HashSet<_> = chosen.iter().flat_map(|(_, case)| compiled(case)).collect();
    for (spec, case, brings_option) in others {
        let brings = brings_option && chosen.len() < MOST_BRINGING;
        if brings || chosen.len() < MOST_CASES && compiled(&case).iter().all(|kernel| known.contains(kernel)) {
            known.extend(compiled(&case));
            chosen.push((spec, case));
        }
    }
    Ok(chosen)
}

fn record_family(family: &Family, kernels: &mut Kernels, limits: &mut Limits, file: &mut Vec<u8>) -> Result<WebFamily> {
    let cases = chosen(family)?.into_iter().map(|(spec, case)| record_case(&spec, &case, kernels, limits, file));
    let cases = cases.collect::<Result<Vec<_>>>().map_err(|e| Error::Internal(format!("{}: {e}", family.name)))?;
    Ok(WebFamily { name: family.name, of: family.pinned, cases })
}

/// Adds words to a file at a multiple of 8 bytes; gives their place.
fn append(file: &mut Vec<u8>, bytes: &[u8]) -> usize {
    file.resize(file.len().next_multiple_of(8), 0);
    let at = file.len();
    file.extend_from_slice(bytes);
    at
}

fn record_case(spec: &Spec, case: &Case, kernels: &mut Kernels, limits: &mut Limits, file: &mut Vec<u8>) -> Result<WebCase> {
    let plan = case.plan();
    let (memory, lowered) = Memory::of(plan.clone(), LayoutOptions { guard: Some(GUARD_BYTES), ..LayoutOptions::default() })?;
    let places = Places::of(&lowered)?;
    kernels.add(&lowered)?;
    let (launches, named) = (web_plan::launches(&lowered, &places, kernels)?, web_plan::buffers(&memory));
    limits.raise(&lowered, &launches, &named);
    let mut buffers: Vec<Guarded> = named.iter().map(|buffer| Guarded { bytes: buffer.bytes, tensor: None }).collect();
    for (tensor, _) in plan.tensors().filter(|(_, info)| matches!(info.storage, Storage::Persistent(_) | Storage::Transient(_))) {
        let Part { buffer, offset, bytes } = places.of_tensor(&lowered, tensor)?;
        buffers[buffer].tensor = Some([offset, bytes]);
    }
    let input =
        |(tensor, words): (_, &[u32])| Ok(Input { to: places.of_tensor(&lowered, tensor)?, at: append(file, bytemuck::cast_slice(words)) });
    let inputs = case.inputs().into_iter().map(input).collect::<Result<Vec<_>>>()?;
    let output = |wanted: Wanted| {
        let (at, compared) = record_wanted(&wanted, file);
        Ok(Output { name: plan.info(wanted.tensor).name.clone(), from: places.of_tensor(&lowered, wanted.tensor)?, at, compared })
    };
    let outputs = case.wanted().map_err(Error::Internal)?.into_iter().map(output).collect::<Result<Vec<_>>>()?;
    let spec = format!("{:?}, options {:?}, {:?}", spec.dims, spec.flags, spec.regime);
    Ok(WebCase { spec, buffers, launches, inputs, outputs })
}

/// Adds what a tensor must hold to a file.
fn record_wanted(wanted: &Wanted, file: &mut Vec<u8>) -> (usize, Compared) {
    let values =
        |file: &mut Vec<u8>| append(file, bytemuck::cast_slice(&wanted.values.iter().map(|(value, _)| *value).collect::<Vec<f64>>()));
    match wanted.tolerance {
        Tolerance::Exact => {
            let words: Vec<f32> = wanted.values.iter().map(|(value, _)| *value as f32).collect();
            (append(file, bytemuck::cast_slice(&words)), Compared::Exact)
        }
        Tolerance::Magnitude(factor) => {
            let at = values(file);
            let allowed: Vec<f32> = wanted.values.iter().map(|(_, magnitude)| (factor * magnitude + FLUSHED) as f32).collect();
            file.extend_from_slice(bytemuck::cast_slice(&allowed));
            (at, Compared::Each)
        }
        Tolerance::Nmse(limit) => (values(file), Compared::Nmse(limit)),
    }
}

/// What is timed: its kind, its title and its plan.
type Timing = (&'static str, String, FixedPlan);

/// Products of two n × n matrices.
fn products() -> impl Iterator<Item = Result<Timing>> {
    [256, 512, 1024, 2048, 4096].into_iter().map(|n| {
        let mut plan = Plan::training("product", browser());
        let mut matrix = |name| plan.persistent(Role::Workspace, name, &[n, n]);
        let [a, b, y] = [matrix("a")?, matrix("b")?, matrix("y")?];
        Matmul::new(a, b, y, (n, n, n)).record(&mut plan, "product")?;
        Ok(("product", format!("{n} × {n}"), plan.into()))
    })
}

/// Causal attention with its gradient.
fn attentions() -> impl Iterator<Item = Result<Timing>> {
    [[32, 8, 4, 16], [32, 64, 4, 16], [8, 256, 4, 64], [4, 1024, 4, 64]].into_iter().map(|[batch, length, heads, head_dim]| {
        let mut plan = Plan::training("attention", browser());
        let shape = Shape { batch, length, heads, head_dim, causal: true, dropout: None, rope: None };
        let mut tensor = |name, thirds: usize| plan.persistent(Role::Workspace, name, &[batch, length, thirds, heads, head_dim]);
        let [qkv, dqkv, y, dy] = [tensor("qkv", 3)?, tensor("dqkv", 3)?, tensor("y", 1)?, tensor("dy", 1)?];
        let lse = plan.persistent(Role::Workspace, "lse", &[batch, heads, length])?;
        Forward { qkv, q: None, y, lse, shape }.record(&mut plan, "attention")?;
        plan.begin(Section::Backward);
        Backward { qkv, q: None, y, lse, dy, dqkv, shape }.record(&mut plan, "attention")?;
        Ok(("attention", format!("{batch} sequences of {length}, {heads} heads of {head_dim}"), plan.into()))
    })
}

/// Copies from buffer to buffer, without a kernel.
fn copies() -> impl Iterator<Item = Rate> {
    [1, 4, 16, 64].into_iter().map(|mebibytes: u64| Rate {
        kind: "copy",
        title: format!("{mebibytes} MiB"),
        flops: 0,
        bytes: 2 * (mebibytes << 20),
        predicted: 2.0 * (mebibytes << 20) as f64 / if mebibytes << 21 <= CARD.infinity.1 { CARD.infinity.0 } else { CARD.memory },
        buffers: vec![mebibytes << 20; 2],
        launches: vec![],
    })
}

fn record_rate(kind: &'static str, title: String, plan: FixedPlan, kernels: &mut Kernels, limits: &mut Limits) -> Result<Rate> {
    let (memory, lowered) = Memory::of(plan, LayoutOptions::default())?;
    let places = Places::of(&lowered)?;
    kernels.add(&lowered)?;
    let (launches, buffers) = (web_plan::launches(&lowered, &places, kernels)?, web_plan::buffers(&memory));
    limits.raise(&lowered, &launches, &buffers);
    let cost = lowered.cost(&CARD, 1);
    Ok(Rate {
        kind,
        title,
        flops: cost.launches.iter().map(|launch| launch.flops).sum(),
        bytes: cost.traffic.touched,
        predicted: cost.seconds,
        buffers: buffers.iter().map(|buffer: &Buffer| buffer.bytes).collect(),
        launches,
    })
}
