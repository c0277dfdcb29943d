//! ONNX files: written from the graph, and read for what they say about themselves.

mod file;
mod look;
mod operators;
mod schema;
mod sequences;

pub use look::{OnnxFile, OnnxTensor};
