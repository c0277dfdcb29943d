//! How long, on how much and with which seeds a run trains; when it validates and when it saves.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::in_range;
use super::section::{Section, within};
use crate::error::{Error, Result};
use crate::plan::Recompute;

/// Number format of stored activations and their gradients. Kernels compute in 32 bits; weights, their gradients and the optimiser's state
/// are always stored in 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    #[serde(rename = "f32")]
    F32,
    /// 16-bit floats, with a loss scale that adapts to the gradients.
    #[serde(rename = "f16")]
    F16,
}

impl Precision {
    /// True for 32 bits.
    pub fn is_f32(&self) -> bool {
        *self == Precision::F32
    }
}

/// Settings of the training loop: batch size, number of epochs, seed and precision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Seed of the initial weights, of dropout and of the order of samples. The same seed gives the same run, bit for bit.
    pub seed: u64,
    /// Number of samples in a micro-batch; `accumulate` of them make an update.
    #[schemars(range(min = 1, max = 1 << 20))]
    pub batch: usize,
    /// Number of micro-batches whose gradients are added up for one update.
    #[schemars(range(min = 1, max = 1 << 16))]
    pub accumulate: usize,
    /// Part of the forward pass that the backward pass computes again, to save memory. It is `none`, `light` (what is cheap), or `full`
    /// (all between a few tensors).
    #[serde(skip_serializing_if = "Recompute::is_none")]
    #[schemars(!skip_serializing_if)]
    pub recompute: Recompute,
    /// Number format of stored activations and their gradients.
    #[serde(skip_serializing_if = "Precision::is_f32")]
    #[schemars(!skip_serializing_if)]
    pub precision: Precision,
    /// Number of epochs: passes over the samples of a file, or `steps_per_epoch` updates each on generated data.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub epochs: u64,
    /// Number of updates in an epoch of generated data. An epoch of a file visits each sample once.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub steps_per_epoch: u64,
    /// Visit the samples in a random order, another one each epoch.
    pub shuffle: bool,
    /// Leave out the samples of an epoch that do not fill a step. A step on a handful of samples can undo much just before a validation.
    pub drop_last: bool,
    /// Share of the training samples of a file that are used, the same ones whatever else changes: smaller shares are parts of larger ones.
    #[serde(skip_serializing_if = "is_whole")]
    #[schemars(!skip_serializing_if, range(max = 1), extend("exclusiveMinimum" = 0))]
    pub share: f64,
    /// Number of steps between two lines of `metrics.jsonl`.
    #[schemars(range(min = 1))]
    pub log_every: u64,
}

fn is_whole(share: &f64) -> bool {
    *share == 1.0
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            seed: 1,
            batch: 32,
            accumulate: 1,
            recompute: Recompute::None,
            precision: Precision::F32,
            epochs: 60,
            steps_per_epoch: 1000,
            shuffle: true,
            drop_last: true,
            share: 1.0,
            log_every: 100,
        }
    }
}

/// Settings of validation and early stopping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ValidationConfig {
    /// Number of steps between two validations; without it, there is one an epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub every: Option<u64>,
    /// Number of fresh sequences in each validation on generated data.
    #[schemars(range(min = 1, max = 1 << 20))]
    pub sequences: usize,
    /// The metric that chooses the best weights, and that patience and a plateau schedule follow: `loss`, or any other that a validation
    /// gives.
    pub select: String,
    /// Number of validations without improvement after which the run stops; 0 never stops early.
    pub patience: u64,
    /// Step up to which patience does not count; without it, the end of the warm-up or of the curriculum's transition, whichever is later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience_after: Option<u64>,
    /// Smallest improvement of the selected metric that resets patience. Any improvement, however small, makes the weights the best.
    #[schemars(range(min = 0))]
    pub min_delta: f64,
    /// A text that the model continues after each validation of a run on text, to look at; none without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<String>,
}

impl Default for ValidationConfig {
    fn default() -> Self {
        ValidationConfig {
            every: None,
            sequences: 100,
            select: "loss".into(),
            patience: 0,
            patience_after: None,
            min_delta: 0.001,
            sample: None,
        }
    }
}

/// Settings of the checkpoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// Number of steps between two checkpoints; without it, there is one an epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub every: Option<u64>,
    /// Number of the newest checkpoints that are kept, besides the best weights.
    #[schemars(range(min = 1, max = 1000))]
    pub keep: usize,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        CheckpointConfig { every: None, keep: 3 }
    }
}

impl TrainConfig {
    /// Number of samples in a step: batch · accumulate.
    pub fn samples(&self) -> usize {
        self.batch * self.accumulate
    }

    /// Settings of one of several processes: the batch divided by `ranks`, and `ranks` times as many micro-batches, so that a step has the
    /// same samples.
    ///
    /// # Errors
    /// `Config` where a batch cannot be divided, with numbers of processes that divide it.
    pub fn divided(&self, ranks: usize) -> Result<TrainConfig> {
        if self.batch.is_multiple_of(ranks) {
            return Ok(TrainConfig { batch: self.batch / ranks, accumulate: self.accumulate * ranks, ..self.clone() });
        }
        let mut counts: Vec<usize> = (1..=self.batch).filter(|count| self.batch.is_multiple_of(*count)).collect();
        counts.sort_by_key(|count| count.abs_diff(ranks));
        counts.truncate(4);
        counts.sort_unstable();
        let counts = counts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let batch = (self.batch / ranks).max(1) * ranks;
        Err(Error::Config(format!(
            "train.batch = {} cannot be divided among {ranks} ranks: start {counts} with mpirun -n, or use a multiple of {ranks}, such as train.batch = {batch}",
            self.batch
        )))
    }

    /// Sizes of micro-batches, at most `most`, that divide the samples of a step evenly; the largest comes first.
    pub fn micro_batches(&self, most: usize) -> impl Iterator<Item = usize> + use<> {
        let samples = self.samples();
        (1..=most.min(samples)).rev().filter(move |batch| samples.is_multiple_of(*batch))
    }
}

impl Section for TrainConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        in_range(self, "train")?;
        let (samples, steps) = (self.samples() as u64, self.steps_per_epoch);
        within(
            samples.saturating_mul(steps) < 1 << 31,
            "train.steps_per_epoch × train.batch × train.accumulate",
            (samples as f64) * steps as f64,
            "below 2^31",
        )
    }
}

impl Section for ValidationConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        in_range(self, "validation")
    }
}

impl Section for CheckpointConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        in_range(self, "checkpoint")
    }
}
