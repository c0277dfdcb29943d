//! What the compiler of AMD cards makes of the kernels, and how long the steps of a run take by that. No card is needed.

mod assembly;
mod compiler;
mod prediction;

pub use assembly::{Code, Latency, Mix};
pub use compiler::{Compiled, Compiler, environment, is_environment_of};
pub use prediction::{Bound, Predicted, Prediction, Variant, predict};
