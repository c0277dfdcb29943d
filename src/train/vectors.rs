//! Next vectors: data from a file, on the device where it fits, baselines beside every result.

use std::path::Path;

use super::session::{Session, memory_of};
use super::task::{Column, Epochs, Io, Judgement, Metrics, MicroBatch, Task, sum_results};
use crate::config::{Config, DataConfig, SplitKind, VectorsConfig};
use crate::datasets::npz::Values;
use crate::datasets::training_samples;
use crate::datasets::vectors::{Baselines, Split, VectorData, VectorSet, header, load};
use crate::error::{Error, Result};
use crate::gpu::{Role, Target};
use crate::kernels::gather;
use crate::losses::{ANCHORS, CANDIDATES, LossConfig, TARGET_STATS, TargetFacts, VectorLossConfig};
use crate::models::{VectorModel, VectorShape};
use crate::plan::{Plan, Program, Tensor};
use crate::random::Random;

/// Streams of random numbers: anchors of the mmd term, and batches of the cycle term.
const DRAW_ANCHORS: u32 = 30;
const DRAW_CYCLE: u32 = 31;

/// Words written to the device at once.
const CHUNK: usize = 4 << 20;

/// Name of the training contexts on the device.
const CONTEXTS: &str = "data.contexts";
/// Name of the mean squared error between unit prediction and unit target.
const UNIT_MSE: &str = "unit_mse";

/// Name of the training targets on the device.
const TARGETS: &str = "data.targets";

/// Length of the mean of unit predictions from which on they are all but the same.
const COLLAPSED: f64 = 0.99;

/// The task of a next-vector model.
#[derive(Debug)]
pub struct VectorTask {
    config: Config,
    source: VectorsConfig,
    loss: VectorLossConfig,
    /// Training samples; `None` while there is no file.
    samples: Option<usize>,
    dim: usize,
    context: usize,
    half: bool,
    resident: bool,
    data: Option<VectorData>,
    facts: TargetFacts,
    baselines: Option<(Baselines, Option<Baselines>)>,
    epochs: Epochs,
}

impl VectorTask {
    /// The task of a configuration, with the sizes of its file where there is one.
    ///
    /// # Errors
    /// `Config` when it is of another kind, `Data` when the file cannot be used.
    pub fn new(config: &Config) -> Result<Self> {
        let (DataConfig::Vectors(source), LossConfig::Vectors(loss)) = (&config.data, &config.loss) else {
            return Err(Error::Config("this needs a run of data.kind = \"vectors\"".into()));
        };
        let mut task = VectorTask {
            config: config.clone(),
            source: source.clone(),
            loss: loss.weighted(),
            samples: None,
            dim: source.dim,
            context: source.context,
            half: false,
            resident: false,
            data: None,
            facts: TargetFacts::default(),
            baselines: None,
            epochs: Epochs::new(&config.train),
        };
        if source.file.exists() {
            let h = header(&source.file)?;
            let given = h.has_validation && matches!(source.split, SplitKind::Auto | SplitKind::Given);
            task.samples = Some(if given { h.samples } else { training_samples(h.samples, source.validation_share) });
            (task.dim, task.context, task.half) = (h.dim, h.context, h.half);
            task.facts.count = task.samples.unwrap_or(1).max(1);
        }
        Ok(task)
    }

    /// The task with these samples instead of the file's.
    ///
    /// # Errors
    /// As `new`, and `Data` when a batch cannot be filled.
    pub fn with_data(config: &Config, data: VectorData) -> Result<Self> {
        let mut without_file = config.clone();
        if let DataConfig::Vectors(source) = &mut without_file.data {
            source.file = Path::new("").into();
        }
        let mut task = VectorTask::new(&without_file)?;
        task.take(data)?;
        Ok(task)
    }

    fn take(&mut self, data: VectorData) -> Result<()> {
        let n = data.train.samples;
        (self.dim, self.context) = (data.train.dim, data.train.context);
        let batch = self.config.train.batch;
        if n < batch {
            return Err(Error::Data(format!(
                "{}: {n} training samples do not fill one batch of {batch}. Lower train.batch",
                self.source.file.display()
            )));
        }
        let tail = if self.config.train.drop_last { 0 } else { n % batch };
        let need_two = self.loss.need_two().join(", ");
        if !need_two.is_empty() && (batch == 1 || tail == 1) {
            return Err(Error::Config(format!(
                "loss terms with a standard deviation over the batch ({need_two}) need two samples in each: train.batch = {batch} leaves one \
                 alone. Choose another train.batch"
            )));
        }
        if !need_two.is_empty() && data.validation.samples == 1 {
            return Err(Error::Data(format!(
                "{}: one validation sample has no standard deviation, which loss terms ({need_two}) need. Change data.validation_share",
                self.source.file.display()
            )));
        }
        self.samples = Some(n);
        self.half = matches!((&data.train.contexts, &data.train.targets), (Values::F16(_), Values::F16(_)));
        self.facts.count = n;
        if let Some(mmd) = &self.loss.mmd {
            if n < mmd.anchors {
                return Err(Error::Data(format!("{n} training targets for loss.mmd.anchors = {}: lower it", mmd.anchors)));
            }
            let anchors = anchors(&data, mmd.anchors, self.config.train.seed);
            let product = |i: usize, j: usize| -> f64 { anchors[i].iter().zip(&anchors[j]).map(|(a, b)| a * b).sum() };
            let m = mmd.anchors;
            let mut distances: Vec<f64> =
                (0..m).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| (2.0 - 2.0 * product(i, j)).max(0.0).sqrt()).collect();
            distances.sort_by(f64::total_cmp);
            // torch.median takes the lower of two middle values.
            self.facts.sigma = distances[(distances.len() - 1) / 2].max(1e-6);
            let kernel = |d: f64| (-d * d / (2.0 * self.facts.sigma.powi(2))).exp();
            self.facts.kernel = (m as f64 + 2.0 * distances.iter().map(|d| kernel(*d)).sum::<f64>()) / (m * m) as f64;
        }
        let mean = &data.target_stats()[0];
        self.baselines = Some((Baselines::of(mean, &data.validation), data.ood.as_ref().map(|ood| Baselines::of(mean, ood))));
        self.data = Some(data);
        Ok(())
    }

    /// The samples, once they are loaded.
    ///
    /// # Errors
    /// `Internal` before `load`.
    pub fn data(&self) -> Result<&VectorData> {
        self.data.as_ref().ok_or_else(|| Error::Internal("the data set is not loaded".into()))
    }

    /// Whether the training samples lie on the device.
    pub fn resident(&self) -> bool {
        self.resident
    }

    fn shape(&self, batch: usize) -> VectorShape {
        VectorShape { dim: self.dim, context: self.context, batch }
    }

    fn model(&self, batch: usize, training: bool) -> Result<Box<dyn VectorModel>> {
        self.config.model.vector_model(self.shape(batch), training)
    }

    /// Samples `numbers` of a set as inputs of a batch of `batch`, the rest zeros.
    ///
    /// # Errors
    /// As `ModelConfig::vector_model`.
    pub fn micro_batch(&self, set: &VectorSet, numbers: &[u32], batch: usize) -> Result<MicroBatch> {
        let time_major = self.model(1, false)?.time_major();
        let (context, dim) = (self.context, self.dim);
        let mut x = vec![0u32; batch * context * dim];
        let mut t = vec![0u32; batch * dim];
        for (b, i) in numbers.iter().map(|i| *i as usize).enumerate() {
            for c in 0..context {
                let row = if time_major { c * batch + b } else { b * context + c };
                for d in 0..dim {
                    x[row * dim + d] = set.contexts.get((i * context + c) * dim + d).to_bits();
                }
            }
            for d in 0..dim {
                t[b * dim + d] = set.targets.get(i * dim + d).to_bits();
            }
        }
        Ok(MicroBatch { inputs: vec![x, t], rows: numbers.len(), count: numbers.len(), cycle: false })
    }

    /// Batches of a whole set for a session that evaluates.
    fn chunks<'a>(&'a self, session: &Session, set: &'a VectorSet) -> impl Iterator<Item = Result<MicroBatch>> + 'a {
        let batch = session.evaluate.1.batch;
        (0..set.samples).step_by(batch).map(move |first| {
            let numbers: Vec<u32> = (first..(first + batch).min(set.samples)).map(|i| i as u32).collect();
            self.micro_batch(set, &numbers, batch)
        })
    }

    /// Means over a set; the loss is the weighted sum of its terms' means. A sample that is alone in its batch has no standard deviation: it
    /// is left out of the means of the terms that need one, which are NaN where no sample is left.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn evaluate(&self, session: &Session, set: &VectorSet) -> Result<Metrics> {
        let (columns, need_two) = (self.columns(), self.loss.need_two());
        let mut sums = vec![(0.0, 0.0); columns.len()];
        for batch in self.chunks(session, set) {
            let rows = session.evaluate_rows(&batch?)?;
            for row in &rows {
                for ((name, (sum, count)), value) in columns.iter().zip(&mut sums).zip(row) {
                    if rows.len() > 1 || !need_two.contains(name) {
                        (*sum, *count) = (*sum + f64::from(*value), *count + 1.0);
                    }
                }
            }
        }
        let mut means = Metrics::new(columns.into_iter().zip(sums.into_iter().map(|(sum, count)| sum / count)));
        let loss = self.loss.terms().iter().map(|(name, weight)| weight * means.get(name).unwrap_or(f64::NAN)).sum();
        means.0[0].1 = loss;
        let cosine = means.get("cosine").unwrap_or(f64::NAN);
        means.0.push((UNIT_MSE.into(), (2.0 - 2.0 * cosine) / self.dim as f64));
        Ok(means)
    }

    /// What to know of the samples of a set that are alone in their batch.
    fn alone(&self, name: &str, set: &VectorSet) -> Option<String> {
        let (terms, batch) = (self.loss.need_two(), self.evaluation_batch());
        (!terms.is_empty() && set.samples % batch == 1).then(|| {
            format!(
                "the last of {} {name} samples is alone in its batch of {batch}: it has no standard deviation and is left out of {}",
                set.samples,
                terms.join(", ")
            )
        })
    }

    /// Unit predictions for a set (samples, dim), and their cosines to its targets.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn predict(&self, session: &Session, set: &VectorSet) -> Result<(Vec<f32>, Vec<f32>)> {
        let (mut predictions, mut cosines) = (Vec::with_capacity(set.samples * self.dim), Vec::with_capacity(set.samples));
        for batch in self.chunks(session, set) {
            let batch = batch?;
            let raw = session.outputs(&batch)?;
            for (row, target) in raw.chunks(self.dim).zip(batch.inputs[1].chunks(self.dim)).take(batch.rows) {
                let length = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt().max(1e-12);
                let target: Vec<f64> = target.iter().map(|w| f64::from(f32::from_bits(*w))).collect();
                let norm = length(&mut row.iter().map(|v| f64::from(*v)));
                let product: f64 = row.iter().zip(&target).map(|(p, t)| f64::from(*p) * t).sum();
                cosines.push((product / norm / length(&mut target.iter().copied())) as f32);
                predictions.extend(row.iter().map(|v| (f64::from(*v) / norm) as f32));
            }
        }
        Ok((predictions, cosines))
    }
}

/// Unit training targets drawn without replacement.
fn anchors(data: &VectorData, count: usize, seed: u64) -> Vec<Vec<f64>> {
    let mut numbers: Vec<usize> = (0..data.train.samples).collect();
    let mut random = Random::new(seed, DRAW_ANCHORS, 0);
    for i in 0..count {
        numbers.swap(i, random.between(i as i64, data.train.samples as i64 - 1) as usize);
    }
    numbers[..count].iter().map(|i| data.unit_target(*i)).collect()
}

/// Words of a data set on the device: floats, or halves in pairs.
fn words(values: &Values, half: bool, first: usize, count: usize) -> Vec<u32> {
    let len = values.len();
    match values {
        Values::F16(v) if half => (first..first + count)
            .map(|w| {
                let bits = |i: usize| if i < len { u32::from(v[i].to_bits()) } else { 0 };
                bits(2 * w) | bits(2 * w + 1) << 16
            })
            .collect(),
        _ => (first..first + count).map(|i| values.get(i).to_bits()).collect(),
    }
}

impl Task for VectorTask {
    fn columns(&self) -> Vec<&'static str> {
        let mut names = vec!["loss", "cosine"];
        names.extend(self.loss.terms().iter().map(|(name, _)| *name));
        names
    }

    fn validated(&self) -> Vec<&'static str> {
        [self.columns(), vec![UNIT_MSE]].concat()
    }

    fn shown(&self) -> Vec<Column> {
        let column = |name, title, digits| Column { name, title, digits };
        let mut columns = vec![
            column("cosine", "cosine", Some(4)),
            column("ood_cosine", "OOD cosine", Some(4)),
            column(UNIT_MSE, "unit MSE", Some(6)),
            column("loss", "loss", Some(6)),
        ];
        if self.loss.terms().len() > 1 {
            columns.extend(self.loss.terms().iter().map(|(name, _)| column(name, name, Some(5))));
        }
        columns
    }

    fn chart(&self) -> (&'static str, Vec<&'static str>) {
        ("cosine", vec!["cosine"])
    }

    fn terms(&self) -> Vec<(&'static str, f64)> {
        self.loss.terms()
    }

    fn sized(&self, config: &Config) -> Config {
        let mut config = config.clone();
        if let DataConfig::Vectors(d) = &mut config.data {
            (d.dim, d.context) = (self.dim, self.context);
        }
        config
    }

    fn record(&self, plan: &mut Plan, batch: usize, records: Option<Tensor>) -> Result<Io> {
        let (dim, context, training) = (self.dim, self.context, records.is_some());
        let mut model = self.model(batch, training)?;
        let (x, t, inputs) = match self.samples.filter(|_| training && self.resident) {
            Some(samples) => {
                let index = plan.persistent(Role::Dataset, "train.index", &[batch])?;
                let words = |n: usize| if self.half { n.div_ceil(2) } else { n };
                let contexts = plan.persistent(Role::Dataset, CONTEXTS, &[words(samples * context * dim)])?;
                let targets = plan.persistent(Role::Dataset, TARGETS, &[words(samples * dim)])?;
                let (x, t) = (plan.activation("train.x", &[batch * context, dim])?, plan.activation("train.t", &[batch, dim])?);
                for (source, y, length, label) in [(contexts, x, context, "contexts"), (targets, t, 1, "targets")] {
                    let (half, time_major) = (self.half, model.time_major());
                    gather::Forward { x: source, index, y, samples, length, cols: dim, half, time_major }.record(plan, label)?;
                }
                (x, t, vec![index])
            }
            None => {
                let (x, t) = (format!("{}.x", plan.name), format!("{}.t", plan.name));
                let x = plan.persistent(Role::Dataset, &x, &[batch * context, dim])?;
                let t = plan.persistent(Role::Dataset, &t, &[batch, dim])?;
                (x, t, vec![x, t])
            }
        };
        let output = model.forward(plan, x)?;
        let (y, dx) = self.loss.record(plan, output, t, &self.facts, training)?;
        if let Some(records) = records {
            sum_results(plan, y, records)?;
            model.backward(plan, dx.ok_or_else(|| Error::Internal("no gradient of the loss".into()))?)?;
        }
        let state = crate::kernels::state(plan)?;
        Ok(Io { state, inputs, records, output, rows: y, batch })
    }

    fn evaluation_batch(&self) -> usize {
        // Terms over a batch depend on its size: validation takes that of training.
        self.config.train.batch
    }

    fn steps_per_epoch(&self) -> u64 {
        self.epochs.steps(self.samples.unwrap_or(0))
    }

    fn settle(&mut self, target: Target, budget: u64) -> Result<()> {
        self.resident = self.samples.is_some();
        if self.resident {
            self.resident = memory_of(&self.config, self, target)
                .is_ok_and(|m| m.report.total_bytes <= budget && m.buffers.iter().all(|b| b.bytes <= target.max_binding));
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
                "no data file {}. Name yours: --set data.file=FILE.npz to train, --data FILE.npz elsewhere; data/README.md says what it \
                 holds, and data/samples/ has a small one to try",
                file.display()
            )));
        }
        let (share, seed) = (self.source.validation_share, self.source.seed);
        let split = match self.source.split {
            SplitKind::Given => Split::Given,
            SplitKind::Auto if header(&file)?.has_validation => Split::Given,
            SplitKind::Auto | SplitKind::Sequential => Split::Sequential(share),
            SplitKind::Random => Split::Random(share, seed),
        };
        let (data, mut notes) = load(&file, self.source.ood_file.as_deref(), split, self.source.skip_non_finite)?;
        let ood = data.ood.as_ref().map_or(String::new(), |o| format!(", {} out of distribution", o.samples));
        notes.insert(
            0,
            format!(
                "data        {} training and {} validation samples{ood}; contexts of {} vectors of {}",
                data.train.samples, data.validation.samples, data.train.context, data.train.dim
            ),
        );
        notes.extend(self.alone("validation", &data.validation));
        notes.extend(data.ood.as_ref().and_then(|ood| self.alone("out-of-distribution", ood)));
        self.take(data)?;
        Ok(notes)
    }

    fn fill(&self, program: &Program) -> Result<()> {
        let plan = &program.plan;
        let data = self.data()?;
        for (name, values) in [(CONTEXTS, &data.train.contexts), (TARGETS, &data.train.targets)] {
            let Some(tensor) = plan.find(name) else { continue };
            let len = plan.len(tensor);
            for first in (0..len).step_by(CHUNK) {
                program.upload(tensor, first, &words(values, self.half, first, CHUNK.min(len - first)))?;
            }
        }
        let floats = |v: Vec<f64>| -> Vec<f32> { v.into_iter().map(|x| x as f32).collect() };
        if let Some(tensor) = plan.find(TARGET_STATS) {
            program.upload(tensor, 0, &floats(data.target_stats().concat()))?;
        }
        if let (Some(tensor), Some(mmd)) = (plan.find(ANCHORS), &self.loss.mmd) {
            program.upload(tensor, 0, &floats(anchors(data, mmd.anchors, self.config.train.seed).concat()))?;
        }
        if let Some(tensor) = plan.find(CANDIDATES) {
            for i in 0..data.train.samples {
                program.write_at(tensor, i * self.dim, &floats(data.unit_target(i)));
            }
        }
        Ok(())
    }

    fn batches(&mut self, step: u64) -> Result<Vec<MicroBatch>> {
        let (samples, train) = (self.data()?.train.samples, &self.config.train);
        let cycle = self.loss.cycle.as_ref().is_some_and(|c| Random::new(train.seed, DRAW_CYCLE, step).uniform() < c.share);
        let batch = train.batch;
        self.epochs
            .numbers(samples, step)
            .into_iter()
            .map(|numbers| {
                let mut micro = if self.resident {
                    let mut index = numbers.clone();
                    index.resize(batch, 0);
                    MicroBatch { inputs: vec![index], rows: numbers.len(), count: numbers.len(), cycle: false }
                } else {
                    self.micro_batch(&self.data()?.train, &numbers, batch)?
                };
                micro.cycle = cycle;
                Ok(micro)
            })
            .collect()
    }

    fn validate(&self, session: &Session, _number: u64) -> Result<Metrics> {
        self.evaluate(session, &self.data()?.validation)
    }

    fn baseline(&self) -> (&'static str, Metrics) {
        let cosine = self.baselines.map_or(f64::NAN, |(b, _)| b.context_mean);
        ("context mean", Metrics::new([("cosine", cosine)]))
    }

    fn judge(&self, session: &Session, _step: u64) -> Result<Judgement> {
        let data = self.data()?;
        let mut mine = self.evaluate(session, &data.validation)?;
        if let Some(ood) = &data.ood {
            let cosine = self.evaluate(session, ood)?.get("cosine").unwrap_or(f64::NAN);
            mine.0.push(("ood_cosine".into(), cosine));
        }
        let (of_validation, of_ood) = self.baselines.ok_or_else(|| Error::Internal("no baselines".into()))?;
        let row = |pick: fn(&Baselines) -> f64| {
            let ood = of_ood.as_ref().map(|b| ("ood_cosine", pick(b)));
            Metrics::new([("cosine", pick(&of_validation))].into_iter().chain(ood))
        };
        let mut notes = vec![];
        let (predictions, _) = self.predict(session, &data.validation)?;
        let mean =
            |d: usize| predictions.iter().skip(d).step_by(self.dim).map(|v| f64::from(*v)).sum::<f64>() / data.validation.samples as f64;
        let length = (0..self.dim).map(|d| mean(d).powi(2)).sum::<f64>().sqrt();
        if length > COLLAPSED {
            notes.push(format!(
                "WARNING: its predictions are all but the same: the length of their mean is {length:.4}. The model has collapsed to a constant. \
                 Lower the learning rate, or try another loss or model"
            ));
        }
        let baselines = vec![
            ("mean vector".to_string(), row(|b| b.mean_vector)),
            ("last vector".to_string(), row(|b| b.last_vector)),
            ("context mean".to_string(), row(|b| b.context_mean)),
        ];
        Ok(Judgement::beside(vec![("this model".into(), mine)], baselines, &self.shown(), notes))
    }
}
