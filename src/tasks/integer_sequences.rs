//! Integer sequences: generated batches, a curriculum, and tests by phase.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::data::{Data, DataKind, Layout, Loading, Purpose, Source, expect_all, packed};
use super::epochs::one;
use super::scorecard::{Arrays, Card, ClosingScores, Scorecard, Test};
use crate::batch::{Batch, Field, Fields, Inputs};
use crate::config::{Section, Settings, TrainConfig, in_range, within};
use crate::datasets::integer_sequences::{FAMILIES, Sequence, Sizes, Transition, draw_family, impossible, sample, shares};
use crate::datasets::{SampleStream, epoch_order};
use crate::error::{Error, Result};
use crate::gpu::Role;
use crate::layers::Cache;
use crate::losses::{Columns, IGNORED, Loss};
use crate::metrics::{Column, MetricRows, Metrics};
use crate::plan::Plan;
use crate::random::Random;
use crate::session::Session;

/// Largest number of sequences in an evaluation batch.
const MOST_EVALUATED: usize = 256;

/// Metric: share of the validation sequences that also occurred in training.
const SEEN: &str = "seen_in_training";

/// Number of training samples whose sequences are remembered.
const REMEMBERED: u64 = 2_000_000;

/// Number of sequences for each row of the closing table.
pub(crate) const TESTED: usize = 1000;

/// Explanation of the columns of the tables.
const EXPLAINED: &str = "last acc. predicts the last number of a sequence from all before it, whole seq. every number after the first";

/// Share of each phase in validation and in the full mixture.
const MIXTURE: [f64; 3] = [1.0 / 3.0; 3];

/// Integer sequences that are generated during training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IntegerSequencesConfig {
    /// Seed of the generator.
    #[serde(default = "one")]
    pub seed: u64,
    /// Number of epochs over which the later phases of the curriculum enter; 0 trains on the full mixture from the start.
    #[serde(default = "transition")]
    #[schemars(range(min = 0))]
    pub transition_epochs: f64,
    /// Way in which the later phases enter.
    #[serde(default, skip_serializing_if = "is_gradual")]
    #[schemars(!skip_serializing_if)]
    pub transition: Transition,
    /// Largest number of integers that the model sees; the longest sequences have one more.
    #[serde(default = "context", skip_serializing_if = "is_default_context")]
    #[schemars(!skip_serializing_if, range(min = 4, max = 1024))]
    pub context: usize,
    /// Smallest number of integers before the last one; lengths are drawn uniformly from it to `context`. Without it, all sequences have
    /// the largest length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 4, max = 1024))]
    pub shortest: Option<usize>,
    /// Number of different values, from 0, which are the classes of the model.
    #[serde(default = "values", skip_serializing_if = "is_default_values")]
    #[schemars(!skip_serializing_if, range(min = 16, max = 65_536))]
    pub values: usize,
}

fn context() -> usize {
    Sizes::default().context
}

fn is_default_context(given: &usize) -> bool {
    *given == context()
}

fn values() -> usize {
    Sizes::default().values
}

fn is_default_values(given: &usize) -> bool {
    *given == values()
}

impl IntegerSequencesConfig {
    /// Lengths and values of the sequences.
    pub fn sizes(&self) -> Sizes {
        Sizes { context: self.context, shortest: self.shortest.unwrap_or(self.context), values: self.values }
    }
}

fn transition() -> f64 {
    20.0
}

fn is_gradual(transition: &Transition) -> bool {
    *transition == Transition::Gradual
}

impl Section for IntegerSequencesConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        in_range(self, "data")?;
        let sizes = self.sizes();
        let fits = (4..=self.context).contains(&sizes.shortest);
        within(fits, "data.shortest", sizes.shortest as f64, "from 4 to data.context")?;
        impossible(sizes).map_or(Ok(()), |family| {
            let Sizes { context, values, .. } = sizes;
            Err(format!("data.context = {context} with data.values = {values}: no sequences of the family {family} stay in range. Raise data.values, or lower data.context"))
        })
    }
}

impl DataKind for IntegerSequencesConfig {
    fn curriculum_epochs(&self) -> f64 {
        self.transition_epochs
    }

    fn open(&self, settings: &Settings, _purpose: Purpose) -> Result<Box<dyn Source>> {
        expect_all(settings)?;
        Ok(Box::new(IntegerSequences::new(self, settings)))
    }

    fn made_up(&self, settings: &Settings, _samples: usize, _integers_below: Option<usize>) -> Result<Box<dyn Data>> {
        Ok(Box::new(IntegerSequences::new(self, settings)))
    }
}

/// Generator of the sequences, with its curriculum.
#[derive(Debug, Clone)]
pub(crate) struct IntegerSequences {
    config: IntegerSequencesConfig,
    train: TrainConfig,
    /// Number of sequences in each validation.
    sequences: usize,
    order: Option<(u64, Vec<u32>)>,
    /// Sequences of the training steps so far; clones share them.
    seen: Arc<Mutex<Seen>>,
}

/// Memory of the sequences that occurred in training.
#[derive(Debug, Default)]
struct Seen {
    /// First step that is remembered.
    from: Option<u64>,
    /// Hash of each sequence, and the first step in which it occurred.
    steps: HashMap<u64, u64>,
}

impl Seen {
    fn hash(sequence: &Sequence) -> u64 {
        BuildHasherDefault::<DefaultHasher>::default().hash_one(sequence)
    }

    fn add(&mut self, step: u64, sequences: &[Sequence]) {
        self.from = Some(self.from.map_or(step, |from| from.min(step)));
        for sequence in sequences {
            self.steps.entry(Self::hash(sequence)).and_modify(|first| *first = step.min(*first)).or_insert(step);
        }
    }
}

impl IntegerSequences {
    pub(crate) fn new(config: &IntegerSequencesConfig, settings: &Settings) -> Self {
        IntegerSequences {
            config: config.clone(),
            train: settings.train.clone(),
            sequences: settings.validation.sequences,
            order: None,
            seen: Arc::default(),
        }
    }

    /// Training sample number `item` of the run.
    fn training_sample(&self, item: u64) -> Sequence {
        let epoch = item / (self.train.samples() as u64 * self.train.steps_per_epoch);
        sample(
            self.config.sizes(),
            self.config.seed,
            SampleStream::Train,
            item,
            shares(epoch as f64, self.config.transition_epochs, self.config.transition),
        )
    }

    /// Sequences of a training step, one micro-step after another.
    pub(crate) fn training(&mut self, step: u64) -> Vec<Sequence> {
        let (t, per_step) = (&self.train, self.train.samples());
        let (epoch, within) = (step / t.steps_per_epoch, (step % t.steps_per_epoch) as usize);
        let per_epoch = per_step as u64 * t.steps_per_epoch;
        if t.shuffle && self.order.as_ref().is_none_or(|(e, _)| *e != epoch) {
            self.order = Some((epoch, epoch_order(t.seed, epoch, per_epoch as usize)));
        }
        let order = self.order.as_ref();
        let number = |i: usize| order.map_or(i as u64, |(_, o)| u64::from(o[i]));
        let sequences: Vec<Sequence> =
            (within * per_step..(within + 1) * per_step).map(|i| self.training_sample(epoch * per_epoch + number(i))).collect();
        if step * (per_step as u64) < REMEMBERED {
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).add(step, &sequences);
        }
        sequences
    }

    /// Share of the sequences that occurred in the training steps before `step`, as far as they are remembered. After a resume, the
    /// sequences of earlier steps are generated again.
    fn seen_in_training(&self, step: u64, sequences: &[Sequence]) -> f64 {
        let known = self.seen.lock().unwrap_or_else(PoisonError::into_inner).from.unwrap_or(step);
        let mut copy = self.clone();
        (0..known.min(step).min(REMEMBERED / self.train.samples() as u64)).for_each(|earlier| drop(copy.training(earlier)));
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let occurred = |sequence: &&Sequence| seen.steps.get(&Seen::hash(sequence)).is_some_and(|first| *first < step);
        sequences.iter().filter(occurred).count() as f64 / sequences.len().max(1) as f64
    }

    /// Sequences of a validation; `number` counts validations from 1.
    pub(crate) fn validation(&self, number: u64) -> Vec<Sequence> {
        let count = self.sequences as u64;
        (0..count).map(|i| sample(self.config.sizes(), self.config.seed, SampleStream::Validation, number * count + i, MIXTURE)).collect()
    }

    /// `count` fresh sequences of each phase, and then of the full mixture.
    pub(crate) fn test_sets(&self, count: usize) -> [(&'static str, Vec<Sequence>); 4] {
        let draw =
            |shares| (0..count as u64).map(|i| sample(self.config.sizes(), self.config.seed, SampleStream::Test, i, shares)).collect();
        [
            ("phase 1", draw([1.0, 0.0, 0.0])),
            ("phase 2", draw([0.0, 1.0, 0.0])),
            ("phase 3", draw([0.0, 0.0, 1.0])),
            ("full mixture", draw(MIXTURE)),
        ]
    }
}

/// Columns of the tables of metrics.
fn table_columns() -> Vec<Column> {
    vec![
        Column::new("last_accuracy", "last acc.", None),
        Column::new("accuracy", "accuracy", None),
        Column::new("sequence_accuracy", "whole seq.", None),
        Column::new("distance", "distance", Some(2)),
        Column::new("cross_entropy", "CE (nats)", Some(3)),
        Column::new("loss", "loss", Some(3)),
        Column::new(SEEN, "seen in training", None),
    ]
}

/// Packs the inputs (all integers but the last) and targets (all but the first) of sequences into a batch of `batch`. Positions after the
/// end of a sequence are padded: with tokens 0, which no earlier position sees, and with targets that do not count.
pub fn micro_batch(sequences: &[Sequence], batch: usize, context: usize) -> Batch {
    let part = |from: usize, padding: u32| {
        let mut words = vec![padding; batch * context];
        for (row, sequence) in words.chunks_mut(context).zip(sequences) {
            row.iter_mut().zip(&sequence[from..from + sequence.len() - 1]).for_each(|(word, value)| *word = *value);
        }
        words
    };
    let (inputs, count) = (vec![("tokens", part(0, 0)), ("targets", part(1, IGNORED))], positions(sequences));
    Batch { inputs, rows: sequences.len() * context, count, drawn: false }
}

/// Number of positions that have a target.
fn positions(sequences: &[Sequence]) -> usize {
    sequences.iter().map(|sequence| sequence.len() - 1).sum()
}

impl Source for IntegerSequences {
    fn fields(&self) -> Fields {
        let IntegerSequencesConfig { context, values, .. } = self.config;
        Fields(vec![Field::integers("tokens", &[context], values), Field::integers("targets", &[context], values).answer()])
    }

    fn steps_per_epoch(&self) -> u64 {
        self.train.steps_per_epoch
    }

    fn evaluation_batches(&self, _batch: usize) -> Vec<usize> {
        std::iter::successors(Some(self.sequences.min(MOST_EVALUATED)), |batch| (*batch > 1).then_some(batch / 2)).collect()
    }

    fn record(&self, plan: &mut Plan, batch: usize, _layout: Layout) -> Result<Inputs> {
        let name = plan.name.clone();
        let mut input = |what: &str| plan.persistent(Role::Dataset, &format!("{name}.{what}"), &[batch, self.config.context]);
        Ok(Inputs::new(batch).with("tokens", input("tokens")?).with("targets", input("targets")?))
    }

    fn record_positions(&self, plan: &mut Plan, batch: usize, positions: usize) -> Result<Option<(Inputs, Cache)>> {
        let name = plan.name.clone();
        let tokens = plan.persistent(Role::Dataset, &format!("{name}.tokens"), &[batch, positions])?;
        let sources = plan.persistent(Role::KvCache, &format!("{name}.sources"), &[batch, self.config.context])?;
        let limit = self.config.context;
        Ok(Some((Inputs::new(batch).with("tokens", tokens).with("sources", sources), Cache { sources, limit })))
    }

    fn card(&self, loss: &dyn Loss) -> Card {
        let mut card = Card::of(&loss.columns());
        card.validation_metrics.extend(["last_accuracy", "last_distance", "sequence_accuracy", SEEN]);
        card.of_samples.push(SEEN);
        card.table_columns = table_columns();
        card.chart = ("accuracy", vec!["accuracy", "last_accuracy"]);
        card
    }

    fn load(self: Box<Self>, _with: Loading<'_>) -> Result<(Box<dyn Data>, Vec<String>)> {
        Ok((self, vec![]))
    }
}

impl Data for IntegerSequences {
    fn source(&self) -> &dyn Source {
        self
    }

    fn batches(&mut self, step: u64, _layout: Layout, own: Range<usize>) -> Result<Vec<Batch>> {
        let (batch, context) = (self.train.batch, self.config.context);
        let pack = |sequences: &[Sequence]| micro_batch(sequences, batch, context);
        Ok(packed(self.training(step).chunks(batch), &own, pack, |sequences| (sequences.len() * context, positions(sequences))))
    }

    fn scorecard(&self, loss: &dyn Loss, _layout: Layout) -> Box<dyn Scorecard> {
        let guess = loss.uniform_guess(self.config.values);
        Box::new(IntegerScorecard { data: self.clone(), columns: loss.columns(), guess })
    }
}

/// Scorecard of models of integer sequences.
#[derive(Debug)]
pub struct IntegerScorecard {
    data: IntegerSequences,
    columns: Columns,
    /// Metrics of a uniform guess.
    guess: Vec<(&'static str, f64)>,
}

impl IntegerScorecard {
    /// Metrics as means over the positions of sequences, or over sequences if the loss weights them so.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn evaluate(&self, session: &Session, sequences: &[Sequence]) -> Result<Metrics> {
        let (batch, context) = (session.batch(), self.data.config.context);
        // The rows of each sequence, without those of its padding.
        let mut judged: Vec<Vec<Vec<f32>>> = Vec::with_capacity(sequences.len());
        for chunk in sequences.chunks(batch) {
            let rows = session.evaluate_rows(&micro_batch(chunk, batch, context))?;
            judged.extend(chunk.iter().zip(rows.chunks(context)).map(|(sequence, rows)| rows[..sequence.len() - 1].to_vec()));
        }
        let (count, per_sequence) = (judged.len().max(1) as f64, session.evaluation().1.feed.sample_rows.is_some());
        let total = if per_sequence { count } else { positions(sequences).max(1) as f64 };
        let mean = |c: usize| judged.iter().flatten().map(|row| f64::from(row[c])).sum::<f64>() / total;
        let mut metrics = Metrics::new(self.columns.names.iter().enumerate().map(|(c, name)| (*name, mean(c))));
        let column = |wanted: &str| self.columns.names.iter().position(|name| *name == wanted);
        if let Some(c) = column("accuracy") {
            let right = |row: &Vec<f32>| row[c] > 0.0;
            let last = judged.iter().filter(|rows| rows.last().is_some_and(right)).count();
            metrics.0.push(("last_accuracy".into(), last as f64 / count));
            let whole = judged.iter().filter(|rows| rows.iter().all(right)).count();
            metrics.0.push(("sequence_accuracy".into(), whole as f64 / count));
        }
        if let Some(c) = column("distance") {
            // A position has a share of its sequence's weight.
            let last = |rows: &Vec<Vec<f32>>| {
                rows.last().map_or(0.0, |row| f64::from(row[c])) * if per_sequence { rows.len() as f64 } else { 1.0 }
            };
            metrics.0.push(("last_distance".into(), judged.iter().map(last).sum::<f64>() / count));
        }
        Ok(metrics)
    }

    /// Metrics on `count` fresh sequences of each phase and of the full mixture, and the sequences of the mixture.
    fn by_phase(&self, session: &Session, count: usize) -> Result<(MetricRows, Vec<Sequence>)> {
        let sets = self.data.test_sets(count);
        let rows = sets.iter().map(|(name, sequences)| Ok((name.to_string(), self.evaluate(session, sequences)?)));
        let rows = rows.collect::<Result<_>>()?;
        let [.., (_, mixture)] = sets;
        Ok((rows, mixture))
    }

    fn beside(&self, rows: MetricRows, notes: Vec<String>) -> ClosingScores {
        let guess = self.baselines().into_iter().map(|(name, guess)| (name.to_string(), guess));
        ClosingScores::beside(rows, guess.collect(), &table_columns(), notes)
    }
}

impl Scorecard for IntegerScorecard {
    fn validate(&self, session: &Session, step: u64, number: u64) -> Result<Metrics> {
        let sequences = self.data.validation(number);
        let mut metrics = self.evaluate(session, &sequences)?;
        metrics.0.push((SEEN.into(), self.data.seen_in_training(step, &sequences)));
        Ok(metrics)
    }

    fn baselines(&self) -> Vec<(&'static str, Metrics)> {
        let of = |name: &str| self.guess.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
        let whole = of("accuracy").map(|right| right.powi(self.data.config.context as i32));
        let lasts = [("last_accuracy", of("accuracy")), ("last_distance", of("distance")), ("sequence_accuracy", whole)];
        let lasts = lasts.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let guess = (!self.guess.is_empty()).then(|| ("uniform guess", Metrics::new(self.guess.iter().copied().chain(lasts))));
        guess.into_iter().collect()
    }

    fn closing_scores(&self, session: &Session, step: u64) -> Result<ClosingScores> {
        let (rows, mixture) = self.by_phase(session, TESTED)?;
        let seen = 100.0 * self.data.seen_in_training(step, &mixture);
        let note = format!("{TESTED} fresh sequences a row; {EXPLAINED}. {seen:.0} % of the mixture's also occurred in training.");
        Ok(self.beside(rows, vec![note]))
    }

    /// Evaluates by family, by phase, and on the full mixture.
    fn test(&self, session: &Session, test: Test) -> Result<(ClosingScores, Arrays)> {
        if test.predictions {
            return Err(Error::Config("--data and --predictions are for runs on files; sequences are generated".into()));
        }
        let count = test.sequences.unwrap_or(500);
        let mut rows: MetricRows = Vec::new();
        for family in &FAMILIES {
            let draw = |i: usize| {
                draw_family(family, self.data.config.sizes(), &mut Random::new(self.data.config.seed, SampleStream::Test as u32, i as u64))
            };
            let samples: Vec<_> = (0..count).map(draw).collect();
            rows.push((format!("{} {}", family.phase, family.name), self.evaluate(session, &samples)?));
        }
        rows.extend(self.by_phase(session, count)?.0);
        let mut judgement = self.beside(rows, vec![]);
        judgement.notes.insert(0, format!("{count} fresh sequences a row; {EXPLAINED}."));
        Ok((judgement, vec![]))
    }
}
