//! ONNX files, torch modules, runs for browsers. Of a trained model the recorded forward pass is translated launch by launch into a
//! graph of some thirty operations, from which both kinds of files are written. Of a training run the launches are written as they are.

mod attention;
mod elements;
mod graph;
mod launches;
mod model;
mod onnx;
mod products;
mod recurrent;
mod sequences;
mod state_space;
mod torch;
mod translation;
mod web;
#[cfg(feature = "check")]
mod web_card;
mod web_plan;
mod web_predict;
mod wgsl;

pub use model::{Exported, Part};
pub use onnx::{OnnxFile, OnnxTensor};
pub use web::WebRun;
#[cfg(feature = "check")]
pub use web_card::WebCard;
pub use web_plan::browser;
pub use web_predict::WebPrediction;
pub use wgsl::{validated, wgsl};
