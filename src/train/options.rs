//! How a run is to be trained.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::host::Host;
use crate::ranks::Ranks;

/// How to run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Run folder.
    pub out: PathBuf,
    /// Go on from the newest valid checkpoint.
    pub resume: bool,
    /// Weights to start from.
    pub init: Option<PathBuf>,
    /// Memory budget in bytes; the default is 8 GiB, or what the card has free if that is known and less.
    pub budget: Option<u64>,
    /// Adapter by number or name.
    pub device: Option<String>,
    /// End after this many steps, whatever the configuration says; its schedule stays.
    pub steps: Option<u64>,
    /// Write `metrics.csv` beside `metrics.jsonl`.
    pub csv: bool,
    /// Say nothing on standard error.
    pub quiet: bool,
    /// Set to the number of a signal that asks for an end.
    pub stop: Arc<AtomicUsize>,
    /// The processes that train the run together. All but the first have a folder of their own in `out`, which is nobody's result.
    pub ranks: Ranks,
    /// Where it speaks, and the devices that are open.
    pub host: Host,
}

impl Options {
    /// A line on standard error, of the first rank.
    pub(crate) fn say(&self, line: &str) {
        if self.ranks.leads() {
            self.host.say(line);
        }
    }
}
