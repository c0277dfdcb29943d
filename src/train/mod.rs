//! Training: what a run learns, its plans, the loop over their replay, validation, checkpoints, logs and the closing report.

mod checkpoint;
mod compare;
mod folder;
mod images;
mod integers;
mod logs;
mod mechanisms;
mod plot;
mod rules;
mod run;
mod session;
mod task;
mod tensor_file;
mod tensorboard;
mod vectors;

pub use checkpoint::{Checkpoint, Origin, Progress, export_weights, load_weights, save_weights, weights_of};
pub use compare::{Comparison, compare};
pub use folder::RunFolder;
pub use images::ImageTask;
pub(crate) use integers::TESTED;
pub use integers::{IntegerTask, evaluate as evaluate_sequences, micro_batch};
pub(crate) use logs::progress_bar;
pub use mechanisms::{MechanismTask, Predicted, until_stop};
pub use rules::Watch;
pub use run::{Options, Report, train};
pub(crate) use run::{default_budget, largest_batch, metrics_table};
pub use session::{Session, memory};
pub use task::{
    Buffer, Column, Io, Judgement, MetricRows, Metrics, MicroBatch, Task, random_task, record_decoding, record_evaluation, record_training,
    task,
};
pub use tensor_file::Best;
pub(crate) use tensor_file::{TensorFile, write_atomically};
pub use tensorboard::EventWriter;
pub use vectors::VectorTask;
