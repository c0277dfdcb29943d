//! Training: the loop over the replay of a plan, validation, checkpoints, logs and the closing report. It knows no kind of run.

mod checkpoint;
mod compare;
mod floats;
mod folder;
mod logs;
mod plot;
mod report;
mod rules;
mod run;
mod tensor_file;
mod tensorboard;
mod trainer;

pub use checkpoint::{Checkpoint, Origin, Progress, export_weights, load_buffers, load_weights, save_weights, weights_of};
pub use compare::{Comparison, compare};
pub use folder::RunFolder;
pub(crate) use logs::progress_bar;
pub use report::Report;
pub use rules::Watch;
pub(crate) use run::default_budget;
pub use run::train;
pub use tensor_file::Best;
pub(crate) use tensor_file::{TensorFile, write_atomically};
pub use tensorboard::EventWriter;
pub use trainer::Options;
