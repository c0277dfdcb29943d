//! How a run is to be trained.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::host::Host;
use crate::ranks::Ranks;

/// Options of a training run that are not part of its configuration.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Path of the run folder.
    pub out: PathBuf,
    /// Resume from the newest valid checkpoint.
    pub resume: bool,
    /// Path of the weights to start from.
    pub init: Option<PathBuf>,
    /// Memory budget in bytes; the default is 8 GiB, or what the card has free if that is known and less.
    pub budget: Option<u64>,
    /// Adapter, by number or name.
    pub device: Option<String>,
    /// Number of steps after which the run ends, whatever the configuration says; the schedule does not change.
    pub steps: Option<u64>,
    /// Write `metrics.csv` beside `metrics.jsonl`.
    pub csv: bool,
    /// Print nothing on standard error.
    pub quiet: bool,
    /// Number of a signal that asks the run to end; 0 without one.
    pub stop: Arc<AtomicUsize>,
    /// Processes that train the run together. For all but the first, `out` is a temporary folder of their own.
    pub ranks: Ranks,
    /// Output streams and open devices.
    pub host: Host,
}

impl Options {
    /// Prints a line on standard error, on the first rank only.
    pub(crate) fn say(&self, line: &str) {
        if self.ranks.leads() {
            self.host.say(line);
        }
    }
}
