//! A page on which a trained model answers its visitor: the next number of a sequence of integers, the picture that a decoder draws of a
//! latent that sliders move, or the linkage that a transformer makes of one, joint after joint. The plan of a prediction, its kernels as
//! WGSL and the weights that it needs, as bytes.

use std::any::Any;
use std::ops::Range;
use std::path::Path;

use serde::Serialize;

use super::web::predicting;
use super::web_plan::{self, Buffer, Files, Fill, Kernels, Launch, Limits, Part, Places, browser};
use crate::error::{Error, Result, json};
use crate::gpu::Gpu;
use crate::kernels::State;
use crate::kernels::tokens::BEFORE_JOINTS;
use crate::plan::{FixedPlan, Flat, LayoutOptions, Lowered, Memory, Tensor};
use crate::problem::Problem;
use crate::registry::Config;
use crate::session::{DecodeIo, Feed};
use crate::tasks::{IntegerSequencesConfig, LENGTH, MechanismsConfig, Purpose, ShownMechanisms};
use crate::train::Weights;

const PLAN: &str = "plan.json";
const WEIGHTS: &str = "weights.bin";
const STATE: &str = "state.bin";
const POSITIONS: &str = "positions.bin";

/// Folder of the decoder that draws the curve of a mechanism.
const CURVE: &str = "curve";

/// Mechanisms of a file that a page has to begin with.
const SAMPLES: usize = 6;

/// What the visitor gives and sees.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Asked {
    /// Integers below `classes`, at most `context` of them; the output has a logit for each class after each of them.
    Numbers { context: usize, classes: usize },
    /// Latents; the output is a picture with this side.
    Picture { latents: usize, side: usize },
    /// A latent and a type; the outputs are normalised coordinates of the joints, which have this mean and deviation in mm, each with the
    /// logit of a stop bit. `stops` if the model has learned these.
    Mechanism {
        #[serde(flatten)]
        shown: ShownMechanisms,
        mean: [f32; 2],
        deviation: [f32; 2],
        stops: bool,
    },
}

/// How a model predicts one position after another: the launches run for each, with its state from the file. The output of a position is
/// the input of the next, after those that come before the first joint.
#[derive(Debug, Serialize)]
struct Decoding {
    file: &'static str,
    positions: usize,
    before: usize,
    state: Part,
    types: Part,
    points: Part,
}

/// A prediction as it is recorded, with what the visitor gives and sees.
struct Recorded {
    plan: FixedPlan,
    feed: Feed,
    input: Tensor,
    output: Tensor,
    asked: Asked,
}

impl Recorded {
    fn of(config: &Config, problem: &Problem) -> Result<Recorded> {
        let data = config.data.kind() as &dyn Any;
        if let Some(mechanisms) = data.downcast_ref::<MechanismsConfig>() {
            return Recorded::of_mechanisms(mechanisms, problem);
        }
        let (plan, io) = problem.record_prediction(browser(), 1)?;
        let (input, asked) = match plan.find("z") {
            Some(z) => {
                let side = (plan.len(io.output) as f64).sqrt() as usize;
                (z, Asked::Picture { latents: plan.len(z), side })
            }
            None if data.is::<IntegerSequencesConfig>() => {
                let tokens = io.feed.input("tokens")?;
                let classes = problem.source().fields().below("engine export", "tokens")?;
                (tokens, Asked::Numbers { context: plan.len(tokens), classes })
            }
            None => {
                let what = "--predict is for runs of integer sequences and of mechanisms, and for autoencoders of images: other runs have no such page";
                return Err(Error::Config(what.into()));
            }
        };
        Ok(Recorded { plan, feed: io.feed, input, output: io.output, asked })
    }

    fn of_mechanisms(config: &MechanismsConfig, problem: &Problem) -> Result<Recorded> {
        let none = || Error::Config("this model predicts no joint after another".into());
        let (plan, DecodeIo { feed, output, .. }) = problem.record_positions(browser(), 1, 1)?.ok_or_else(none)?;
        let shown = ShownMechanisms::of(config, SAMPLES, problem.integers_below())?;
        let scale = problem.source().scale("joints", problem.buffers());
        let pair = |values: &[f32], usual: f32| [0, 1].map(|axis| values.get(axis).copied().unwrap_or(usual));
        let (mean, deviation) = scale.as_ref().map_or((&[][..], &[][..]), |scale| (&scale.mean[..], &scale.deviation[..]));
        let stops = problem.loss().columns().names.contains(&"stop");
        let asked = Asked::Mechanism { shown, mean: pair(mean, 0.0), deviation: pair(deviation, 1.0), stops };
        Ok(Recorded { plan: plan.pruned(), input: feed.input("latents")?, feed, output, asked })
    }
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
    decoding: Option<Decoding>,
    /// Folder of the decoder that draws the curve of a mechanism.
    curve: Option<&'static str>,
}

/// The page of a trained model: the files of a folder that any web server can give.
#[derive(Debug)]
pub struct WebPrediction {
    plan: Plan,
    files: Files,
    page: Files,
}

impl WebPrediction {
    /// Records the prediction of a run with these weights. `open` opens a device where the plan has constants.
    ///
    /// # Errors
    /// `Config` for a run that has no such page, `Data` when the weights do not fit, and those of the file of mechanisms.
    pub fn of(config: &Config, name: &str, weights: &mut Weights, open: impl FnOnce() -> Result<Gpu>) -> Result<WebPrediction> {
        let mut problem = Problem::open(config, Purpose::Predict)?;
        problem.use_saved_buffers(weights.buffers(problem.buffers())?);
        let Recorded { plan, feed, input, output, asked } = Recorded::of(config, &problem)?;
        let values = weights.load(plan.parameters())?;
        let (memory, lowered) = Memory::of(plan, LayoutOptions::default())?;
        let places = Places::of(&lowered)?;
        // The visitor gives the latent, so that what makes it is left away.
        let first = if matches!(asked, Asked::Picture { .. }) { after(&lowered, input)? } else { 0 };
        let lowered = Lowered { launches: lowered.launches[first..].to_vec(), ..lowered };
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
        let part = |tensor: Tensor| places.of_tensor(&lowered, tensor);
        let mut decoding = None;
        if matches!(asked, Asked::Mechanism { .. }) {
            let states: Vec<State> = (0..LENGTH as u32).map(|position| State { position, ..State::default() }).collect();
            files.push((POSITIONS.into(), bytemuck::cast_slice(&states).to_vec()));
            let (state, types, points) = (part(feed.state)?, part(feed.input("types")?)?, part(feed.input("points")?)?);
            decoding = Some(Decoding { file: POSITIONS, positions: LENGTH, before: BEFORE_JOINTS, state, types, points });
        } else if places.find(feed.state).is_ok() {
            fills.push(Fill { file: STATE.into(), to: part(feed.state)? });
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
            input: part(input)?,
            output: part(output)?,
            decoding,
            curve: None,
        };
        files.push((PLAN.into(), json(&plan)?.into_bytes()));
        let page = web_plan::page(include_str!("web/predict.html"), ("predict.js", include_str!("web/predict.js")));
        Ok(WebPrediction { plan, files, page })
    }

    /// The page of mechanisms with the decoder of the autoencoder whose latents they have, which draws their curve.
    ///
    /// # Errors
    /// `Config` for a page of anything else, or when the latents differ.
    pub fn with_curve(mut self, decoder: WebPrediction) -> Result<WebPrediction> {
        let refused = |why: String| Err(Error::Config(format!("--autoencoder: {why}")));
        match (&self.plan.asked, &decoder.plan.asked) {
            (Asked::Mechanism { shown, .. }, _) if !shown.has_frame() => {
                refused("where the joints lie in a picture is known of files of `engine data linkages` alone".into())
            }
            (Asked::Mechanism { shown, .. }, Asked::Picture { latents, .. }) if shown.latents() == *latents => {
                self.plan.curve = Some(CURVE);
                self.files.retain(|(name, _)| name != PLAN);
                self.files.extend(decoder.files.into_iter().map(|(name, bytes)| (format!("{CURVE}/{name}"), bytes)));
                self.files.push((PLAN.into(), json(&self.plan)?.into_bytes()));
                Ok(self)
            }
            (Asked::Mechanism { shown, .. }, Asked::Picture { latents, .. }) => {
                refused(format!("its latents have {latents} numbers, and those of the mechanisms {}", shown.latents()))
            }
            (Asked::Mechanism { .. }, _) => refused("it is no autoencoder of images".into()),
            _ => refused("it draws the curves of a run of mechanisms, and this is none".into()),
        }
    }

    /// Names of the files, with what they hold; `plan.json` comes after all that it names.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().chain(&self.page).map(|(name, bytes)| (name.as_str(), &bytes[..]))
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
