//! Training: plans of a run, the loop over their replay, validation, checkpoints, logs and the closing report.

mod checkpoint;
mod logs;
mod plot;
mod run;
mod session;
mod tensorboard;

pub use checkpoint::{Checkpoint, Progress, load_weights, save_weights};
pub use run::{Options, Report, RunFolder, train};
pub(crate) use run::{largest_batch, test};
pub use session::{EvalMetrics, EvalTensors, Session, TrainTensors, memory, record_evaluation, record_training};
pub use tensorboard::EventWriter;
