//! A page on which a trained model answers its visitor: the next number of a sequence of integers, or the picture that a decoder draws of
//! a latent that sliders move. The plan of a prediction, its kernels as WGSL and the weights that it needs, as bytes.

use std::any::Any;
use std::ops::Range;
use std::path::Path;

use serde::Serialize;

use super::web::predicting;
use super::web_plan::{self, Buffer, Files, Fill, Kernels, Launch, Limits, Part, Places, browser};
use crate::error::{Error, Result, json};
use crate::gpu::Gpu;
use crate::plan::{Flat, LayoutOptions, Lowered, Memory, Tensor};
use crate::problem::Problem;
use crate::registry::Config;
use crate::tasks::{IntegerSequencesConfig, Purpose};
use crate::train::Weights;

const PLAN: &str = "plan.json";
const WEIGHTS: &str = "weights.bin";
const STATE: &str = "state.bin";

/// What the visitor gives and sees.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Asked {
    /// Integers below `classes`, at most `context` of them; the output has a logit for each class after each of them.
    Numbers { context: usize, classes: usize },
    /// Latents, of each the spread over the data where it is known; the output is a picture with this side.
    Picture { latents: usize, side: usize },
}

/// What `plan.json` holds.
#[derive(Debug, Serialize)]
struct Plan {
    run: String,
    engine: &'static str,
    parameters: usize,
    /// Step of the weights, where it is known.
    step: Option<u64>,
    asked: Asked,
    limits: Limits,
    features: Vec<&'static str>,
    files: Vec<(String, usize)>,
    kernels: Vec<String>,
    buffers: Vec<Buffer>,
    fills: Vec<Fill>,
    launches: Vec<Launch>,
    input: Part,
    output: Part,
}

/// The page of a trained model: the files of a folder that any web server can give.
#[derive(Debug)]
pub struct WebPrediction {
    files: Files,
}

impl WebPrediction {
    /// Records the prediction of a run with these weights. `open` opens a device where the plan has constants.
    ///
    /// # Errors
    /// `Config` for a run that has no such page, `Data` when the weights do not fit.
    pub fn of(config: &Config, name: &str, weights: &mut Weights, open: impl FnOnce() -> Result<Gpu>) -> Result<WebPrediction> {
        let mut problem = Problem::open(config, Purpose::Predict)?;
        problem.use_saved_buffers(weights.buffers(problem.buffers())?);
        let (plan, io) = problem.record_prediction(browser(), 1)?;
        let values = weights.load(plan.parameters())?;
        let (output, latents) = (io.output, plan.find("z"));
        let (memory, lowered) = Memory::of(plan, LayoutOptions::default())?;
        let places = Places::of(&lowered)?;
        let decoder = latents.map(|z| after(&lowered, z)).transpose()?;
        let (input, asked) = match latents {
            Some(z) => {
                let side = (lowered.plan.len(output) as f64).sqrt() as usize;
                (z, Asked::Picture { latents: lowered.plan.len(z), side })
            }
            None if (config.data.kind() as &dyn Any).is::<IntegerSequencesConfig>() => {
                let tokens = io.feed.input("tokens")?;
                let classes = problem.source().fields().below("engine export", "tokens")?;
                (tokens, Asked::Numbers { context: lowered.plan.len(tokens), classes })
            }
            None => {
                return Err(Error::Config(
                    "--predict is for runs of integer sequences and for autoencoders of images: other runs have no such page".into(),
                ));
            }
        };
        let lowered = Lowered { launches: lowered.launches[decoder.unwrap_or(0)..].to_vec(), ..lowered };
        let mut kernels = Kernels::default();
        kernels.add(&lowered)?;
        let (launches, buffers) = (web_plan::launches(&lowered, &places, &kernels)?, web_plan::buffers(&memory));
        let mut limits = Limits::default();
        limits.raise(&lowered, &launches, &buffers);
        let (mut fills, mut files) = web_plan::constants(&lowered, &places, &memory, open)?;
        let whole = web_plan::flat(&memory, Flat::Parameters)?;
        let used = used(&launches, &whole);
        let bytes = bytemuck::cast_slice::<f32, u8>(&values)[used.clone()].to_vec();
        fills.push(Fill { file: WEIGHTS.into(), to: Part { offset: used.start as u64, bytes: bytes.len() as u64, ..whole } });
        files.push((WEIGHTS.into(), bytes));
        if places.find(io.feed.state).is_ok() {
            fills.push(Fill { file: STATE.into(), to: places.of_tensor(&lowered, io.feed.state)? });
            files.push((STATE.into(), bytemuck::bytes_of(&predicting(1)).to_vec()));
        }
        files.extend(std::mem::take(&mut kernels.files));
        let plan = Plan {
            run: name.into(),
            engine: env!("CARGO_PKG_VERSION"),
            parameters: lowered.plan.parameter_count(),
            step: weights.step(),
            asked,
            limits,
            features: kernels.features,
            files: files.iter().map(|(name, bytes)| (name.clone(), bytes.len())).collect(),
            kernels: kernels.names,
            buffers,
            fills,
            launches,
            input: places.of_tensor(&lowered, input)?,
            output: places.of_tensor(&lowered, output)?,
        };
        files.push((PLAN.into(), json(&plan)?.into_bytes()));
        files.extend(web_plan::page(include_str!("web/predict.html"), ("predict.js", include_str!("web/predict.js"))));
        Ok(WebPrediction { files })
    }

    /// Names of the files, with what they hold; `plan.json` comes after all that it names.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(name, bytes)| (name.as_str(), &bytes[..]))
    }

    /// Writes the files into a folder that is new or empty.
    ///
    /// # Errors
    /// `CannotCreate`, and `Io` when the disk is full.
    pub fn write(&self, folder: &Path) -> Result<()> {
        web_plan::write(folder, self.files())
    }
}

/// Number of launches up to the one that makes a tensor.
fn after(lowered: &Lowered, made: Tensor) -> Result<usize> {
    let makes = |launch: &crate::plan::Launch| lowered.plan.entries()[launch.entries.clone()].iter().any(|e| e.writes().any(|t| t == made));
    let at = lowered.launches.iter().position(makes);
    at.map(|at| at + 1).ok_or_else(|| Error::Internal(format!("no launch makes {made:?}")))
}

/// Bytes of a buffer from the first to the last that launches read.
fn used(launches: &[Launch], whole: &Part) -> Range<usize> {
    let bound = || launches.iter().flat_map(|launch| &launch.bindings).map(|bound| &bound.part).filter(|part| part.buffer == whole.buffer);
    let start = bound().map(|part| part.offset).min().unwrap_or(0);
    let end = bound().map(|part| part.offset + part.bytes).max().unwrap_or(0).min(whole.bytes);
    start as usize..end as usize
}
