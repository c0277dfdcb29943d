//! What a run learns: its plans, its batches, and how it is judged. The loop around it is the same for every task.

use std::fmt::Debug;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::images::ImageTask;
use super::integers::IntegerTask;
use super::mechanisms::MechanismTask;
use super::rules::improves;
use super::session::Session;
use super::vectors::VectorTask;
use crate::config::{Config, DataConfig, SplitKind, TrainConfig};
use crate::datasets::vectors::VectorData;
use crate::datasets::{epoch_order, split, training_samples};
use crate::error::{Error, Result};
use crate::kernels::metrics::Accumulate;
use crate::kernels::state;
use crate::optim::Plateau;
use crate::plan::{Plan, Program, Section, Tensor};

/// Named results, in the order in which they are shown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics(pub Vec<(String, f64)>);

impl Metrics {
    /// From names and values.
    pub fn new(values: impl IntoIterator<Item = (&'static str, f64)>) -> Self {
        Metrics(values.into_iter().map(|(n, v)| (n.to_string(), v)).collect())
    }

    /// Value of that name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| *v)
    }
}

impl Serialize for Metrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// How a metric is shown.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Metric.
    pub name: &'static str,
    /// Heading.
    pub title: &'static str,
    /// Shown in percent with one digit, else with so many digits.
    pub digits: Option<usize>,
}

impl Column {
    /// The value as shown.
    pub fn show(&self, value: f64) -> String {
        match self.digits {
            None => format!("{:.1} %", 100.0 * value),
            Some(digits) => format!("{value:.digits$}"),
        }
    }
}

/// What the host touches of a plan.
#[derive(Debug, Clone)]
pub struct Io {
    /// Step state.
    pub state: Tensor,
    /// Inputs, in the order of `MicroBatch::inputs`.
    pub inputs: Vec<Tensor>,
    /// Ring of metric records, of a training plan.
    pub records: Option<Tensor>,
    /// What the model gives.
    pub output: Tensor,
    /// (batch rows, columns) results of the loss.
    pub rows: Tensor,
    /// Samples.
    pub batch: usize,
}

/// Inputs of one micro-step.
#[derive(Debug, Clone)]
pub struct MicroBatch {
    /// 32-bit words of each input.
    pub inputs: Vec<Vec<u32>>,
    /// Rows of results that count.
    pub rows: usize,
    /// Number that means are taken over: these rows, or fewer where some of them are masked.
    pub count: usize,
    /// Whether the batch takes part in the cycle loss.
    pub cycle: bool,
}

/// Numbers that are kept with the weights and are not trained, as a PyTorch module's buffers.
#[derive(Debug, Clone, PartialEq)]
pub struct Buffer {
    /// `state_dict` name.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Values.
    pub values: Vec<f32>,
}

/// Length and CRC-32C of a file: enough to notice that it is another one.
///
/// # Errors
/// `MissingInput` or `Io`.
pub(super) fn fingerprint(path: &Path) -> Result<String> {
    let failed = |e: std::io::Error| Error::read(path, &e);
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let (mut buffer, mut sum, mut length) = (vec![0; 1 << 20], 0, 0u64);
    loop {
        let n = file.read(&mut buffer).map_err(failed)?;
        if n == 0 {
            return Ok(format!("{length} bytes, {sum:08x}"));
        }
        sum = crc32c::crc32c_append(sum, &buffer[..n]);
        length += n as u64;
    }
}

/// Which samples a step takes: each once an epoch, in an order drawn from seed and epoch.
#[derive(Debug, Clone)]
pub(super) struct Epochs {
    train: TrainConfig,
    order: Option<(u64, Vec<u32>)>,
}

impl Epochs {
    pub(super) fn new(train: &TrainConfig) -> Self {
        Epochs { train: train.clone(), order: None }
    }

    fn micro_steps(&self, samples: usize) -> u64 {
        let (n, batch) = (samples as u64, self.train.batch as u64);
        if self.train.drop_last { (n / batch).max(1) } else { n.div_ceil(batch).max(1) }
    }

    /// Steps of an epoch over so many samples.
    pub(super) fn steps(&self, samples: usize) -> u64 {
        self.micro_steps(samples).div_ceil(self.train.accumulate as u64)
    }

    /// Sample numbers of each micro-step of a step.
    pub(super) fn numbers(&mut self, samples: usize, step: u64) -> Vec<Vec<u32>> {
        let per_epoch = self.steps(samples);
        let (epoch, within) = (step / per_epoch, step % per_epoch);
        if self.order.as_ref().is_none_or(|(e, _)| *e != epoch) {
            let order = if self.train.shuffle { epoch_order(self.train.seed, epoch, samples) } else { (0..samples as u32).collect() };
            self.order = Some((epoch, order));
        }
        let order = self.order.as_ref().map_or(&[][..], |(_, o)| o);
        let (batch, accumulate) = (self.train.batch, self.train.accumulate as u64);
        let first = within * accumulate;
        let micro = |m: u64| order[m as usize * batch..((m as usize + 1) * batch).min(samples)].to_vec();
        (first..(first + accumulate).min(self.micro_steps(samples))).map(micro).collect()
    }
}

/// Samples of a file that train and that validate.
#[derive(Debug, Clone)]
pub(super) struct Sets {
    pub(super) train: Vec<usize>,
    pub(super) validation: Vec<usize>,
    /// No training: every sample is validated on.
    pub(super) whole: bool,
    /// Training samples as the headers tell; 0 while there is no file.
    expected: usize,
    file: PathBuf,
    share: f64,
    seed: Option<u64>,
    batch: usize,
    epochs: Epochs,
}

impl Sets {
    /// Of a file whose last `share` validates, after shuffling with a seed.
    pub(super) fn new(file: &Path, share: f64, split: SplitKind, seed: u64, train: &TrainConfig) -> Self {
        let seed = (split == SplitKind::Random).then_some(seed);
        let (batch, epochs) = (train.batch, Epochs::new(train));
        Sets { train: vec![], validation: vec![], whole: false, expected: 0, file: file.into(), share, seed, batch, epochs }
    }

    /// The file is said to have so many samples.
    pub(super) fn expect(&mut self, samples: usize) {
        self.expected = training_samples(samples, self.share);
    }

    /// Splits so many samples.
    ///
    /// # Errors
    /// `Data` when a batch cannot be filled or nothing validates.
    pub(super) fn take(&mut self, samples: usize) -> Result<()> {
        (self.train, self.validation) = split(samples, self.share, self.seed);
        if self.whole {
            self.validation = (0..samples).collect();
            self.train.clone_from(&self.validation);
        }
        let (n, batch, file) = (self.train.len(), self.batch, self.file.display());
        self.expected = n;
        if n < batch && !self.whole {
            return Err(Error::Data(format!("{file}: {n} training samples do not fill one batch of {batch}. Lower train.batch")));
        }
        if self.validation.is_empty() {
            return Err(Error::Data(format!("{file}: the validation set is empty. Change data.validation_share")));
        }
        Ok(())
    }

    /// Steps of an epoch.
    pub(super) fn steps(&self) -> u64 {
        self.epochs.steps(self.expected)
    }

    /// Samples of each micro-step of a step.
    pub(super) fn numbers(&mut self, step: u64) -> Vec<Vec<usize>> {
        let micro = self.epochs.numbers(self.train.len(), step);
        micro.into_iter().map(|numbers| numbers.into_iter().map(|n| self.train[n as usize]).collect()).collect()
    }
}

/// Metrics by name of the set.
pub type MetricRows = Vec<(String, Metrics)>;

/// What is said of the kept weights.
#[derive(Debug, Clone, Default)]
pub struct Judgement {
    /// Metrics by name of the set.
    pub rows: MetricRows,
    /// Sentences.
    pub notes: Vec<String>,
}

impl Judgement {
    /// Metrics of the model beside those of what needs no training. The first sentence says in which of the columns the model is no better.
    pub fn beside(model: MetricRows, baselines: MetricRows, columns: &[Column], mut notes: Vec<String>) -> Self {
        let mut worse = vec![];
        for (set, mine) in &model {
            let lost = columns.iter().filter_map(|c| Some((c, mine.get(c.name)?))).flat_map(|(c, value)| {
                let others = baselines.iter().filter_map(move |(name, metrics)| Some((name, metrics.get(c.name)?)));
                let lost = others.filter(move |(_, theirs)| !improves(c.name, Some(*theirs), value, 0.0));
                lost.map(move |(name, theirs)| format!("{} {} ({name} {})", c.title, c.show(value), c.show(theirs)))
            });
            let lost = lost.collect::<Vec<_>>().join(", ");
            if !lost.is_empty() {
                worse.push(format!("\n  {set}: {lost}"));
            }
        }
        let names = baselines.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        let verdict = match worse.is_empty() {
            true => format!("Better than what needs no training wherever they compare: {names}."),
            false => format!("WARNING: no better than what needs no training in{}", worse.concat()),
        };
        notes.insert(0, verdict);
        Judgement { rows: [model, baselines].concat(), notes }
    }
}

/// A kind of run.
pub trait Task: Debug {
    /// Names of the per-row results, the loss first.
    fn columns(&self) -> Vec<&'static str>;
    /// Metrics that are shown, the most telling first.
    fn shown(&self) -> Vec<Column>;
    /// Of which metric the second chart shows curves.
    fn chart(&self) -> (&'static str, Vec<&'static str>);
    /// Terms of the loss with their weights, where it is a sum.
    fn terms(&self) -> Vec<(&'static str, f64)> {
        vec![]
    }
    /// Records forward and loss of `batch` samples, and with `records` the sums of the results and the backward pass.
    ///
    /// # Errors
    /// `Config` when sizes overflow.
    fn record(&self, plan: &mut Plan, batch: usize, records: Option<Tensor>) -> Result<Io>;
    /// Samples of one evaluation batch.
    fn evaluation_batch(&self) -> usize;
    /// Steps of an epoch.
    fn steps_per_epoch(&self) -> u64;
    /// Names of the metrics of a validation.
    fn validated(&self) -> Vec<&'static str> {
        self.columns()
    }
    /// Records one step of decoding over a cache, where the task decodes.
    ///
    /// # Errors
    /// As `record`.
    fn record_decoding(&self, _plan: &mut Plan) -> Result<Option<Io>> {
        Ok(None)
    }
    /// What is kept with the weights and is not trained.
    fn buffers(&self) -> &[Buffer] {
        &[]
    }
    /// Takes the buffers of a file of weights; those of other names are left alone.
    ///
    /// # Errors
    /// `Data` when one does not fit, `Config` when they contradict the configuration.
    fn take_buffers(&mut self, _from: &Path) -> Result<()> {
        Ok(())
    }
    /// The configuration with the sizes of the data file, so that it describes the model without the file.
    fn sized(&self, config: &Config) -> Config {
        config.clone()
    }
    /// Decides what lies on the device, for a budget in bytes.
    ///
    /// # Errors
    /// As `record`.
    fn settle(&mut self, _target: crate::gpu::Target, _budget: u64) -> Result<()> {
        Ok(())
    }
    /// Reads what the run needs from disk.
    ///
    /// # Errors
    /// `MissingInput` or `Data`.
    fn load(&mut self) -> Result<Vec<String>> {
        Ok(vec![])
    }
    /// Fills constant tensors of a program, once.
    ///
    /// # Errors
    /// `Internal` before `load`.
    fn fill(&self, _program: &Program) -> Result<()> {
        Ok(())
    }
    /// Micro-steps of a step.
    ///
    /// # Errors
    /// `Internal` before `load`.
    fn batches(&mut self, step: u64) -> Result<Vec<MicroBatch>>;
    /// Metrics on validation samples; `number` counts validations.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    fn validate(&self, session: &Session, number: u64) -> Result<Metrics>;
    /// What is compared with each validation.
    fn baseline(&self) -> (&'static str, Metrics);
    /// Metrics of the kept weights by set, with the baselines.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    fn judge(&self, session: &Session, step: u64) -> Result<Judgement>;
}

/// The task of a configuration; reads no more than headers.
///
/// # Errors
/// `MissingInput` or `Data` when the data file cannot be used.
pub fn task(config: &Config) -> Result<Box<dyn Task>> {
    match &config.data {
        DataConfig::IntegerSequences(_) => Ok(Box::new(IntegerTask::new(config)?)),
        DataConfig::Vectors(_) => Ok(Box::new(VectorTask::new(config)?)),
        DataConfig::Mechanisms(_) => Ok(Box::new(MechanismTask::new(config)?)),
        DataConfig::Images(_) => Ok(Box::new(ImageTask::new(config)?)),
    }
}

/// The task of a configuration with random samples in place of its file, where it has one: for checks and timings.
///
/// # Errors
/// As `task`, and `Data` when a batch cannot be filled.
pub fn random_task(config: &Config, samples: usize) -> Result<Box<dyn Task>> {
    match &config.data {
        DataConfig::IntegerSequences(_) => task(config),
        DataConfig::Vectors(d) => Ok(Box::new(VectorTask::with_data(config, VectorData::random(samples, d.context, d.dim, 1))?)),
        DataConfig::Mechanisms(_) => Ok(Box::new(MechanismTask::random(config, samples)?)),
        DataConfig::Images(_) => Ok(Box::new(ImageTask::random(config, samples)?)),
    }
}

/// Declares the step state, and appends sums of the results `y` and what turns the plan to its backward pass.
pub(super) fn sum_results(plan: &mut Plan, y: Tensor, records: Tensor) -> Result<()> {
    let [rows, cols] = plan.shape(y)[..] else { return Ok(()) };
    Accumulate { x: y, records, rows, cols }.record(plan, "metrics")?;
    plan.begin(Section::Backward);
    Ok(())
}

/// The training plan of a run.
///
/// # Errors
/// `Config` when sizes overflow.
pub fn record_training(config: &Config, task: &dyn Task, target: crate::gpu::Target) -> Result<(Plan, Io)> {
    let mut plan = Plan::new("train", target);
    state(&mut plan)?;
    let shape = [super::session::RING as usize, crate::kernels::metrics::RECORD];
    let records = plan.persistent(crate::gpu::Role::Workspace, "records", &shape)?;
    let io = task.record(&mut plan, config.train.batch, Some(records))?;
    config.optimizer.record(&mut plan, records)?;
    Ok((plan, io))
}

/// The evaluation plan of a run.
///
/// # Errors
/// `Config` when sizes overflow.
pub fn record_evaluation(task: &dyn Task, target: crate::gpu::Target) -> Result<(Plan, Io)> {
    let mut plan = Plan::new("evaluate", target);
    state(&mut plan)?;
    let io = task.record(&mut plan, task.evaluation_batch(), None)?;
    plan.keep(io.output);
    plan.keep(io.rows);
    Ok((plan, io))
}

/// The plan of a step of decoding, where the task decodes.
///
/// # Errors
/// `Config` when sizes overflow.
pub fn record_decoding(task: &dyn Task, target: crate::gpu::Target) -> Result<Option<(Plan, Io)>> {
    let mut plan = Plan::new("decode", target);
    state(&mut plan)?;
    let Some(io) = task.record_decoding(&mut plan)? else { return Ok(None) };
    plan.keep(io.output);
    Ok(Some((plan, io)))
}

/// Learning rate of step `step` (from 0).
pub(super) fn learning_rate(config: &Config, plateau: &Plateau, step: u64, steps: u64) -> f64 {
    config.schedule.learning_rate(config.optimizer.learning_rate, step, steps, config.train.epochs) * plateau.factor
}
