//! The steps of a run at which something happens.

use crate::config::Settings;

/// Numbers of steps between events of a run (epoch, validation, checkpoint), and steps at which others happen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rhythm {
    pub(super) epoch: u64,
    pub(super) validate: u64,
    pub(super) save: u64,
    /// Step after which validations count for patience.
    pub(super) patience_after: u64,
    /// Step at which the schedule ends.
    pub(super) total: u64,
    /// Step at which the run ends, if nothing ends it before.
    pub(super) end: u64,
}

impl Rhythm {
    /// The rhythm of a run with epochs and a curriculum of these lengths; a command may end it after `steps` steps.
    pub(super) fn new(config: &Settings, epoch: u64, curriculum_epochs: f64, steps: Option<u64>) -> Rhythm {
        let total = config.train.epochs.saturating_mul(epoch);
        // Until warm-up and curriculum are over, a validation without improvement says little.
        let settled = config.schedule.warmup(epoch, config.train.epochs).max((curriculum_epochs * epoch as f64).ceil() as u64);
        Rhythm {
            epoch,
            validate: config.validation.every.unwrap_or(epoch),
            save: config.checkpoint.every.unwrap_or(epoch),
            patience_after: config.validation.patience_after.unwrap_or(settled),
            total,
            end: steps.unwrap_or(u64::MAX).min(total),
        }
    }

    /// Epoch of a step, both counted from 1.
    pub(super) fn epoch_of(&self, step: u64) -> u64 {
        step.saturating_sub(1) / self.epoch + 1
    }
}
