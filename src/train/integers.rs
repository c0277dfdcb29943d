//! Integer sequences: generated batches, a curriculum, and tests by phase.

use std::collections::HashSet;

use super::session::Session;
use super::task::{Column, Io, Judgement, MetricRows, Metrics, MicroBatch, Task, sum_results};
use crate::config::{Config, DataConfig, IntegerSequencesConfig, TrainConfig};
use crate::datasets::integer_sequences::{CONTEXT, Sequence, VALUES, sample, shares};
use crate::datasets::{Split, epoch_order};
use crate::error::{Error, Result};
use crate::gpu::Role;
use crate::losses::{CrossEntropyConfig, LossConfig};
use crate::models::{ModelConfig, SequenceTransformer, SequenceTransformerConfig};
use crate::plan::{Plan, Tensor};

/// Sequences of one evaluation batch at most.
const EVAL_BATCH: usize = 256;

/// Sequences of each row of the closing table.
pub(crate) const TESTED: usize = 1000;

/// The task of a sequence transformer.
#[derive(Debug)]
pub struct IntegerTask {
    model: SequenceTransformerConfig,
    data: IntegerSequencesConfig,
    loss: CrossEntropyConfig,
    train: TrainConfig,
    sequences: usize,
    order: Option<(u64, Vec<u32>)>,
}

impl IntegerTask {
    /// The task of a configuration.
    ///
    /// # Errors
    /// `Config` when it is of another kind.
    pub fn new(config: &Config) -> Result<Self> {
        let (ModelConfig::SequenceTransformer(model), DataConfig::IntegerSequences(data), LossConfig::CrossEntropy(loss)) =
            (&config.model, &config.data, &config.loss)
        else {
            return Err(Error::Config("this needs a run of data.kind = \"integer_sequences\"".into()));
        };
        Ok(IntegerTask {
            model: model.clone(),
            data: data.clone(),
            loss: loss.clone(),
            train: config.train.clone(),
            sequences: config.validation.sequences,
            order: None,
        })
    }

    /// Seed of the data.
    pub fn seed(&self) -> u64 {
        self.data.seed
    }

    /// Metrics on `count` fresh sequences of each phase and of the full mixture, with the latter's sequences.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn test(&self, session: &Session, count: usize) -> Result<(MetricRows, Vec<Sequence>)> {
        let sets = self.test_sets(count);
        let rows = sets.iter().map(|(name, sequences)| Ok((name.to_string(), evaluate(session, sequences)?))).collect::<Result<_>>()?;
        let [.., (_, mixture)] = sets;
        Ok((rows, mixture))
    }

    /// `count` fresh sequences of each phase, and of the full mixture at the end.
    pub fn test_sets(&self, count: usize) -> [(&'static str, Vec<Sequence>); 4] {
        let draw = |shares| (0..count as u64).map(|i| sample(self.data.seed, Split::Test, i, shares)).collect();
        [
            ("phase 1", draw([1.0, 0.0, 0.0])),
            ("phase 2", draw([0.0, 1.0, 0.0])),
            ("phase 3", draw([0.0, 0.0, 1.0])),
            ("full mixture", draw([1.0 / 3.0; 3])),
        ]
    }

    /// Sequences of a training step, micro-step after micro-step.
    pub fn training_sequences(&mut self, step: u64) -> Vec<Sequence> {
        let (t, data) = (&self.train, &self.data);
        let (epoch, within) = (step / t.steps_per_epoch, (step % t.steps_per_epoch) as usize);
        let per_step = t.batch * t.accumulate;
        let per_epoch = per_step as u64 * t.steps_per_epoch;
        if t.shuffle && self.order.as_ref().is_none_or(|(e, _)| *e != epoch) {
            self.order = Some((epoch, epoch_order(t.seed, epoch, per_epoch as usize)));
        }
        let shares = shares(epoch as f64, data.transition_epochs);
        let order = self.order.as_ref();
        let draw = |i: usize| {
            let within_epoch = order.map_or(i as u64, |(_, o)| u64::from(o[i]));
            sample(data.seed, Split::Train, epoch * per_epoch + within_epoch, shares)
        };
        (within * per_step..(within + 1) * per_step).map(draw).collect()
    }

    /// Sequences of a validation; `number` counts validations from 1.
    pub fn validation_sequences(&self, number: u64) -> Vec<Sequence> {
        let count = self.sequences as u64;
        (0..count).map(|i| sample(self.data.seed, Split::Validation, number * count + i, [1.0 / 3.0; 3])).collect()
    }

    /// Share of sequences that occurred in the training steps before `step`, of which at most the last four million samples are looked at.
    fn seen_in_training(&self, step: u64, sequences: &[Sequence]) -> f64 {
        let wanted: HashSet<&Sequence> = sequences.iter().collect();
        let per_step = (self.train.batch * self.train.accumulate) as u64;
        let per_epoch = per_step * self.train.steps_per_epoch;
        let end = step * per_step;
        let seen: HashSet<Sequence> = (end.saturating_sub(4_000_000)..end)
            .map(|item| sample(self.data.seed, Split::Train, item, shares((item / per_epoch) as f64, self.data.transition_epochs)))
            .filter(|s| wanted.contains(s))
            .collect();
        sequences.iter().filter(|s| seen.contains(*s)).count() as f64 / sequences.len().max(1) as f64
    }
}

/// Inputs (numbers 0–7) and targets (numbers 1–8) of sequences, for a batch of `batch`.
pub fn micro_batch(sequences: &[Sequence], batch: usize) -> MicroBatch {
    let part = |from: usize| {
        let mut words: Vec<u32> = sequences.iter().flat_map(|s| s[from..from + CONTEXT].iter().map(|v| u32::from(*v))).collect();
        words.resize(batch * CONTEXT, 0);
        words
    };
    MicroBatch { inputs: vec![part(0), part(1)], rows: sequences.len() * CONTEXT, count: sequences.len() * CONTEXT, cycle: false }
}

/// Means over sequences.
///
/// # Errors
/// `TryAgain` on device loss.
pub fn evaluate(session: &Session, sequences: &[Sequence]) -> Result<Metrics> {
    let batch = session.evaluate.1.batch;
    let mut rows: Vec<Vec<f32>> = Vec::with_capacity(sequences.len() * CONTEXT);
    for chunk in sequences.chunks(batch) {
        rows.extend(session.evaluate_rows(&micro_batch(chunk, batch))?);
    }
    let mean = |rows: &mut dyn Iterator<Item = &Vec<f32>>, column: usize| {
        let (sum, count) = rows.fold((0.0, 0), |(sum, n), row| (sum + f64::from(row[column]), n + 1));
        sum / f64::from(count.max(1))
    };
    let ninths = || rows.iter().skip(CONTEXT - 1).step_by(CONTEXT);
    Ok(Metrics::new([
        ("loss", mean(&mut rows.iter(), 0)),
        ("cross_entropy", mean(&mut rows.iter(), 1)),
        ("accuracy", mean(&mut rows.iter(), 2)),
        ("distance", mean(&mut rows.iter(), 3)),
        ("ninth_accuracy", mean(&mut ninths(), 2)),
        ("ninth_distance", mean(&mut ninths(), 3)),
    ]))
}

impl Task for IntegerTask {
    fn columns(&self) -> Vec<&'static str> {
        vec!["loss", "cross_entropy", "accuracy", "distance"]
    }

    fn validated(&self) -> Vec<&'static str> {
        [self.columns(), vec!["ninth_accuracy", "ninth_distance"]].concat()
    }

    fn shown(&self) -> Vec<Column> {
        let column = |name, title, digits| Column { name, title, digits };
        vec![
            column("ninth_accuracy", "ninth acc.", None),
            column("accuracy", "accuracy", None),
            column("distance", "distance", Some(2)),
            column("cross_entropy", "CE (nats)", Some(3)),
            column("loss", "loss", Some(3)),
        ]
    }

    fn chart(&self) -> (&'static str, Vec<&'static str>) {
        ("accuracy", vec!["accuracy", "ninth_accuracy"])
    }

    fn record(&self, plan: &mut Plan, batch: usize, records: Option<Tensor>) -> Result<Io> {
        let rows = batch * CONTEXT;
        let training = records.is_some();
        let name = |what: &str| format!("{}.{what}", plan.name);
        let (tokens, targets) = (name("tokens"), name("targets"));
        let tokens = plan.persistent(Role::Dataset, &tokens, &[rows])?;
        let targets = plan.persistent(Role::Dataset, &targets, &[rows])?;
        let mut model = SequenceTransformer::new(&self.model, batch, training)?;
        let logits = model.forward(plan, tokens, CONTEXT, None)?;
        let scale = training.then_some(1.0 / (rows * self.train.accumulate) as f64);
        let (y, dlogits) = self.loss.record(plan, logits, targets, scale)?;
        if let Some(records) = records {
            sum_results(plan, y, records)?;
            model.backward(plan, dlogits.ok_or_else(|| Error::Internal("no gradient of the loss".into()))?)?;
        }
        let state = crate::kernels::state(plan)?;
        Ok(Io { state, inputs: vec![tokens, targets], records, output: logits, rows: y, batch })
    }

    fn evaluation_batch(&self) -> usize {
        self.sequences.min(EVAL_BATCH)
    }

    fn steps_per_epoch(&self) -> u64 {
        self.train.steps_per_epoch
    }

    fn batches(&mut self, step: u64) -> Result<Vec<MicroBatch>> {
        let batch = self.train.batch;
        Ok(self.training_sequences(step).chunks(batch).map(|sequences| micro_batch(sequences, batch)).collect())
    }

    fn validate(&self, session: &Session, number: u64) -> Result<Metrics> {
        evaluate(session, &self.validation_sequences(number))
    }

    fn baseline(&self) -> (&'static str, Metrics) {
        let (loss, cross_entropy, distance) = self.loss.uniform_guess(VALUES);
        let accuracy = 1.0 / VALUES as f64;
        let values = [
            ("loss", loss),
            ("cross_entropy", cross_entropy),
            ("accuracy", accuracy),
            ("distance", distance),
            ("ninth_accuracy", accuracy),
            ("ninth_distance", distance),
        ];
        ("uniform guess", Metrics::new(values))
    }

    fn judge(&self, session: &Session, step: u64) -> Result<Judgement> {
        let (rows, mixture) = self.test(session, TESTED)?;
        let (name, guess) = self.baseline();
        let seen = 100.0 * self.seen_in_training(step, &mixture);
        let notes = vec![format!(
            "{TESTED} fresh sequences a row; ninth acc. predicts the ninth number from eight. {seen:.0} % of the mixture's also occurred in \
             training."
        )];
        Ok(Judgement::beside(rows, vec![(name.into(), guess)], &self.shown(), notes))
    }
}
