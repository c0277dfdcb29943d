//! Which samples train and which validate, and which of them a step takes.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::TrainConfig;
use crate::datasets::{epoch_order, share_of, shared, split, split_blocks};
use crate::error::{Error, Result};

/// Ways to choose the validation samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SplitKind {
    /// The file's own validation samples if it has some, else its last samples.
    #[default]
    Auto,
    /// The file's own validation samples if it has some, else samples drawn with the seed.
    AutoRandom,
    /// The file's own validation samples.
    Given,
    /// The last samples.
    Sequential,
    /// Samples drawn with the seed.
    Random,
    /// Blocks of successive samples, drawn with the seed; samples around them, whose windows overlap theirs, are left out of training.
    Blocks,
}

/// Default of `data.split`.
pub(super) fn random_split() -> SplitKind {
    SplitKind::Random
}

/// Default of `data.validation_share`.
pub(super) fn fifth() -> f64 {
    0.2
}

/// Default of `data.seed`.
pub(super) fn one() -> u64 {
    1
}

impl SplitKind {
    /// Fails on a split that data without validation samples of their own do not have.
    pub(super) fn without_members(self) -> std::result::Result<(), String> {
        if matches!(self, SplitKind::Random | SplitKind::Sequential) {
            return Ok(());
        }
        Err("data.split: these data have no validation members of their own. Use \"random\" or \"sequential\"".into())
    }
}

/// Order of the training samples: each once an epoch, in an order drawn from seed and epoch.
#[derive(Debug, Clone)]
pub struct Epochs {
    train: TrainConfig,
    order: Option<(u64, Vec<u32>)>,
}

impl Epochs {
    /// The order for a run with these settings.
    pub fn new(train: &TrainConfig) -> Self {
        Epochs { train: train.clone(), order: None }
    }

    fn micro_steps(&self, samples: usize) -> u64 {
        let (n, batch) = (samples as u64, self.train.batch as u64);
        let samples = self.train.samples() as u64;
        match self.train.drop_last {
            // Whole steps, so that an epoch has as many however a step is divided.
            true if n >= samples => n / samples * self.train.accumulate as u64,
            true => (n / batch).max(1),
            false => n.div_ceil(batch).max(1),
        }
    }

    /// Number of steps in an epoch over so many samples.
    pub fn steps(&self, samples: usize) -> u64 {
        self.micro_steps(samples).div_ceil(self.train.accumulate as u64)
    }

    /// Sample numbers of each micro-step of step `step`.
    pub fn numbers(&mut self, samples: usize, step: u64) -> Vec<Vec<u32>> {
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

/// Fails if there are too few training samples to fill a batch.
pub(super) fn expect_batch(file: &Path, samples: usize, batch: usize, share: f64) -> Result<()> {
    match samples < batch {
        true if samples == 0 => Err(Error::Data(format!(
            "{}: no training samples are left. Lower data.validation_share, or make data.window shorter",
            file.display()
        ))),
        true => {
            let file = file.display();
            let share = if share < 1.0 { format!(", or raise train.share = {share}, which leaves no more") } else { String::new() };
            Err(Error::Data(format!("{file}: {samples} training samples do not fill one batch of {batch}. Lower train.batch{share}")))
        }
        false => Ok(()),
    }
}

/// Split of the samples of a file into training and validation samples.
#[derive(Debug, Clone)]
pub struct Sets {
    /// Numbers of the training samples.
    pub train: Vec<usize>,
    /// Numbers of the validation samples.
    pub validation: Vec<usize>,
    /// True without training: every sample is a validation sample.
    pub tests: bool,
    /// Number of training samples by the header of the file; 0 while there is no file.
    expected: usize,
    file: PathBuf,
    share: f64,
    split: SplitKind,
    /// Seed of the split.
    seed: u64,
    /// Number of samples next to a validation sample that overlap it, and are left out of training.
    gap: usize,
    /// Share of the training samples that are used, and the seed that chooses them.
    used: (f64, u64),
    batch: usize,
    epochs: Epochs,
}

impl Sets {
    /// The split of a file whose last `share` is for validation, after shuffling with a seed if the split is random.
    pub fn new(file: &Path, share: f64, split: SplitKind, seed: u64, train: &TrainConfig) -> Self {
        let used = (train.share, seed);
        let (batch, epochs) = (train.batch, Epochs::new(train));
        Sets {
            train: vec![],
            validation: vec![],
            tests: false,
            expected: 0,
            file: file.into(),
            share,
            split,
            seed,
            gap: 0,
            used,
            batch,
            epochs,
        }
    }

    /// The split without training samples that are this near to a validation sample.
    pub fn with_gap(mut self, gap: usize) -> Self {
        self.gap = gap;
        self
    }

    /// Number of samples next to a validation sample that are left out of training.
    pub fn gap(&self) -> usize {
        self.gap
    }

    /// Numbers of the training and of the validation samples, of so many.
    fn parts(&self, samples: usize) -> (Vec<usize>, Vec<usize>) {
        let (mut train, validation) = match self.split {
            SplitKind::Blocks => return split_blocks(samples, self.share, self.seed, self.gap),
            SplitKind::Random => split(samples, self.share, Some(self.seed)),
            _ => split(samples, self.share, None),
        };
        // In order, the validation samples come last.
        if self.split != SplitKind::Random {
            train.truncate(train.len().saturating_sub(self.gap));
        }
        (train, validation)
    }

    /// Number of samples in a training batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Sets the number of samples that the header of the file gives.
    pub fn expect(&mut self, samples: usize) {
        self.expected = share_of(self.parts(samples).0.len(), self.used.0);
    }

    /// Splits this number of samples.
    ///
    /// # Errors
    /// `Data` when a batch cannot be filled or there is no validation sample.
    pub fn take(&mut self, samples: usize) -> Result<()> {
        (self.train, self.validation) = self.parts(samples);
        if self.tests {
            self.validation = (0..samples).collect();
            self.train.clone_from(&self.validation);
        }
        let (share, seed) = self.used;
        self.train = shared(self.train.len(), share, seed).into_iter().map(|place| self.train[place]).collect();
        self.expected = self.train.len();
        self.expect_batch()?;
        if self.validation.is_empty() {
            return Err(Error::Data(format!("{}: the validation set is empty. Change data.validation_share", self.file.display())));
        }
        Ok(())
    }

    /// Fails if there are too few training samples to fill a batch.
    ///
    /// # Errors
    /// `Data`.
    pub fn expect_batch(&self) -> Result<()> {
        if self.tests { Ok(()) } else { expect_batch(&self.file, self.expected, self.batch, self.used.0) }
    }

    /// Number of steps in an epoch.
    pub fn steps(&self) -> u64 {
        self.epochs.steps(self.expected)
    }

    /// Sample numbers of each micro-step of step `step`.
    pub fn numbers(&mut self, step: u64) -> Vec<Vec<usize>> {
        let micro = self.epochs.numbers(self.train.len(), step);
        micro.into_iter().map(|numbers| numbers.into_iter().map(|n| self.train[n as usize]).collect()).collect()
    }
}
