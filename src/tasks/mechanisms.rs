//! Mechanisms: joints from the latent of a curve and a type, teacher-forced and on a model's own predictions.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::data::{Data, DataKind, Layout, Loading, Purpose, Source, packed};
use super::epochs::{Sets, SplitKind, fifth, one, random_split};
use super::file_source::FileSource;
use super::scorecard::{Card, ClosingScores, Scorecard};
use crate::batch::{self, Batch, Field, Fields, Inputs};
use crate::config::{Section, Settings, in_range};
use crate::datasets::mechanisms::{JOINTS, Joints, MechanismData, NonFinite, header, load};
use crate::error::{Error, Result};
use crate::gpu::Role;
use crate::kernels::State;
use crate::kernels::tokens::BEFORE_JOINTS;
use crate::layers::Cache;
use crate::losses::{Columns, Loss};
use crate::metrics::{Column, Metrics};
use crate::plan::{Buffer, Fill, Plan, Program, Tensor};
use crate::random::{Random, stream};
use crate::session::{Feed, Session};

/// Number of joints that are inputs: the last one predicts nothing.
const INPUT_JOINTS: usize = JOINTS - 1;
/// Number of tokens of a sequence.
pub(crate) const LENGTH: usize = BEFORE_JOINTS + INPUT_JOINTS;
/// Name of the buffer of mean coordinates.
const MEAN: &str = "normalization.mean";
/// Name of the buffer of standard deviations, which convert normalised coordinates to mm.
const DEVIATION: &str = "normalization.deviation";

/// A predicted joint: coordinates in mm, and the logit of the stop bit.
pub type Predicted = ([f64; 2], f64);

/// Number of joints up to the first whose logit of a stop bit is above 0, or of all of them.
pub fn until_stop(mut logits: impl ExactSizeIterator<Item = f64>) -> usize {
    let joints = logits.len();
    logits.position(|logit| logit > 0.0).map_or(joints, |last| last + 1)
}

/// Latents, types and joints of mechanisms from an .npz file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MechanismsConfig {
    /// Path of the .npz file; a relative path is looked up in the current folder.
    pub file: PathBuf,
    /// Choice of the validation samples.
    #[serde(default = "random_split")]
    #[schemars(extend("enum" = ["random", "sequential"]))]
    pub split: SplitKind,
    /// Share of the samples for validation.
    #[serde(default = "fifth")]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub validation_share: f64,
    /// Seed of the random split.
    #[serde(default = "one")]
    pub seed: u64,
    /// Leave out samples with NaN or infinity instead of failing on the file.
    #[serde(default)]
    pub skip_non_finite: bool,
    /// Normalise the coordinates: subtract their mean and divide by their standard deviation, by axis.
    #[serde(default = "yes")]
    pub normalize: bool,
    /// Number of features of a latent, for estimates while there is no file; the file's own value takes precedence.
    #[serde(default = "latents")]
    #[schemars(range(min = 1, max = 1 << 16))]
    pub latents: usize,
}

fn yes() -> bool {
    true
}

fn latents() -> usize {
    50
}

impl Section for MechanismsConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        in_range(self, "data")?;
        self.split.without_members()
    }
}

impl MechanismsConfig {
    fn mechanisms(&self, settings: &Settings, purpose: Purpose) -> Mechanisms {
        let sets = Sets::new(&self.file, self.validation_share, self.split, self.seed, &settings.train);
        Mechanisms {
            config: self.clone(),
            joints: if purpose == Purpose::Generate { Joints::Unread } else { Joints::Needed },
            file: FileSource::new(&self.file, sets, purpose),
            facts: None,
        }
    }

    /// The data with these samples in place of a file's, and with the buffers that were read with saved weights.
    ///
    /// # Errors
    /// `Data` when they do not fill a batch.
    pub fn holding(&self, settings: &Settings, data: MechanismData, saved_buffers: &[Buffer]) -> Result<Box<dyn Data>> {
        Ok(Box::new(self.mechanisms(settings, Purpose::Train).holding(data, saved_buffers)?))
    }
}

impl DataKind for MechanismsConfig {
    fn files(&self) -> Vec<(&'static str, &Path)> {
        vec![("data.file", &self.file)]
    }

    fn resize(&mut self) -> Result<()> {
        if self.file.exists() {
            self.latents = header(&self.file, Joints::Unread)?.1;
        }
        Ok(())
    }

    fn on_file(&mut self, file: &Path) -> Result<()> {
        self.file = file.to_path_buf();
        Ok(())
    }

    fn open(&self, settings: &Settings, purpose: Purpose) -> Result<Box<dyn Source>> {
        let mut source = self.mechanisms(settings, purpose);
        let width = source.file.read_header(|path| header(path, Joints::Unread))?;
        source.config.latents = width.unwrap_or(source.config.latents);
        Ok(Box::new(source))
    }

    fn made_up(&self, settings: &Settings, samples: usize, integers_below: Option<usize>) -> Result<Box<dyn Data>> {
        let (mut random, width) = (Random::new(1, stream::MADE_UP_MECHANISMS, 0), self.latents);
        let types = integers_below.unwrap_or(1) as i64;
        let mut data = MechanismData { latents: vec![], width, types: vec![], joints: vec![], counts: vec![], linkages: false };
        for i in 0..samples {
            data.latents.extend((0..width).map(|_| random.normal() as f32));
            data.types.push(random.between(0, types - 1) as u32);
            let count = 5 + i % 4;
            data.joints.extend((0..2 * JOINTS).map(|j| if j < 2 * count { 4.0 * random.normal() as f32 } else { 0.0 }));
            data.counts.push(count);
        }
        self.holding(settings, data, &[])
    }
}

/// Configuration of the mechanisms and sizes by the header, before they are read.
#[derive(Debug, Clone)]
struct Mechanisms {
    config: MechanismsConfig,
    /// Use of the joints in the file.
    joints: Joints,
    file: FileSource,
    /// Facts of the samples, once they are loaded.
    facts: Option<Facts>,
}

/// Facts of loaded samples.
#[derive(Debug, Clone, Copy)]
struct Facts {
    /// Number that all types are below.
    types: usize,
    scale: Scale,
    /// Usual size of a coordinate that the model sees.
    size: f64,
}

impl Mechanisms {
    /// Takes the samples. Mean and standard deviation are those of the saved weights if given, else of the training samples.
    fn holding(mut self, data: MechanismData, saved_buffers: &[Buffer]) -> Result<LoadedMechanisms> {
        self.file.take(data.counts.len())?;
        let find = |name: &str| saved_buffers.iter().find(|b| b.name == name).and_then(|b| <[f32; 2]>::try_from(&b.values[..]).ok());
        let scale = match (find(MEAN), find(DEVIATION)) {
            (Some(mean), Some(deviation)) => {
                let plain = mean == [0.0; 2] && deviation == [1.0; 2];
                if plain == self.config.normalize {
                    return Err(Error::Config(format!(
                        "the weights were trained on coordinates that were {}normalised: set data.normalize={}",
                        if plain { "not " } else { "" },
                        !plain
                    )));
                }
                Scale { mean, deviation }
            }
            _ if self.config.normalize => {
                let [mean, deviation] = data.statistics(&self.file.sets.train).map(|v| v.map(|v| v as f32));
                Scale { mean, deviation }
            }
            _ => Scale::default(),
        };
        self.config.latents = data.width;
        let size = match self.config.normalize {
            true => 1.0,
            false => data.statistics(&self.file.sets.train)[1].into_iter().fold(0.0, f64::max),
        };
        self.facts = Some(Facts { types: data.types.iter().max().map_or(1, |t| *t as usize + 1), scale, size });
        Ok(LoadedMechanisms { source: self, data: Arc::new(data), scale })
    }

    fn tensors(&self, plan: &mut Plan, batch: usize) -> Result<Inputs> {
        let inputs = self.model_inputs(plan, batch, INPUT_JOINTS)?;
        let name = plan.name.clone();
        let joints = plan.persistent(Role::Dataset, &format!("{name}.joints"), &[batch, JOINTS, 2])?;
        let mask = plan.persistent(Role::Dataset, &format!("{name}.mask"), &[batch, JOINTS])?;
        let deviation = self.facts.map(|facts| Fill::floats(facts.scale.deviation.to_vec()));
        let deviation = plan.constant(Role::Workspace, DEVIATION, &[2], deviation)?;
        Ok(inputs.with("joints", joints).with("mask", mask).with("deviation", deviation))
    }

    /// Declares latents, types and the joints that are inputs.
    fn model_inputs(&self, plan: &mut Plan, batch: usize, joints: usize) -> Result<Inputs> {
        let name = plan.name.clone();
        let mut input = |what: &str, shape: &[usize]| plan.persistent(Role::Dataset, &format!("{name}.{what}"), shape);
        let (latents, types) = (input("latents", &[batch, self.config.latents])?, input("types", &[batch])?);
        let points = input("points", &[batch, joints, 2])?;
        Ok(Inputs::new(batch).with("latents", latents).with("types", types).with("points", points))
    }
}

impl Source for Mechanisms {
    fn fields(&self) -> Fields {
        Fields(vec![
            Field::floats("latents", &[self.config.latents]),
            // Which types there are, only the samples tell.
            Field::integers("types", &[], self.facts.map_or(1, |facts| facts.types)),
            Field::floats("points", &[INPUT_JOINTS, 2]),
            Field::floats("joints", &[JOINTS, 2]).answer(),
            Field::floats("mask", &[JOINTS]).answer(),
        ])
    }

    fn steps_per_epoch(&self) -> u64 {
        self.file.sets.steps()
    }

    fn record(&self, plan: &mut Plan, batch: usize, _layout: Layout) -> Result<Inputs> {
        self.tensors(plan, batch)
    }

    fn decodes(&self) -> bool {
        true
    }

    fn record_positions(&self, plan: &mut Plan, batch: usize, positions: usize) -> Result<Option<(Inputs, Cache)>> {
        let inputs = self.model_inputs(plan, batch, positions)?;
        let sources = plan.persistent(Role::KvCache, &format!("{}.sources", plan.name), &[batch, LENGTH])?;
        Ok(Some((inputs.with("sources", sources), Cache { sources, limit: LENGTH })))
    }

    fn buffers(&self) -> Vec<Buffer> {
        self.facts.map_or_else(Scale::default, |facts| facts.scale).buffers()
    }

    fn scale(&self, field: &str, buffers: &[Buffer]) -> Option<batch::Scale> {
        let values = |name: &str| Some(buffers.iter().find(|buffer| buffer.name == name)?.values.clone());
        if !["points", "joints"].contains(&field) {
            return None;
        }
        Some(batch::Scale { mean: values(MEAN)?, deviation: values(DEVIATION)? })
    }

    fn size(&self) -> f64 {
        self.facts.map_or(1.0, |facts| facts.size)
    }

    fn card(&self, loss: &dyn Loss) -> Card {
        let columns = loss.columns();
        Card {
            validation_metrics: columns.names.clone(),
            of_samples: vec![],
            table_columns: table_columns(&columns),
            chart: ("distance", vec!["distance"]),
        }
    }

    fn describe(&self) -> Option<String> {
        let latents = format!("latents of {}", self.config.latents);
        Some(self.file.describe(|samples| format!("{samples} samples, {latents}"), &latents))
    }

    fn expect_file(&self) -> Result<()> {
        self.file.expect(
            "Make one with `engine data linkages` and `engine encode` (guide/mechanisms.md), or name yours: data.file in the run file, --data \
             elsewhere",
        )
    }

    fn load(self: Box<Self>, with: Loading<'_>) -> Result<(Box<dyn Data>, Vec<String>)> {
        self.expect_file()?;
        let (data, mut notes) = load(&self.file.path, self.joints, NonFinite::of(self.config.skip_non_finite))?;
        let loaded = self.holding(data, with.saved_buffers)?;
        let [[mx, my], [dx, dy]] = loaded.data.statistics(&loaded.source.file.sets.train);
        let how = if loaded.source.config.normalize { "" } else { ", not normalised" };
        let text = format!(
            "data        {} training and {} validation mechanisms, latents of {}; joints {mx:.2} ± {dx:.2}, {my:.2} ± {dy:.2} mm{how}",
            loaded.source.file.sets.train.len(),
            loaded.source.file.sets.validation.len(),
            loaded.source.config.latents
        );
        notes.insert(0, text);
        let usual = [dx, dy].iter().all(|deviation| (0.5..=2.0).contains(deviation));
        if !loaded.source.config.normalize && !usual {
            notes.push(
                "WARNING: the model sees coordinates in mm that do not deviate by about 1, which it may hardly learn from: data.normalize = true".into(),
            );
        }
        Ok((Box::new(loaded), notes))
    }
}

/// Mean and standard deviation of the coordinates, by axis.
#[derive(Debug, Clone, Copy)]
struct Scale {
    mean: [f32; 2],
    deviation: [f32; 2],
}

impl Default for Scale {
    fn default() -> Self {
        Scale { mean: [0.0; 2], deviation: [1.0; 2] }
    }
}

impl Scale {
    fn buffers(&self) -> Vec<Buffer> {
        let buffer = |name: &str, values: [f32; 2]| Buffer { name: name.into(), shape: vec![2], values: values.to_vec() };
        vec![buffer(MEAN, self.mean), buffer(DEVIATION, self.deviation)]
    }

    fn of(&self, axis: usize) -> (f64, f64) {
        (f64::from(self.mean[axis]), f64::from(self.deviation[axis]))
    }
}

/// Mechanisms with their samples loaded.
#[derive(Debug, Clone)]
struct LoadedMechanisms {
    source: Mechanisms,
    data: Arc<MechanismData>,
    scale: Scale,
}

impl Data for LoadedMechanisms {
    fn source(&self) -> &dyn Source {
        &self.source
    }

    fn batches(&mut self, step: u64, _layout: Layout, own: Range<usize>) -> Result<Vec<Batch>> {
        let numbers = self.source.file.sets.numbers(step);
        let pack = |numbers: Vec<usize>| pack(&self.data, self.scale, &numbers, self.source.file.sets.batch());
        Ok(packed(numbers, &own, pack, |numbers| (numbers.len() * JOINTS, valid_joints(&self.data, numbers))))
    }

    fn scorecard(&self, loss: &dyn Loss, _layout: Layout) -> Box<dyn Scorecard> {
        let (data, scale, columns) = (self.data.clone(), self.scale, loss.columns());
        let Sets { train, validation, .. } = &self.source.file.sets;
        let (train, validation) = (train.clone(), validation.clone());
        Box::new(MechanismScorecard { data, scale, train, validation, means: OnceCell::new(), columns })
    }
}

/// Packs the samples with these numbers into a batch of `batch`; the rest is zeros.
fn pack(data: &MechanismData, scale: Scale, numbers: &[usize], batch: usize) -> Batch {
    let width = data.width;
    let mut latents = vec![0u32; batch * width];
    let mut types = vec![0u32; batch];
    let mut points = vec![0u32; batch * INPUT_JOINTS * 2];
    let mut joints = vec![0u32; batch * JOINTS * 2];
    let mut mask = vec![0u32; batch * JOINTS];
    for (b, i) in numbers.iter().copied().enumerate() {
        for (to, from) in latents[b * width..].iter_mut().zip(&data.latents[i * width..(i + 1) * width]) {
            *to = from.to_bits();
        }
        types[b] = data.types[i];
        for j in 0..data.counts[i] {
            mask[b * JOINTS + j] = 1f32.to_bits();
            for axis in 0..2 {
                let (mean, deviation) = scale.of(axis);
                let value = ((f64::from(data.joints[(i * JOINTS + j) * 2 + axis]) - mean) / deviation) as f32;
                joints[(b * JOINTS + j) * 2 + axis] = value.to_bits();
                if j < INPUT_JOINTS {
                    points[(b * INPUT_JOINTS + j) * 2 + axis] = value.to_bits();
                }
            }
        }
    }
    let count = valid_joints(data, numbers);
    let inputs = vec![("latents", latents), ("types", types), ("points", points), ("joints", joints), ("mask", mask)];
    Batch { inputs, rows: numbers.len() * JOINTS, count, drawn: false }
}

/// Number of valid joints of these samples.
fn valid_joints(data: &MechanismData, numbers: &[usize]) -> usize {
    numbers.iter().map(|i| data.counts[*i]).sum()
}

/// Mean distances of the validation joints to the mean training joint, and to the mean of their type and place (baselines).
fn mean_distances(data: &MechanismData, train: &[usize], validation: &[usize]) -> [f64; 2] {
    let mut means: HashMap<(u32, usize), ([f64; 2], f64)> = HashMap::new();
    for i in train {
        for (j, p) in data.joints_of(*i).into_iter().enumerate() {
            let (sum, n) = means.entry((data.types[*i], j)).or_default();
            (sum[0], sum[1], *n) = (sum[0] + p[0], sum[1] + p[1], *n + 1.0);
        }
    }
    let [mean, _] = data.statistics(train);
    let of_place = |kind: u32, j: usize| means.get(&(kind, j)).map_or(mean, |(sum, n)| [sum[0] / n, sum[1] / n]);
    let distance_to = |guess: &dyn Fn(u32, usize) -> [f64; 2]| {
        let (mut sum, mut count) = (0.0, 0);
        for i in validation {
            for (j, t) in data.joints_of(*i).iter().enumerate() {
                let g = guess(data.types[*i], j);
                sum += (g[0] - t[0]).hypot(g[1] - t[1]);
                count += 1;
            }
        }
        sum / f64::from(count)
    };
    [distance_to(&|_, _| mean), distance_to(&of_place)]
}

/// Columns of the tables of metrics.
fn table_columns(columns: &Columns) -> Vec<Column> {
    let mut shown = vec![
        Column::new("distance", "error (mm)", Some(3)),
        Column::new("free_distance", "free (mm)", Some(3)),
        Column::new("coordinate", "coordinates", Some(4)),
    ];
    if columns.names.contains(&"stop") {
        shown.extend([Column::new("stop", "stop", Some(4)), Column::new("count_accuracy", "joints right", None)]);
    }
    shown
}

/// Outputs (batch, joints, 3) of a program that decodes, whose latents and types are written: the normalised coordinates of each joint,
/// which are the next input, and the logit of its stop bit.
///
/// # Errors
/// `Internal` for a program of another model, `TryAgain` on device loss.
pub(crate) fn joint_after_joint(program: &Program, feed: &Feed, output: Tensor) -> Result<Vec<f32>> {
    let [points_in, sources_in] = [feed.input("points")?, feed.input("sources")?];
    let sources: Vec<u32> = (0..feed.batch as u32).flat_map(|row| [row; LENGTH]).collect();
    program.write(sources_in, &sources);
    let (mut points, mut all) = (vec![0f32; feed.batch * 2], vec![0f32; feed.batch * JOINTS * 3]);
    for position in 0..LENGTH {
        program.write(feed.state, &[State { position: position as u32, ..State::default() }]);
        program.write(points_in, &points);
        program.run(program.all())?;
        let Some(joint) = (position + 1).checked_sub(BEFORE_JOINTS) else { continue };
        let outputs: Vec<f32> = program.read(output)?;
        for (b, output) in outputs.chunks(3).enumerate() {
            points[b * 2..b * 2 + 2].copy_from_slice(&output[..2]);
            all[(b * JOINTS + joint) * 3..][..3].copy_from_slice(output);
        }
    }
    Ok(all)
}

/// Scorecard of models of mechanisms.
#[derive(Debug)]
pub struct MechanismScorecard {
    data: Arc<MechanismData>,
    scale: Scale,
    train: Vec<usize>,
    validation: Vec<usize>,
    /// Distances to the mean joint, and to that of each type and place, once they have been computed.
    means: OnceCell<[f64; 2]>,
    columns: Columns,
}

impl MechanismScorecard {
    fn means(&self) -> [f64; 2] {
        *self.means.get_or_init(|| mean_distances(&self.data, &self.train, &self.validation))
    }

    /// Samples of the file.
    pub fn data(&self) -> &MechanismData {
        &self.data
    }

    /// Numbers of the validation samples.
    pub fn validation(&self) -> &[usize] {
        &self.validation
    }

    /// Metrics of predictions with teacher forcing: each joint is predicted from the true ones before it.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn evaluate(&self, session: &Session, numbers: &[usize]) -> Result<Metrics> {
        let batch = session.batch();
        session.means(&self.columns, numbers.chunks(batch).map(|numbers| Ok(pack(&self.data, self.scale, numbers, batch))))
    }

    /// True if the model has learned a stop bit.
    fn stops(&self) -> bool {
        self.columns.names.contains(&"stop")
    }

    /// Generates eight joints of each sample from its latent and type alone: each prediction is the next input.
    ///
    /// # Errors
    /// `Config` when the model does not decode, `TryAgain` on device loss.
    pub fn generate(&self, session: &Session, numbers: &[usize]) -> Result<Vec<Vec<Predicted>>> {
        let decode = session.decoding();
        let (program, io) = decode.ok_or_else(|| Error::Config("this model predicts no joint after another".into()))?;
        let [latents, types]: [Tensor; 2] = [io.feed.input("latents")?, io.feed.input("types")?];
        let mut out = Vec::with_capacity(numbers.len());
        for chunk in numbers.chunks(io.feed.batch) {
            let batch = pack(&self.data, self.scale, chunk, io.feed.batch);
            program.write(latents, batch.words("latents"));
            program.write(types, batch.words("types"));
            let outputs = joint_after_joint(program, &io.feed, io.output)?;
            let predicted = |output: &[f32]| {
                let mm = |axis: usize| f64::from(output[axis]) * self.scale.of(axis).1 + self.scale.of(axis).0;
                ([mm(0), mm(1)], if self.stops() { f64::from(output[2]) } else { f64::NEG_INFINITY })
            };
            out.extend(outputs.chunks(JOINTS * 3).take(chunk.len()).map(|sample| sample.chunks(3).map(predicted).collect()));
        }
        Ok(out)
    }

    /// Metrics of free-running predictions: distance to the valid joints, and share of samples whose stop bit gives the right number of
    /// joints.
    fn free_running(&self, session: &Session) -> Result<Vec<(String, f64)>> {
        let (mut sum, mut count, mut right) = (0.0, 0, 0);
        for (i, joints) in self.validation.iter().zip(self.generate(session, &self.validation)?) {
            let truth = self.data.joints_of(*i);
            sum += truth.iter().zip(&joints).map(|(t, (p, _))| (p[0] - t[0]).hypot(p[1] - t[1])).sum::<f64>();
            count += truth.len();
            right += usize::from(until_stop(joints.iter().map(|(_, stop)| *stop)) == truth.len());
        }
        let mut found = vec![("free_distance".to_string(), sum / count as f64)];
        found.extend(self.stops().then(|| ("count_accuracy".to_string(), right as f64 / self.validation.len() as f64)));
        Ok(found)
    }
}

impl Scorecard for MechanismScorecard {
    fn validate(&self, session: &Session, _step: u64, _number: u64) -> Result<Metrics> {
        self.evaluate(session, &self.validation)
    }

    fn baselines(&self) -> Vec<(&'static str, Metrics)> {
        vec![("mean joint", Metrics::new([("distance", self.means()[0])]))]
    }

    fn closing_scores(&self, session: &Session, _step: u64) -> Result<ClosingScores> {
        let mut mine = self.evaluate(session, &self.validation)?;
        if session.decoding().is_some() {
            mine.0.extend(self.free_running(session)?);
        }
        let [mean, by_place] = self.means();
        let share = |name: &str| mine.get(name).map(|distance| distance / mean);
        let (error, free) = (share("distance").unwrap_or(f64::NAN), share("free_distance"));
        let free = free.map_or(String::new(), |free| format!(", free-running {free:.2}"));
        let note = format!(
            "error: mean distance over valid joints, each predicted from the true ones before it; free: from its own. The error is {error:.2} \
             of the mean joint's{free}."
        );
        let row = |d: f64| Metrics::new([("distance", d), ("free_distance", d)]);
        let means = vec![("mean joint".to_string(), row(mean)), ("mean by type and place".to_string(), row(by_place))];
        Ok(ClosingScores::beside(vec![("this model".into(), mine)], means, &table_columns(&self.columns), vec![note]))
    }
}
