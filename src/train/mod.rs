//! Training: the start of a run, the loop over the replay of a plan, what is made of its records and validations, checkpoints, logs and the
//! closing report; and many runs. It knows no kind of run, and nothing of the command line.

mod base;
mod checkpoint;
mod fit;
mod floats;
mod folder;
mod judge;
mod logs;
mod many;
mod mirror;
mod notes;
mod options;
mod pretrained;
mod report;
mod restarts;
mod rhythm;
mod rules;
mod start;
mod tensor_file;
mod tensorboard;
mod trainer;

pub use checkpoint::{Checkpoint, Origin, Progress, Warning, Weights, export_weights, save_weights};
pub use fit::{chosen, fit};
pub use folder::{BEAT, Beat, DIVERGED, RunFolder, in_use};
pub use many::{Run, Swept, expect_met, train_many};
pub use mirror::mirrored;
pub use options::Options;
pub use pretrained::folder_of;
pub use report::Report;
pub use restarts::train_with_restarts;
pub use rules::Watch;
pub use start::{expect_rules, train};
pub use tensor_file::{Best, Header, TensorFile, write_exported};
pub use tensorboard::EventWriter;
