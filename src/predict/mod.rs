//! Predictions: what a trained model gives for inputs whose targets nobody knows.
//!
//! A [`Predictor`] is opened once. It takes any number of samples, and several threads may ask it at once:
//!
//! ```no_run
//! use engine::host::Host;
//! use engine::predict::Predictor;
//!
//! let model = Predictor::open("runs/lvm_mlp".as_ref(), "best", &Host::default(), None, &[], 64)?;
//! let contexts = vec![0.0; 3 * model.fields()[0].len()];
//! std::thread::scope(|scope| {
//!     for _ in 0..4 {
//!         scope.spawn(|| model.predict(3, &[("context", &contexts)]));
//!     }
//! });
//! # Ok::<(), engine::error::Error>(())
//! ```
//!
//! [`Predictors`] are a run for inputs of every shape that its model takes, such as sequences of any length. They open a device that was
//! lost again. [`Sample`] and [`Arrays`] read and write the JSON and the `.npz` files of `engine predict`.

mod answers;
mod predictor;
mod predictors;
mod samples;

pub use answers::{Arrays, columns, expect_classes, line, most_probable, probabilities};
pub use predictor::Predictor;
pub use predictors::{Predictors, Shapes};
pub use samples::{FileInputs, Input, Sample};
