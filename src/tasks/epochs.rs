//! Which samples train and which validate, and which of them a step takes.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{TrainConfig, within};
use crate::datasets::{epoch_order, share_of, shared, split, training_samples};
use crate::error::{Error, Result};

/// Where validation samples come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitKind {
    /// The file's own validation members if it has them, else its last samples.
    #[default]
    Auto,
    /// The file's own validation members if it has them, else samples drawn with the seed.
    AutoRandom,
    /// The file's own validation members.
    Given,
    /// The last samples.
    Sequential,
    /// Samples drawn with the seed.
    Random,
    /// Blocks of samples that follow one another, drawn with the seed; the samples around them, whose windows overlap theirs, train nothing.
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

/// Fails on a share or a seed out of range.
pub(super) fn check_split(share: f64, seed: u64) -> std::result::Result<(), String> {
    within(share > 0.0 && share < 1.0, "data.validation_share", share, "in (0, 1)")?;
    within(seed <= i64::MAX as u64, "data.seed", seed as f64, "below 2^63")
}

impl SplitKind {
    /// Fails on a split of data that have no validation members of their own.
    pub(super) fn without_members(self) -> std::result::Result<(), String> {
        if matches!(self, SplitKind::Random | SplitKind::Sequential) {
            return Ok(());
        }
        Err("data.split: these data have no validation members of their own. Use \"random\" or \"sequential\"".into())
    }
}

/// Which samples a step takes: each once an epoch, in an order drawn from seed and epoch.
#[derive(Debug, Clone)]
pub struct Epochs {
    train: TrainConfig,
    order: Option<(u64, Vec<u32>)>,
}

impl Epochs {
    /// Of a run's configuration.
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

    /// Steps of an epoch over so many samples.
    pub fn steps(&self, samples: usize) -> u64 {
        self.micro_steps(samples).div_ceil(self.train.accumulate as u64)
    }

    /// Sample numbers of each micro-step of a step.
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

/// Fails where so many training samples do not fill a batch.
pub(super) fn expect_batch(file: &Path, samples: usize, batch: usize) -> Result<()> {
    match samples < batch {
        true => {
            let file = file.display();
            Err(Error::Data(format!("{file}: {samples} training samples do not fill one batch of {batch}. Lower train.batch")))
        }
        false => Ok(()),
    }
}

/// Samples of a file that train and that validate.
#[derive(Debug, Clone)]
pub struct Sets {
    /// Numbers of the samples that train.
    pub train: Vec<usize>,
    /// Numbers of the samples that validate.
    pub validation: Vec<usize>,
    /// No training: every sample is validated on.
    pub whole: bool,
    /// Training samples as the headers tell; 0 while there is no file.
    expected: usize,
    file: PathBuf,
    share: f64,
    /// Of a split that shuffles.
    seed: Option<u64>,
    /// Share of the training samples that are used, and the seed that chooses them.
    used: (f64, u64),
    batch: usize,
    epochs: Epochs,
}

impl Sets {
    /// Of a file whose last `share` validates, after shuffling with a seed.
    pub fn new(file: &Path, share: f64, split: SplitKind, seed: u64, train: &TrainConfig) -> Self {
        let used = (train.share, seed);
        let seed = (split == SplitKind::Random).then_some(seed);
        let (batch, epochs) = (train.batch, Epochs::new(train));
        Sets { train: vec![], validation: vec![], whole: false, expected: 0, file: file.into(), share, seed, used, batch, epochs }
    }

    /// Samples of a training batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The file is said to have so many samples.
    pub fn expect(&mut self, samples: usize) {
        self.expected = share_of(training_samples(samples, self.share), self.used.0);
    }

    /// Splits so many samples.
    ///
    /// # Errors
    /// `Data` when a batch cannot be filled or nothing validates.
    pub fn take(&mut self, samples: usize) -> Result<()> {
        (self.train, self.validation) = split(samples, self.share, self.seed);
        if self.whole {
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

    /// Fails where the training samples do not fill a batch.
    ///
    /// # Errors
    /// `Data`.
    pub fn expect_batch(&self) -> Result<()> {
        if self.whole { Ok(()) } else { expect_batch(&self.file, self.expected, self.batch) }
    }

    /// Steps of an epoch.
    pub fn steps(&self) -> u64 {
        self.epochs.steps(self.expected)
    }

    /// Samples of each micro-step of a step.
    pub fn numbers(&mut self, step: u64) -> Vec<Vec<usize>> {
        let micro = self.epochs.numbers(self.train.len(), step);
        micro.into_iter().map(|numbers| numbers.into_iter().map(|n| self.train[n as usize]).collect()).collect()
    }
}
