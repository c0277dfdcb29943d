//! The steps of a run at which something happens.

use crate::config::Settings;

/// Steps between events that happen once an epoch unless the configuration says otherwise.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rhythm {
    pub(super) epoch: u64,
    pub(super) validate: u64,
    pub(super) save: u64,
    /// Step after which patience counts.
    pub(super) patience_after: u64,
    /// Step at which the schedule ends.
    pub(super) total: u64,
    /// Step at which the run ends if nothing ends it before.
    pub(super) end: u64,
}

impl Rhythm {
    /// Of epochs of so many steps, a curriculum of so many epochs, and a command that may end the run after some steps.
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

    /// Epoch of a step that was done, from 1.
    pub(super) fn epoch_of(&self, step: u64) -> u64 {
        step.saturating_sub(1) / self.epoch + 1
    }
}
