//! Mechanisms: joints from the latent of a curve and a type, teacher-forced and on its own predictions.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::path::Path;

use super::checkpoint::load_buffers;
use super::session::Session;
use super::task::{Buffer, Column, Io, Judgement, Metrics, MicroBatch, Sets, Task, sum_results};
use crate::config::{Config, DataConfig, MechanismsConfig};
use crate::datasets::mechanisms::{JOINTS, MechanismData, header, load};
use crate::error::{Error, Result};
use crate::gpu::Role;
use crate::kernels::State;
use crate::kernels::tokens::BEFORE_JOINTS;
use crate::layers::Cache;
use crate::losses::{DEVIATION, JointLossConfig, LossConfig};
use crate::models::{MechanismInputs, MechanismTransformer, MechanismTransformerConfig, ModelConfig, RANDOM_FREQUENCIES};
use crate::plan::{Plan, Program, Tensor};
use crate::random::Random;

/// Joints that are inputs: the last one predicts nothing.
const GIVEN: usize = JOINTS - 1;
/// Tokens of a sequence.
const LENGTH: usize = BEFORE_JOINTS + GIVEN;
/// Name of the buffer of mean coordinates.
const MEAN: &str = "normalization.mean";
/// Stream of made-up samples.
const MADE_UP: u32 = 32;

/// A joint as predicted: coordinates in mm, and the logit of the stop bit.
pub type Predicted = ([f64; 2], f64);

/// Joints up to the first whose stop bit is likelier set than not.
pub fn until_stop(joints: &[Predicted]) -> usize {
    joints.iter().position(|(_, stop)| *stop > 0.0).map_or(joints.len(), |last| last + 1)
}

/// The task of a mechanism transformer.
#[derive(Debug)]
pub struct MechanismTask {
    config: Config,
    model: MechanismTransformerConfig,
    source: MechanismsConfig,
    loss: JointLossConfig,
    width: usize,
    data: Option<MechanismData>,
    sets: Sets,
    /// Distances of the mean joint, and of that of each type and place, once they were asked for.
    means: OnceCell<[f64; 2]>,
    buffers: Vec<Buffer>,
    /// Mean and deviation come with the weights.
    taken: bool,
    /// The file has joints.
    truth: bool,
}

impl MechanismTask {
    /// The task of a configuration, with the sizes of its file where there is one.
    ///
    /// # Errors
    /// `Config` when it is of another kind, `Data` when the file cannot be used.
    pub fn new(config: &Config) -> Result<Self> {
        let (ModelConfig::MechanismTransformer(model), DataConfig::Mechanisms(source), LossConfig::Joints(loss)) =
            (&config.model, &config.data, &config.loss)
        else {
            return Err(Error::Config("this needs a run of data.kind = \"mechanisms\"".into()));
        };
        let buffer = |name: &str, shape: &[usize], values: Vec<f32>| Buffer { name: name.into(), shape: shape.to_vec(), values };
        let mut buffers = vec![buffer(MEAN, &[2], vec![0.0; 2]), buffer(DEVIATION, &[2], vec![1.0; 2])];
        if let Some(b) = model.features.random_frequencies(config.train.seed) {
            buffers.push(buffer(RANDOM_FREQUENCIES, &[2, b.len() / 2], b));
        }
        let mut task = MechanismTask {
            config: config.clone(),
            model: model.clone(),
            source: source.clone(),
            loss: loss.clone(),
            width: source.latents,
            data: None,
            sets: Sets::new(&source.file, source.validation_share, source.split, source.seed, &config.train),
            means: OnceCell::new(),
            buffers,
            taken: false,
            truth: true,
        };
        if source.file.exists() {
            let (samples, width) = header(&source.file, false)?;
            task.sets.expect(samples);
            task.width = width;
        }
        Ok(task)
    }

    /// The task with made-up samples.
    ///
    /// # Errors
    /// As `new`, and `Data` when a batch cannot be filled.
    pub fn random(config: &Config, samples: usize) -> Result<Self> {
        let mut task = MechanismTask::new(config)?;
        let mut random = Random::new(1, MADE_UP, 0);
        let width = task.source.latents;
        let mut data = MechanismData { latents: vec![], width, types: vec![], joints: vec![], counts: vec![], linkages: false };
        for i in 0..samples {
            data.latents.extend((0..width).map(|_| random.normal() as f32));
            data.types.push(random.between(0, task.model.types as i64 - 1) as u32);
            let count = 5 + i % 4;
            data.joints.extend((0..2 * JOINTS).map(|j| if j < 2 * count { 4.0 * random.normal() as f32 } else { 0.0 }));
            data.counts.push(count);
        }
        task.take(data)?;
        Ok(task)
    }

    /// The task with these samples instead of the file's.
    ///
    /// # Errors
    /// `Data` when a batch cannot be filled.
    pub fn take(&mut self, data: MechanismData) -> Result<()> {
        self.sets.take(data.counts.len())?;
        if self.source.normalize && !self.taken {
            let [mean, deviation] = data.statistics(&self.sets.train);
            self.buffers[0].values = mean.map(|v| v as f32).to_vec();
            self.buffers[1].values = deviation.map(|v| v as f32).to_vec();
        }
        self.width = data.width;
        self.means = OnceCell::new();
        self.data = Some(data);
        Ok(())
    }

    /// The task of all samples of a file, none of which trains; without `truth` they need not have joints.
    pub fn whole(mut self, truth: bool) -> Self {
        (self.sets.whole, self.truth) = (true, truth);
        self
    }

    /// The samples, once they are loaded.
    ///
    /// # Errors
    /// `Internal` before `load`.
    pub fn data(&self) -> Result<&MechanismData> {
        self.data.as_ref().ok_or_else(|| Error::Internal("the data set is not loaded".into()))
    }

    /// Numbers of the samples that validate.
    pub fn validation(&self) -> &[usize] {
        &self.sets.validation
    }

    /// Mean and deviation of a coordinate.
    fn scale(&self, axis: usize) -> (f64, f64) {
        (f64::from(self.buffers[0].values[axis]), f64::from(self.buffers[1].values[axis]))
    }

    /// Samples of these numbers as inputs of a batch of `batch`, the rest zeros.
    ///
    /// # Errors
    /// `Internal` before `load`.
    pub fn micro_batch(&self, numbers: &[usize], batch: usize) -> Result<MicroBatch> {
        let data = self.data()?;
        let mut latents = vec![0u32; batch * self.width];
        let mut types = vec![0u32; batch];
        let mut points = vec![0u32; batch * GIVEN * 2];
        let mut joints = vec![0u32; batch * JOINTS * 2];
        let mut mask = vec![0u32; batch * JOINTS];
        for (b, i) in numbers.iter().copied().enumerate() {
            for (to, from) in latents[b * self.width..].iter_mut().zip(&data.latents[i * self.width..(i + 1) * self.width]) {
                *to = from.to_bits();
            }
            types[b] = data.types[i];
            for j in 0..data.counts[i] {
                mask[b * JOINTS + j] = 1f32.to_bits();
                for axis in 0..2 {
                    let (mean, deviation) = self.scale(axis);
                    let value = ((f64::from(data.joints[(i * JOINTS + j) * 2 + axis]) - mean) / deviation) as f32;
                    joints[(b * JOINTS + j) * 2 + axis] = value.to_bits();
                    if j < GIVEN {
                        points[(b * GIVEN + j) * 2 + axis] = value.to_bits();
                    }
                }
            }
        }
        let count = numbers.iter().map(|i| data.counts[*i]).sum();
        Ok(MicroBatch { inputs: vec![latents, types, points, joints, mask], rows: numbers.len() * JOINTS, count, cycle: false })
    }

    /// Means over samples, of predictions from the true joints before.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn evaluate(&self, session: &Session, numbers: &[usize]) -> Result<Metrics> {
        let columns = self.columns();
        let mut sums = vec![0.0; columns.len()];
        let mut count = 0;
        for chunk in numbers.chunks(session.evaluate.1.batch) {
            let batch = self.micro_batch(chunk, session.evaluate.1.batch)?;
            for row in session.evaluate_rows(&batch)? {
                sums.iter_mut().zip(&row).for_each(|(s, v)| *s += f64::from(*v));
            }
            count += batch.count;
        }
        Ok(Metrics::new(columns.into_iter().zip(sums.into_iter().map(|s| s / count as f64))))
    }

    /// Eight joints of each sample from its latent and type alone: each prediction is the next input.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn generate(&self, session: &Session, numbers: &[usize]) -> Result<Vec<Vec<Predicted>>> {
        let (program, io) = session.decode.as_ref().ok_or_else(|| Error::Internal("this session does not decode".into()))?;
        let mut out = Vec::with_capacity(numbers.len());
        for chunk in numbers.chunks(io.batch) {
            let batch = self.micro_batch(chunk, io.batch)?;
            let sources: Vec<u32> = (0..io.batch as u32).flat_map(|row| [row; LENGTH]).collect();
            program.write(io.inputs[0], &batch.inputs[0]);
            program.write(io.inputs[1], &batch.inputs[1]);
            program.write(io.inputs[3], &sources);
            let mut joints: Vec<Vec<Predicted>> = vec![vec![]; chunk.len()];
            let mut points = vec![0f32; io.batch * 2];
            for position in 0..LENGTH {
                program.write(io.state, &[State { position: position as u32, ..State::default() }]);
                program.write(io.inputs[2], &points);
                program.run(program.all())?;
                if position + 1 < BEFORE_JOINTS {
                    continue;
                }
                let outputs: Vec<f32> = program.read(io.output)?;
                for (b, output) in outputs.chunks(3).enumerate() {
                    points[b * 2..b * 2 + 2].copy_from_slice(&output[..2]);
                    if let Some(joints) = joints.get_mut(b) {
                        let mm = |axis: usize| f64::from(output[axis]) * self.scale(axis).1 + self.scale(axis).0;
                        let stop = if self.stops() { f64::from(output[2]) } else { f64::NEG_INFINITY };
                        joints.push(([mm(0), mm(1)], stop));
                    }
                }
            }
            out.extend(joints);
        }
        Ok(out)
    }

    /// Whether the model learns where a sequence stops.
    fn stops(&self) -> bool {
        self.loss.stop_weight > 0.0
    }

    /// Distance of its own predictions to the valid joints, and how often the stop bit gives the right number of joints.
    fn free_running(&self, session: &Session, numbers: &[usize]) -> Result<Vec<(String, f64)>> {
        let data = self.data()?;
        let (mut sum, mut count, mut right) = (0.0, 0, 0);
        for (i, joints) in numbers.iter().zip(self.generate(session, numbers)?) {
            let truth = data.joints_of(*i);
            sum += truth.iter().zip(&joints).map(|(t, (p, _))| (p[0] - t[0]).hypot(p[1] - t[1])).sum::<f64>();
            count += truth.len();
            right += usize::from(until_stop(&joints) == truth.len());
        }
        let mut found = vec![("free_distance".to_string(), sum / count as f64)];
        found.extend(self.stops().then(|| ("count_accuracy".to_string(), right as f64 / numbers.len() as f64)));
        Ok(found)
    }

    /// Mean distance of the validation joints to what `guess` gives for (type, place).
    fn distance_to(&self, guess: impl Fn(u32, usize) -> [f64; 2]) -> Result<f64> {
        let data = self.data()?;
        let (mut sum, mut count) = (0.0, 0);
        for i in &self.sets.validation {
            for (j, t) in data.joints_of(*i).iter().enumerate() {
                let g = guess(data.types[*i], j);
                sum += (g[0] - t[0]).hypot(g[1] - t[1]);
                count += 1;
            }
        }
        Ok(sum / f64::from(count))
    }

    /// Distances of the mean joint, and of the mean joint of each type and place.
    fn mean_distances(&self) -> Result<[f64; 2]> {
        if let Some(known) = self.means.get() {
            return Ok(*known);
        }
        let data = self.data()?;
        let mut means: HashMap<(u32, usize), ([f64; 2], f64)> = HashMap::new();
        for i in &self.sets.train {
            for (j, p) in data.joints_of(*i).into_iter().enumerate() {
                let (sum, n) = means.entry((data.types[*i], j)).or_default();
                (sum[0], sum[1], *n) = (sum[0] + p[0], sum[1] + p[1], *n + 1.0);
            }
        }
        let [mean, _] = data.statistics(&self.sets.train);
        let of_place = |kind: u32, j: usize| means.get(&(kind, j)).map_or(mean, |(sum, n)| [sum[0] / n, sum[1] / n]);
        let distances = [self.distance_to(|_, _| mean)?, self.distance_to(of_place)?];
        Ok(*self.means.get_or_init(|| distances))
    }

    fn inputs(&self, plan: &mut Plan, batch: usize, joints: usize) -> Result<MechanismInputs> {
        let name = plan.name.clone();
        let mut input = |what: &str, shape: &[usize]| plan.persistent(Role::Dataset, &format!("{name}.{what}"), shape);
        Ok(MechanismInputs {
            latents: input("latents", &[batch, self.width])?,
            types: input("types", &[batch])?,
            points: input("points", &[batch, joints, 2])?,
            batch,
        })
    }
}

impl Task for MechanismTask {
    fn columns(&self) -> Vec<&'static str> {
        self.loss.columns().to_vec()
    }

    fn shown(&self) -> Vec<Column> {
        let column = |name, title, digits| Column { name, title, digits };
        let mut columns = vec![
            column("distance", "error (mm)", Some(3)),
            column("free_distance", "free (mm)", Some(3)),
            column("coordinate", "coordinates", Some(4)),
        ];
        if self.stops() {
            columns.extend([column("stop", "stop", Some(4)), column("count_accuracy", "joints right", None)]);
        }
        columns
    }

    fn chart(&self) -> (&'static str, Vec<&'static str>) {
        ("distance", vec!["distance"])
    }

    fn sized(&self, config: &Config) -> Config {
        let mut config = config.clone();
        if let DataConfig::Mechanisms(d) = &mut config.data {
            d.latents = self.width;
        }
        config
    }

    fn record(&self, plan: &mut Plan, batch: usize, records: Option<Tensor>) -> Result<Io> {
        let training = records.is_some();
        let inputs = self.inputs(plan, batch, GIVEN)?;
        let name = plan.name.clone();
        let joints = plan.persistent(Role::Dataset, &format!("{name}.joints"), &[batch, JOINTS, 2])?;
        let mask = plan.persistent(Role::Dataset, &format!("{name}.mask"), &[batch, JOINTS])?;
        let mut model = MechanismTransformer::new(&self.model, self.width, batch, training)?;
        let output = model.forward(plan, inputs, None)?;
        let (y, dx) = self.loss.record(plan, output, joints, mask, training)?;
        if let Some(records) = records {
            sum_results(plan, y, records)?;
            model.backward(plan, dx.ok_or_else(|| Error::Internal("no gradient of the loss".into()))?)?;
        }
        let state = crate::kernels::state(plan)?;
        let inputs = vec![inputs.latents, inputs.types, inputs.points, joints, mask];
        Ok(Io { state, inputs, records, output, rows: y, batch })
    }

    fn record_decoding(&self, plan: &mut Plan) -> Result<Option<Io>> {
        let batch = self.evaluation_batch();
        let inputs = self.inputs(plan, batch, 1)?;
        let sources = plan.persistent(Role::KvCache, "decode.sources", &[batch, LENGTH])?;
        let mut model = MechanismTransformer::new(&self.model, self.width, batch, false)?;
        let output = model.forward(plan, inputs, Some(Cache { sources, limit: LENGTH }))?;
        let state = crate::kernels::state(plan)?;
        let inputs = vec![inputs.latents, inputs.types, inputs.points, sources];
        Ok(Some(Io { state, inputs, records: None, output, rows: output, batch }))
    }

    fn evaluation_batch(&self) -> usize {
        self.config.train.batch
    }

    fn steps_per_epoch(&self) -> u64 {
        self.sets.steps()
    }

    fn buffers(&self) -> &[Buffer] {
        &self.buffers
    }

    fn take_buffers(&mut self, from: &Path) -> Result<()> {
        let found = load_buffers(from, &mut self.buffers)?;
        self.taken = found.iter().any(|n| n == MEAN) && found.iter().any(|n| n == DEVIATION);
        let plain = self.buffers[0].values == [0.0; 2] && self.buffers[1].values == [1.0; 2];
        if self.taken && plain == self.source.normalize {
            return Err(Error::Config(format!(
                "{} was trained on coordinates that were {}normalised: set data.normalize={}",
                from.display(),
                if plain { "not " } else { "" },
                !plain
            )));
        }
        Ok(())
    }

    fn load(&mut self) -> Result<Vec<String>> {
        if self.data.is_some() {
            return Ok(vec![]);
        }
        let file = self.source.file.clone();
        if !file.exists() {
            return Err(Error::MissingInput(format!(
                "no data file {}. Make one with `engine data linkages` and `engine encode` (README, Mechanisms), or name yours: data.file in \
                 the run file, --data elsewhere",
                file.display()
            )));
        }
        let (data, mut notes) = load(&file, self.model.types, self.truth, self.source.skip_non_finite)?;
        self.take(data)?;
        let ((mx, dx), (my, dy)) = (self.scale(0), self.scale(1));
        let how = if self.source.normalize { "" } else { ", not normalised" };
        let text = format!(
            "data        {} training and {} validation mechanisms, latents of {}; joints {mx:.2} ± {dx:.2}, {my:.2} ± {dy:.2} mm{how}",
            self.sets.train.len(),
            self.sets.validation.len(),
            self.width
        );
        notes.insert(0, text);
        Ok(notes)
    }

    fn fill(&self, program: &Program) -> Result<()> {
        let constants = self.model.constants(LENGTH);
        let buffers = self.buffers.iter().map(|b| (b.name.as_str(), &b.values));
        for (name, values) in constants.iter().map(|(name, values)| (*name, values)).chain(buffers) {
            if let Some(tensor) = program.plan.find(name) {
                program.upload(tensor, 0, values)?;
            }
        }
        Ok(())
    }

    fn batches(&mut self, step: u64) -> Result<Vec<MicroBatch>> {
        let micro = self.sets.numbers(step);
        micro.into_iter().map(|numbers| self.micro_batch(&numbers, self.config.train.batch)).collect()
    }

    fn validate(&self, session: &Session, _number: u64) -> Result<Metrics> {
        self.evaluate(session, &self.sets.validation)
    }

    fn baseline(&self) -> (&'static str, Metrics) {
        let distance = self.mean_distances().map_or(f64::NAN, |d| d[0]);
        ("mean joint", Metrics::new([("distance", distance)]))
    }

    fn judge(&self, session: &Session, _step: u64) -> Result<Judgement> {
        let mut mine = self.evaluate(session, &self.sets.validation)?;
        mine.0.extend(self.free_running(session, &self.sets.validation)?);
        let [mean, by_place] = self.mean_distances()?;
        let distance = mine.get("distance").unwrap_or(f64::NAN);
        let free = mine.get("free_distance").unwrap_or(f64::NAN);
        let row = |d: f64| Metrics::new([("distance", d), ("free_distance", d)]);
        let model = vec![("this model".to_string(), mine)];
        let means = vec![("mean joint".to_string(), row(mean)), ("mean by type and place".to_string(), row(by_place))];
        let notes = vec![format!(
            "error: mean distance over valid joints, each predicted from the true ones before it; free: from its own. The error is {:.2} of the \
             mean joint's, free-running {:.2}.",
            distance / mean,
            free / mean
        )];
        Ok(Judgement::beside(model, means, &self.shown(), notes))
    }
}
