//! Training: the loop over the replay of a plan, validation, checkpoints, logs and the closing report. It knows no kind of run.

mod checkpoint;
#[cfg(feature = "cli")]
mod fit;
mod floats;
mod folder;
mod logs;
mod many;
#[cfg(feature = "cli")]
mod mirror;
mod progress;
mod report;
mod restarts;
mod rules;
mod run;
mod tensor_file;
mod tensorboard;
mod trainer;

pub use checkpoint::{Checkpoint, Origin, Progress, Warning, Weights, export_weights, save_weights};
#[cfg(feature = "cli")]
pub(crate) use fit::fit;
pub use folder::RunFolder;
#[cfg(feature = "cli")]
pub(crate) use folder::{DIVERGED, beat, in_use};
#[cfg(feature = "cli")]
pub(crate) use many::expect_met;
pub use many::{Run, Swept, train_many};
#[cfg(feature = "cli")]
pub(crate) use mirror::mirrored;
#[cfg(feature = "cli")]
pub(crate) use progress::Bar;
pub use report::Report;
pub use restarts::train_with_restarts;
pub use rules::Watch;
#[cfg(feature = "cli")]
pub(crate) use run::expect_rules;
pub use run::train;
pub use tensor_file::Best;
#[cfg(feature = "cli")]
pub(crate) use tensor_file::{TensorFile, write_atomically};
pub use tensorboard::EventWriter;
pub use trainer::Options;
