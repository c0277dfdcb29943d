//! Next-vector prediction: contexts of vectors from a file, on the device where they fit, baselines beside every result.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::f16;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::data::{Data, DataKind, Layout, Loading, Purpose, Source, packed};
use super::epochs::{Epochs, SplitKind, expect_batch, one};
use super::scorecard::{ArrayValues, Arrays, Card, ClosingScores, Scorecard, Test, Verdict};
use crate::batch::{Batch, Field, Fields, Inputs};
use crate::config::{Section, Settings, TrainConfig, in_range};
use crate::datasets::next_vectors::{
    Baselines, CONTEXTS, Candidates, Linear, Reading, Retrieval, ValidationSplit, VectorData, VectorSet, has_direction, header, load,
    self_similarity,
};
use crate::datasets::{share_of, shared, split_blocks, training_samples};
use crate::error::{Error, Result};
use crate::gpu::Role;
use crate::kernels::gather;
use crate::losses::{Columns, Loss, TargetVectors, Targets};
use crate::metrics::{Column, Metrics};
use crate::plan::{Fill, Plan};
use crate::ranks::Ranks;
use crate::session::Session;

/// Name of the metric: mean squared error between unit prediction and unit target.
const UNIT_MSE: &str = "unit_mse";

/// Share of the targets' spread below which predictions count as collapsed. Spread: 1 − squared length of the mean of the unit vectors.
const COLLAPSED: f64 = 0.02;

/// Contexts of vectors and the vectors that follow, from an .npz file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VectorsConfig {
    /// Path of the .npz file; a relative path is looked up in the current folder.
    pub file: PathBuf,
    /// Path of another .npz file, whose samples are out of distribution; the kept weights are tested on them, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ood_file: Option<PathBuf>,
    /// Path of a file to test on instead of the validation samples; `file` is then only read for baselines.
    #[serde(skip)]
    pub test_file: Option<PathBuf>,
    /// Choice of the validation samples.
    #[serde(default)]
    pub split: SplitKind,
    /// Share of the samples for validation, if the file has no validation samples of its own.
    #[serde(default = "tenth")]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub validation_share: f64,
    /// Seed of the random split.
    #[serde(default = "one")]
    pub seed: u64,
    /// Number of features of a vector, for estimates while there is no file; the file's own value takes precedence.
    #[serde(default = "dim")]
    #[schemars(range(min = 1, max = 1 << 16))]
    pub dim: usize,
    /// Number of vectors in a context, for estimates while there is no file; the file's own value takes precedence.
    #[serde(default = "context")]
    #[schemars(range(min = 1, max = 1 << 12))]
    pub context: usize,
    /// Leave out samples with NaN or infinity instead of failing on the file.
    #[serde(default)]
    pub skip_non_finite: bool,
}

fn tenth() -> f64 {
    0.1
}

fn dim() -> usize {
    768
}

fn context() -> usize {
    5
}

impl Section for VectorsConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        in_range(self, "data")
    }
}

impl DataKind for VectorsConfig {
    fn files(&self) -> Vec<(&'static str, &Path)> {
        let ood = self.ood_file.as_deref().map(|file| ("data.ood_file", file));
        let training = self.test_file.is_some().then_some(("data.file", self.file.as_path()));
        [("data.file", self.sized_by())].into_iter().chain(ood).chain(training).collect()
    }

    fn resize(&mut self) -> Result<()> {
        if self.sized_by().exists() {
            let h = header(self.sized_by())?;
            (self.dim, self.context) = (h.dim, h.context);
        }
        Ok(())
    }

    fn on_file(&mut self, file: &Path) -> Result<()> {
        (self.test_file, self.ood_file) = (Some(file.to_path_buf()), None);
        Ok(())
    }

    /// Takes the length of the contexts, which may differ from that of the training data.
    fn take_inputs(&mut self, shapes: &[(&str, Vec<usize>)]) -> Result<()> {
        for (_, shape) in shapes.iter().filter(|(name, _)| *name == "context") {
            let [context, dim] = shape[..] else {
                return Err(Error::Data(format!("a context is a row of vectors, (length, features); this one has shape {shape:?}")));
            };
            (self.context, self.dim) = (context, dim);
        }
        Ok(())
    }

    fn open(&self, settings: &Settings, purpose: Purpose) -> Result<Box<dyn Source>> {
        let mut source = NextVectors {
            config: self.clone(),
            train: settings.train.clone(),
            needs_batch: purpose == Purpose::Train,
            samples: None,
            half: false,
            there: false,
            data: None,
        };
        if purpose != Purpose::Predict && self.sized_by().exists() {
            let h = header(self.sized_by())?;
            let samples = match self.split_of(h.has_validation) {
                ValidationSplit::Given | ValidationSplit::Whole => h.samples,
                ValidationSplit::Blocks(share, seed) => split_blocks(h.samples, share, seed, h.context).0.len(),
                ValidationSplit::Sequential(share) | ValidationSplit::Random(share, _) => training_samples(h.samples, share),
            };
            source.samples = Some(if self.test_file.is_some() { samples } else { share_of(samples, settings.train.share) });
            (source.config.dim, source.config.context) = (h.dim, h.context);
            (source.half, source.there) = (h.half, true);
        }
        Ok(Box::new(source))
    }

    fn made_up(&self, settings: &Settings, samples: usize, _integers_below: Option<usize>) -> Result<Box<dyn Data>> {
        self.holding(settings, VectorData::random(samples, self.context, self.dim, 1))
    }
}

/// Configuration of the data and sizes by the header, before they are read.
#[derive(Debug, Clone)]
struct NextVectors {
    config: VectorsConfig,
    train: TrainConfig,
    /// True in training, which needs enough samples to fill a batch.
    needs_batch: bool,
    /// Number of training samples; none while there is no file.
    samples: Option<usize>,
    /// True if contexts and targets are f16.
    half: bool,
    /// True if the file exists.
    there: bool,
    /// Samples, once they are loaded.
    data: Option<Arc<VectorData>>,
}

impl VectorsConfig {
    /// File that the samples come from.
    fn sized_by(&self) -> &Path {
        self.test_file.as_deref().unwrap_or(&self.file)
    }

    /// Split of the file, which may have validation samples of its own.
    fn split_of(&self, has_validation: bool) -> ValidationSplit {
        let (share, seed) = (self.validation_share, self.seed);
        match self.split {
            _ if self.test_file.is_some() => ValidationSplit::Whole,
            SplitKind::Given => ValidationSplit::Given,
            SplitKind::Auto | SplitKind::AutoRandom if has_validation => ValidationSplit::Given,
            SplitKind::Auto | SplitKind::Sequential => ValidationSplit::Sequential(share),
            SplitKind::AutoRandom | SplitKind::Random => ValidationSplit::Random(share, seed),
            SplitKind::Blocks => ValidationSplit::Blocks(share, seed),
        }
    }

    /// The data with these samples in place of a file's.
    ///
    /// # Errors
    /// `Data` when they do not fill a batch.
    pub fn holding(&self, settings: &Settings, data: VectorData) -> Result<Box<dyn Data>> {
        let source = NextVectors {
            config: self.clone(),
            train: settings.train.clone(),
            needs_batch: true,
            samples: None,
            half: false,
            there: false,
            data: None,
        };
        Ok(Box::new(source.holding(data, Ranks::default())?))
    }
}

impl NextVectors {
    /// Takes the samples. Only the first of the processes computes baselines and leakage.
    fn holding(mut self, data: VectorData, ranks: Ranks) -> Result<LoadedVectors> {
        let (n, batch) = (data.train.samples, self.train.batch);
        if self.needs_batch {
            expect_batch(&self.config.file, n, batch, self.train.share)?;
        }
        // Of a file to test on, `train` may be of the run's own file.
        (self.config.dim, self.config.context) = (data.validation.dim, data.validation.context);
        self.samples = Some(n);
        self.half = data.train.half();
        let baselines = if ranks.leads() {
            let mean = &data.target_stats()[0];
            (Baselines::of(mean, &data.validation), data.ood.as_ref().map(|ood| Baselines::of(mean, ood)))
        } else {
            Default::default()
        };
        let epochs = Epochs::new(&self.train);
        let leakage = if self.config.test_file.is_none() && ranks.leads() {
            data.leakage().sentence(self.config.split == SplitKind::Blocks)
        } else {
            None
        };
        let data = Arc::new(data);
        self.data = Some(data.clone());
        Ok(LoadedVectors { source: self, data, baselines, leakage, epochs })
    }

    /// Declares the input tensors of a batch; the samples, once loaded, fill the constants on the device.
    fn tensors(&self, plan: &mut Plan, batch: usize, layout: Layout) -> Result<Inputs> {
        let (dim, context) = (self.config.dim, self.config.context);
        let axes = if layout.time_major { [context, batch, dim] } else { [batch, context, dim] };
        let name = plan.name.clone();
        let Some(samples) = self.samples.filter(|_| plan.options.trains && layout.resident) else {
            let x = plan.persistent(Role::Dataset, &format!("{name}.x"), &axes)?;
            let t = plan.persistent(Role::Dataset, &format!("{name}.t"), &[batch, dim])?;
            return Ok(Inputs::new(batch).with("context", x).with("target", t));
        };
        let half = self.half;
        let elements = |n: usize| if half { n.div_ceil(2) } else { n };
        let fill = |row: fn(&VectorSet, usize) -> Vec<f32>, cols: usize| {
            self.data.clone().map(|data| Fill::new(move |range| words(|i| row(&data.train, i), [samples, cols], half, range)))
        };
        let (all_contexts, all_targets) = (elements(samples * context * dim), elements(samples * dim));
        let contexts = plan.constant(Role::Dataset, "data.contexts", &[all_contexts], fill(VectorSet::context_of, context * dim))?;
        let targets = plan.constant(Role::Dataset, "data.targets", &[all_targets], fill(VectorSet::target_of, dim))?;
        let index = plan.persistent(Role::Dataset, &format!("{name}.index"), &[batch])?;
        let (x, t) = (plan.activation(format!("{name}.x"), &axes)?, plan.activation(format!("{name}.t"), &[batch, dim])?);
        for (source, y, length, label) in [(contexts, x, context, "contexts"), (targets, t, 1, "targets")] {
            let time_major = layout.time_major;
            gather::Forward { x: source, index, y, samples, length, cols: dim, half, time_major }.record(plan, label)?;
        }
        Ok(Inputs::new(batch).with("context", x).with("target", t).with("index", index))
    }
}

/// A range of the words of a data set on the device, which has `samples` rows of `cols` numbers: floats, or halves in pairs.
fn words(row: impl Fn(usize) -> Vec<f32>, [samples, cols]: [usize; 2], half: bool, range: Range<usize>) -> Vec<u32> {
    let numbers = if half { 2 * range.start..(2 * range.end).min(samples * cols) } else { range };
    let first = numbers.start / cols;
    let values = (first..numbers.end.div_ceil(cols)).flat_map(row).skip(numbers.start - first * cols).take(numbers.len());
    if !half {
        return values.map(f32::to_bits).collect();
    }
    let bits: Vec<u32> = values.map(|v| u32::from(f16::from_f32(v).to_bits())).collect();
    bits.chunks(2).map(|pair| pair[0] | pair.get(1).map_or(0, |high| high << 16)).collect()
}

impl NextVectors {
    fn evaluation_batch(&self, batch: usize) -> usize {
        // A file to test on may be smaller than a batch to train on.
        if self.needs_batch { batch } else { batch.min(self.samples.unwrap_or(batch)).max(1) }
    }
}

impl Source for NextVectors {
    fn fields(&self) -> Fields {
        let VectorsConfig { dim, context, .. } = self.config;
        Fields(vec![Field::floats("context", &[context, dim]).read_as(CONTEXTS), Field::floats("target", &[dim]).answer()])
    }

    fn steps_per_epoch(&self) -> u64 {
        Epochs::new(&self.train).steps(self.samples.unwrap_or(0))
    }

    fn evaluation_batches(&self, batch: usize) -> Vec<usize> {
        vec![self.evaluation_batch(batch)]
    }

    fn can_be_resident(&self) -> bool {
        self.samples.is_some()
    }

    fn record(&self, plan: &mut Plan, batch: usize, layout: Layout) -> Result<Inputs> {
        self.tensors(plan, batch, layout)
    }

    fn targets(&self) -> Option<Targets> {
        let vectors = self.data.clone().map(|data| data as Arc<dyn TargetVectors>);
        Some(Targets { count: self.samples.unwrap_or(1).max(1), vectors })
    }

    fn card(&self, loss: &dyn Loss) -> Card {
        let columns = loss.columns();
        let mut validation_metrics = columns.names.clone();
        validation_metrics.push(UNIT_MSE);
        Card { validation_metrics, of_samples: vec![], table_columns: table_columns(&columns), chart: ("cosine", vec!["cosine"]) }
    }

    fn describe(&self) -> Option<String> {
        let (file, VectorsConfig { dim, context, .. }) = (self.config.sized_by().display(), &self.config);
        Some(match header(self.config.sized_by()) {
            Ok(h) if self.there => format!("{file}: {} samples, contexts of {context} vectors of {dim}", h.samples),
            _ => format!("{file} is not there: estimated for contexts of {context} vectors of {dim}"),
        })
    }

    fn expect_file(&self) -> Result<()> {
        let file = self.config.sized_by();
        if !file.exists() {
            return Err(Error::MissingInput(format!(
                "no data file {}. Name yours: --set data.file=FILE.npz to train, --data FILE.npz elsewhere; data/README.md says what it \
                 holds, and data/samples/ has a small one to try",
                file.display()
            ).into()));
        }
        match self.samples.filter(|_| self.needs_batch) {
            Some(samples) => expect_batch(file, samples, self.train.batch, self.train.share),
            None => Ok(()),
        }
    }

    fn load(self: Box<Self>, with: Loading<'_>) -> Result<(Box<dyn Data>, Vec<String>)> {
        let (file, config) = (self.config.sized_by(), &self.config);
        self.expect_file()?;
        let reading = Reading { skip_non_finite: config.skip_non_finite, ranks: with.ranks, ..Reading::default() };
        let (mut data, mut notes) = load(file, config.ood_file.as_deref(), config.split_of(header(file)?.has_validation), reading)?;
        if config.test_file.is_some() {
            // What is known of training, for the baselines.
            if config.file.exists() {
                let trained = VectorsConfig { test_file: None, ..config.clone() };
                let split = trained.split_of(header(&config.file)?.has_validation);
                let (VectorData { train, .. }, _) = load(&config.file, None, split, reading)?;
                let train = train.take(&shared(train.samples, self.train.share, config.seed));
                if train.dim == data.train.dim {
                    data.train = train;
                }
            }
            return Ok((Box::new(self.holding(data, with.ranks)?), notes));
        }
        let ood = data.ood.as_ref().map_or(String::new(), |o| format!(", {} out of distribution", o.samples));
        let all = data.train.samples;
        data.train = data.train.take(&shared(all, self.train.share, config.seed));
        if data.train.samples < all {
            notes.push(format!(
                "share       {} of {all} training samples are used (train.share), so that an epoch has fewer steps",
                data.train.samples
            ));
        }
        notes.insert(
            0,
            format!(
                "data        {} training and {} validation samples{ood}; contexts of {} vectors of {}",
                data.train.samples, data.validation.samples, data.train.context, data.train.dim
            ),
        );
        let loaded = self.holding(data, with.ranks)?;
        notes.extend(loaded.leakage.clone());
        Ok((Box::new(loaded), notes))
    }

    /// Fails if a batch has a single sample and the loss needs a standard deviation over the batch.
    fn check(&self, loss: &dyn Loss) -> Result<Vec<String>> {
        let Some(data) = &self.data else { return Ok(vec![]) };
        let (train, n) = (&self.train, data.train.samples);
        let columns = loss.columns();
        let has = |wanted: &str| columns.terms.iter().any(|(name, _)| *name == wanted);
        let mut notes = vec![];
        if has("infonce") && !has("cosine_loss") && !has("mse") {
            notes.push(
                "WARNING: InfoNCE only tells the targets of a batch apart, and nothing in this loss pulls a prediction to its target: on 29,317 contexts of GTR-T5 \
                 vectors a transformer came to a cosine of 0.28 so, and to 0.585 by the cosine loss. Add cosine = { weight = 1.0 } or mse to [loss]"
                    .to_string(),
            );
        }
        let terms = columns.need_two.join(", ");
        if terms.is_empty() {
            return Ok(notes);
        }
        let batch = train.batch;
        let tail = if train.drop_last { 0 } else { n % batch };
        if self.needs_batch && (batch == 1 || tail == 1) {
            return Err(Error::Config(format!(
                "loss terms with a standard deviation over the batch ({terms}) need two samples in each: train.batch = {batch} leaves one \
                 alone. Choose another train.batch"
            )));
        }
        if data.validation.samples == 1 {
            return Err(Error::Data(format!(
                "{}: one validation sample has no standard deviation, which loss terms ({terms}) need. Change data.validation_share",
                self.config.file.display()
            )));
        }
        let batch = self.evaluation_batch(batch);
        let sets = [("validation", Some(&data.validation)), ("out-of-distribution", data.ood.as_ref())];
        let alone = |(name, set): (&str, Option<&VectorSet>)| {
            let samples = set?.samples;
            (samples % batch == 1).then(|| {
                format!(
                    "the last of {samples} {name} samples is alone in its batch of {batch}: it has no standard deviation and is left out of \
                     {terms}"
                )
            })
        };
        notes.extend(sets.into_iter().filter_map(alone));
        Ok(notes)
    }
}

impl TargetVectors for VectorData {
    fn unit(&self, sample: usize) -> Vec<f64> {
        self.unit_target(sample)
    }

    fn statistics(&self) -> [Vec<f64>; 2] {
        self.target_stats()
    }
}

/// Next-vector data with their samples loaded.
#[derive(Debug, Clone)]
struct LoadedVectors {
    source: NextVectors,
    data: Arc<VectorData>,
    /// Baselines of the validation set, and of the set out of distribution.
    baselines: (Baselines, Option<Baselines>),
    /// Sentence about leakage between training and validation, if there is any.
    leakage: Option<String>,
    epochs: Epochs,
}

impl Data for LoadedVectors {
    fn source(&self) -> &dyn Source {
        &self.source
    }

    fn batches(&mut self, step: u64, layout: Layout, own: Range<usize>) -> Result<Vec<Batch>> {
        let (train, batch) = (&self.data.train, self.source.train.batch);
        let micro = |numbers: Vec<u32>| {
            if !layout.resident {
                return pack(train, &numbers, batch, layout.time_major);
            }
            let mut index = numbers.clone();
            index.resize(batch, 0);
            Batch { inputs: vec![("index", index)], rows: numbers.len(), count: numbers.len(), drawn: false }
        };
        let batches = packed(self.epochs.numbers(train.samples, step), &own, micro, |numbers| (numbers.len(), numbers.len()));
        train.check()?;
        Ok(batches)
    }

    fn scorecard(&self, loss: &dyn Loss, layout: Layout) -> Box<dyn Scorecard> {
        let (data, baselines) = (self.data.clone(), self.baselines);
        let config = &self.source.config;
        let without_training = config.test_file.is_some().then(|| !config.file.exists());
        Box::new(VectorScorecard {
            data,
            baselines,
            columns: loss.columns(),
            time_major: layout.time_major,
            without_training,
            leakage: self.leakage.clone(),
        })
    }
}

/// Packs the samples `numbers` of a set into a batch of `batch`; the rest is zeros.
fn pack(set: &VectorSet, numbers: &[u32], batch: usize, time_major: bool) -> Batch {
    let (context, dim) = (set.context, set.dim);
    let mut x = vec![0f32; batch * context * dim];
    let mut t = vec![0f32; batch * dim];
    // A context whose vectors go to different places is read here first.
    let mut row = vec![0f32; if time_major { context * dim } else { 0 }];
    for (b, i) in numbers.iter().map(|i| *i as usize).enumerate() {
        if time_major {
            set.read_context(i, &mut row);
            row.chunks(dim).enumerate().for_each(|(c, vector)| x[(c * batch + b) * dim..][..dim].copy_from_slice(vector));
        } else {
            set.read_context(i, &mut x[b * context * dim..][..context * dim]);
        }
        set.read_target(i, &mut t[b * dim..][..dim]);
    }
    let [x, t] = [x, t].map(bytemuck::allocation::cast_vec::<f32, u32>);
    Batch { inputs: vec![("context", x), ("target", t)], rows: numbers.len(), count: numbers.len(), drawn: false }
}

/// Columns of the tables of metrics.
fn table_columns(columns: &Columns) -> Vec<Column> {
    let mut shown = vec![
        Column::new("cosine", "cosine", Some(4)),
        Column::new("ood_cosine", "OOD cosine", Some(4)),
        Column::new("recall_at_1", "recall@1", None),
        Column::new("recall_at_10", "recall@10", None),
        Column::new("median_rank", "median rank", Some(1)),
        Column::new(UNIT_MSE, "unit MSE", Some(6)),
        Column::new("loss", "loss", Some(6)),
    ];
    if columns.terms.len() > 1 {
        shown.extend(columns.terms.iter().map(|(name, _)| Column::new(name, name, Some(5))));
    }
    shown
}

/// Scorecard of next-vector models.
#[derive(Debug)]
pub struct VectorScorecard {
    data: Arc<VectorData>,
    baselines: (Baselines, Option<Baselines>),
    columns: Columns,
    time_major: bool,
    /// With a file to test on: true if the training file does not exist, so that the training targets are not known.
    without_training: Option<bool>,
    leakage: Option<String>,
}

impl VectorScorecard {
    /// Batches of a whole set, for a session.
    fn batches<'a>(&'a self, session: &Session, set: &'a VectorSet) -> impl Iterator<Item = Batch> + 'a {
        let batch = session.batch();
        (0..set.samples).step_by(batch).map(move |first| {
            let numbers: Vec<u32> = (first..(first + batch).min(set.samples)).map(|i| i as u32).collect();
            pack(set, &numbers, batch, self.time_major)
        })
    }

    fn evaluate(&self, session: &Session, set: &VectorSet) -> Result<Metrics> {
        let mut means = session.means(&self.columns, self.batches(session, set).map(Ok))?;
        set.check()?;
        let cosine = means.get("cosine").unwrap_or(f64::NAN);
        means.0.push((UNIT_MSE.into(), (2.0 - 2.0 * cosine) / set.dim as f64));
        Ok(means)
    }

    /// Unit predictions for a set (samples, dim), their cosines with its targets, and the raw output of the model (samples, dim).
    fn predict(&self, session: &Session, set: &VectorSet) -> Result<(Vec<f32>, Vec<f32>, Vec<f32>)> {
        let dim = set.dim;
        let (mut predictions, mut cosines) = (Vec::with_capacity(set.samples * dim), Vec::with_capacity(set.samples));
        let mut outputs = Vec::with_capacity(set.samples * dim);
        for (number, batch) in self.batches(session, set).enumerate() {
            let raw = session.outputs(&batch)?;
            for (row, i) in raw.chunks(dim).take(batch.rows).zip(number * session.batch()..) {
                let length = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt().max(1e-12);
                let target = set.target(i);
                let norm = length(&mut row.iter().map(|v| f64::from(*v)));
                let product: f64 = row.iter().zip(&target).map(|(p, t)| f64::from(*p) * t).sum();
                cosines.push((product / norm / length(&mut target.iter().copied())) as f32);
                predictions.extend(row.iter().map(|v| (f64::from(*v) / norm) as f32));
                outputs.extend_from_slice(row);
            }
        }
        set.check()?;
        Ok((predictions, cosines, outputs))
    }

    /// Warnings about predictions for a set: some without a direction, or nearly all in the same direction.
    fn collapse(set: &VectorSet, predictions: &[f32]) -> Vec<(&'static str, String)> {
        let mut sum = vec![0.0; set.dim];
        let mut found = 0;
        for prediction in predictions.chunks(set.dim).filter(|v| has_direction(v)) {
            sum.iter_mut().zip(prediction).for_each(|(sum, v)| *sum += f64::from(*v));
            found += 1;
        }
        let lost = set.samples - found;
        let none = (lost > 0).then(|| {
            let text = format!(
                "WARNING: {lost} of {} predictions are zero or not finite: they have no direction, and count as the last of all ranks. \
                 Where a model ends in relu its units may have died; try a lower learning rate or another last layer",
                set.samples
            );
            ("predictions without a direction", text)
        });
        let length = sum.iter().map(|v| v.powi(2)).sum::<f64>().sqrt() / found as f64;
        // Targets with an offset in common are alike themselves.
        let of_targets = self_similarity((0..set.samples).map(|i| set.target(i))).map_or(0.0, |cosine| cosine.clamp(0.0, 1.0).sqrt());
        let same = (1.0 - length.powi(2) < COLLAPSED * (1.0 - of_targets.powi(2))).then(|| {
            let text = format!(
                "WARNING: its predictions are all but the same: the length of their mean is {length:.4}, that of the targets' {of_targets:.4}. The model has \
                 collapsed to a constant. Try another learning rate or schedule, loss or model"
            );
            ("collapsed to a constant", text)
        });
        none.into_iter().chain(same).collect()
    }
}

impl Scorecard for VectorScorecard {
    fn validate(&self, session: &Session, _step: u64, _number: u64) -> Result<Metrics> {
        self.evaluate(session, &self.data.validation)
    }

    fn baselines(&self) -> Vec<(&'static str, Metrics)> {
        let of = &self.baselines.0;
        [("context mean", of.context_mean), ("mean vector", of.mean_vector)]
            .map(|(name, cosine)| (name, Metrics::new([("cosine", cosine)])))
            .into()
    }

    fn verdicts(&self, session: &Session) -> Result<Vec<Verdict>> {
        let (train, mut verdicts) = (&self.data.train, vec![]);
        let norm = train.mean_norm();
        // Where squared errors alone are minimised, targets may have any length.
        let any = !self.columns.terms.is_empty() && self.columns.terms.iter().all(|(name, _)| *name == "mse");
        let (fine, look) = if any { ([0.0, f64::INFINITY], [0.0, f64::INFINITY]) } else { ([0.99, 1.01], [0.9, 1.1]) };
        let expected = if any { "the squared error takes any" } else { "1 is expected" };
        let what = format!("the training targets have a mean norm of {norm:.4}; {expected}");
        verdicts.push(Verdict::of(norm, fine, look, &what, "Scale them to unit length, or look where they come from"));
        let contexts = (0..train.samples).step_by(train.samples.div_ceil(1000)).flat_map(|i| {
            let context = train.context_of(i);
            context.chunks(train.dim).map(|vector| vector.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()).collect::<Vec<_>>()
        });
        let (sum, count) = contexts.fold((0.0, 0.0), |(sum, count), norm| (sum + norm, count + 1.0));
        let norm = sum / count;
        let what = format!("the vectors of their contexts have a mean norm of {norm:.4}; {expected}");
        verdicts.push(Verdict::of(norm, fine, look, &what, "Scale them to unit length, or look where they come from"));
        if let Some(similarity) = self_similarity((0..train.samples).map(|i| train.target(i))) {
            let what = format!(
                "two targets have a cosine of {similarity:.4} on average; 0.3 to 0.5 is usual of sentence vectors such as GTR-T5's"
            );
            let then = "Near 1, they are all but one vector, and there is nothing to predict; near 0 or below, they are not of one kind of text, or not of \
                        that encoder";
            verdicts.push(Verdict::of(similarity, [0.3, 0.5], [-0.5, 0.95], &what, then));
        }
        let (_, _, outputs) = self.predict(session, &self.data.validation)?;
        let norms = outputs.chunks(train.dim).map(|v| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt());
        let (sum, least, count) =
            norms.fold((0.0, f64::INFINITY, 0.0), |(sum, least, count), n| (sum + n, if n < least { n } else { least }, count + 1.0));
        let mean: f64 = sum / count;
        let what = format!("the untrained model gives vectors of norm {mean:.4} on average, {least:.4} at least");
        let of_least = if mean.is_finite() { least } else { f64::NAN };
        let then = "Vectors of no length have no direction: look at the last layer of the model";
        verdicts.push(Verdict::of(of_least, [1e-6, 1e6], [1e-12, 1e12], &what, then));
        Ok(verdicts)
    }

    fn closing_scores(&self, session: &Session, _step: u64) -> Result<ClosingScores> {
        let mut mine = self.evaluate(session, &self.data.validation)?;
        if let Some(ood) = &self.data.ood {
            let cosine = self.evaluate(session, ood)?.get("cosine").unwrap_or(f64::NAN);
            mine.0.push(("ood_cosine".into(), cosine));
        }
        let (of_validation, of_ood) = self.baselines;
        let row = |pick: fn(&Baselines) -> f64| {
            let ood = of_ood.as_ref().map(|b| ("ood_cosine", pick(b)));
            Metrics::new([("cosine", pick(&of_validation))].into_iter().chain(ood))
        };
        let set = &self.data.validation;
        let (predictions, ..) = self.predict(session, set)?;
        let candidates = Candidates::of(set);
        let found = |metrics: &mut Metrics, found: Retrieval| {
            let Retrieval { recall_at_1, recall_at_10, median_rank } = found;
            let named = [("recall_at_1", recall_at_1), ("recall_at_10", recall_at_10), ("median_rank", median_rank)];
            metrics.0.extend(named.map(|(name, value)| (name.to_string(), value)));
        };
        found(&mut mine, candidates.look_up(|i| predictions[i * set.dim..(i + 1) * set.dim].iter().map(|v| f64::from(*v)).collect()));
        let (mut last, mut mean) = (row(|b| b.last_vector), row(|b| b.context_mean));
        found(&mut last, candidates.look_up(|i| set.last(i)));
        found(&mut mean, candidates.look_up(|i| set.context_sum(i)));
        let mut baselines = vec![("last vector".to_string(), last), ("context mean".to_string(), mean)];
        // Without the training targets their mean is not known.
        if self.without_training != Some(true) {
            baselines.insert(0, ("mean vector".to_string(), row(|b| b.mean_vector)));
            let linear = Linear::of(&self.data.target_stats()[0], &self.data.train);
            let ood = self.data.ood.as_ref().map(|ood| ("ood_cosine", linear.cosine(ood)));
            let mut metrics = Metrics::new([("cosine", linear.cosine(set))].into_iter().chain(ood));
            found(&mut metrics, candidates.look_up(|i| linear.predict(&set.context_of(i))));
            baselines.push(("linear".to_string(), metrics));
        }
        let (issues, sentences): (Vec<_>, Vec<_>) = Self::collapse(set, &predictions).into_iter().unzip();
        let notes = sentences.into_iter().chain(self.leakage.clone()).chain([candidates.describe()]).collect();
        let mut scores = ClosingScores::beside(vec![("this model".into(), mine)], baselines, &table_columns(&self.columns), notes);
        scores.issues.extend(issues.into_iter().map(String::from));
        Ok(scores)
    }

    /// Evaluates on each set of the file, and gives the predictions if they are asked for.
    fn test(&self, session: &Session, test: Test) -> Result<(ClosingScores, Arrays)> {
        if test.sequences.is_some() {
            return Err(Error::Config("--sequences is for runs of data.kind = \"integer_sequences\"".into()));
        }
        let ClosingScores { rows: scores, mut notes, issues, .. } = self.closing_scores(session, 0)?;
        let (validation, ood) = (&self.data.validation, self.data.ood.as_ref());
        let mut rows = Vec::new();
        let sets = match self.without_training {
            Some(unknown) => {
                rows.extend(scores);
                notes.push(format!(
                    "on all {} samples of the file; {}",
                    validation.samples,
                    if unknown {
                        "the mean vector is not known, as the training file is not there"
                    } else {
                        "the mean vector is that of the training targets"
                    }
                ));
                vec![("test", validation)]
            }
            None => {
                rows.push(("training".to_string(), self.evaluate(session, &self.data.train)?));
                rows.extend(scores.into_iter().map(|(name, m)| (if name == "this model" { "validation".into() } else { name }, m)));
                notes.push(format!("training: all {} samples; validation: all {}", self.data.train.samples, validation.samples));
                [Some(("train", &self.data.train)), Some(("val", validation)), ood.map(|o| ("ood", o))].into_iter().flatten().collect()
            }
        };
        let mut arrays = Vec::new();
        for (name, set) in sets.into_iter().filter(|_| test.predictions) {
            let (predictions, cosines, outputs) = self.predict(session, set)?;
            let vectors = vec![set.samples, set.dim];
            arrays.push((format!("{name}_predictions"), vectors.clone(), ArrayValues::Floats(predictions)));
            arrays.push((format!("{name}_outputs"), vectors, ArrayValues::Floats(outputs)));
            arrays.push((format!("{name}_cosines"), vec![set.samples], ArrayValues::Floats(cosines)));
            arrays.push((format!("{name}_samples"), vec![set.samples], ArrayValues::Integers(set.rows())));
        }
        Ok((ClosingScores { rows, notes, issues, examples: None }, arrays))
    }
}
