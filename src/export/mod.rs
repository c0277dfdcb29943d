//! Trained models as ONNX files and torch modules. The recorded forward pass is translated launch by launch into a graph of some thirty
//! operations, from which both are written.

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

pub use model::{Exported, Part};
pub use onnx::{OnnxFile, OnnxTensor};
