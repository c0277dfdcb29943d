//! Associative recall: generated sequences that ask at their end for what stood behind a key.

use std::ops::Range;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::data::{Data, DataKind, Layout, Loading, Purpose, Source, expect_all, packed};
use super::epochs::one;
use super::packing::Packing;
use super::sample_scores::{ClassScorecard, Judged, class_card};
use super::scorecard::{Card, Scorecard};
use crate::batch::{Batch, Field, Fields, Inputs};
use crate::config::{Section, Settings, TrainConfig, in_range, within};
use crate::datasets::SampleStream;
use crate::datasets::recall::sample;
use crate::datasets::samples::{Column, Known, Samples};
use crate::error::Result;
use crate::gpu::Role;
use crate::losses::Loss;
use crate::plan::Plan;

/// Associative recall: tokens that name a value for each key among others that mean nothing, and at the end a key whose value is the class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecallConfig {
    /// Number of tokens of a sequence, at least twice the number of keys and one more.
    #[schemars(range(min = 5, max = 1 << 17))]
    pub length: usize,
    /// Number of keys, and of values: a guess is right once in as many.
    #[serde(default = "eight")]
    #[schemars(range(min = 2, max = 10_000))]
    pub keys: usize,
    /// Seed of the generator.
    #[serde(default = "one")]
    pub seed: u64,
}

fn eight() -> usize {
    8
}

impl Section for RecallConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        in_range(self, "data")?;
        within(self.seed <= i64::MAX as u64, "data.seed", self.seed as f64, "below 2^63")?;
        let least = 2 * self.keys + 1;
        within(self.length >= least, "data.length", self.length as f64, &format!("at least 2 · data.keys + 1 = {least}"))
    }
}

impl DataKind for RecallConfig {
    fn open(&self, settings: &Settings, _purpose: Purpose) -> Result<Box<dyn Source>> {
        expect_all(settings)?;
        Ok(Box::new(Recall::new(self, settings)))
    }

    fn made_up(&self, settings: &Settings, _samples: usize, _integers_below: Option<usize>) -> Result<Box<dyn Data>> {
        Ok(Box::new(Recall::new(self, settings)))
    }
}

/// Generator of the sequences.
#[derive(Debug, Clone)]
struct Recall {
    config: RecallConfig,
    train: TrainConfig,
    /// Number of sequences in a validation.
    validated: usize,
}

impl Recall {
    fn new(config: &RecallConfig, settings: &Settings) -> Self {
        Recall { config: config.clone(), train: settings.train.clone(), validated: settings.validation.sequences }
    }

    fn samples(&self, stream: SampleStream, numbers: Range<u64>) -> Samples {
        let RecallConfig { length, keys, seed } = self.config;
        let (tokens, values): (Vec<_>, Vec<_>) = numbers.clone().map(|item| sample(seed, stream, item, length, keys)).unzip();
        let column = |name: usize, words: Vec<u32>| {
            let field = &self.fields().0[name];
            let known = Known { shape: field.shape.clone(), below: field.below, ..Known::default() };
            Column::made_up(known, words.into_iter().map(|word| word as f32).collect())
        };
        let fields = vec![column(0, tokens.concat()), column(1, values)];
        Samples { fields, lengths: None, rows: numbers.map(|item| item as usize).collect(), left_out: 0 }
    }

    fn packing(&self) -> Packing {
        Packing { fields: self.fields(), positions: None, masked: false, class_weights: vec![], time_major: false }
    }
}

impl Source for Recall {
    fn fields(&self) -> Fields {
        let RecallConfig { length, keys, .. } = self.config;
        Fields(vec![Field::integers("tokens", &[length], 2 * keys + 1), Field::integers("targets", &[], keys).answer()])
    }

    fn steps_per_epoch(&self) -> u64 {
        self.train.steps_per_epoch
    }

    fn record(&self, plan: &mut Plan, batch: usize, _layout: Layout) -> Result<Inputs> {
        let name = plan.name.clone();
        let mut input = |what: &str, shape: &[usize]| plan.persistent(Role::Dataset, &format!("{name}.{what}"), shape);
        Ok(Inputs::new(batch).with("tokens", input("tokens", &[batch, self.config.length])?).with("targets", input("targets", &[batch])?))
    }

    fn card(&self, loss: &dyn Loss) -> Card {
        class_card(loss)
    }

    fn load(self: Box<Self>, _with: Loading<'_>) -> Result<(Box<dyn Data>, Vec<String>)> {
        Ok((self, vec![]))
    }
}

impl Data for Recall {
    fn source(&self) -> &dyn Source {
        self
    }

    fn batches(&mut self, step: u64, _layout: Layout, own: Range<usize>) -> Result<Vec<Batch>> {
        let (batch, first, packing) = (self.train.batch, step * self.train.samples() as u64, self.packing());
        let pack = |micro_step: u64| {
            let from = first + micro_step * batch as u64;
            packing.pack(&self.samples(SampleStream::Train, from..from + batch as u64), &Vec::from_iter(0..batch), batch)
        };
        Ok(packed(0..self.train.accumulate as u64, &own, pack, |_| (batch, batch)))
    }

    fn scorecard(&self, loss: &dyn Loss, _layout: Layout) -> Box<dyn Scorecard> {
        let samples = |stream| Arc::new(self.samples(stream, 0..self.validated as u64));
        let all = Vec::from_iter(0..self.validated);
        Box::new(ClassScorecard(Judged {
            samples: samples(SampleStream::Validation),
            packing: self.packing(),
            reference: Some((samples(SampleStream::Train), all.clone())),
            validation: all,
            columns: loss.columns(),
            target: self.fields().0.remove(1),
        }))
    }
}
