//! An ONNX file as `engine inspect` shows it.

use std::path::Path;

use prost::Message;

use super::schema::{DimensionValue, ModelProto, ValueInfoProto};
use crate::error::{Error, Result};
use crate::files;

/// Largest file that is looked at: a protobuf message is shorter.
const LONGEST: u64 = i32::MAX as u64;

/// An input, an output or a weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnnxTensor {
    /// Name.
    pub name: String,
    /// Lengths of the axes; a name stands for any length.
    pub shape: Vec<String>,
    /// Number of the element type in ONNX: 1 for 32-bit floats, 7 for 64-bit integers, 10 for 16-bit floats.
    pub kind: i32,
    /// Bytes of the numbers in the file.
    pub bytes: usize,
}

/// What an ONNX file holds.
#[derive(Debug, Clone)]
pub struct OnnxFile {
    /// Version of the operators.
    pub opset: i64,
    /// Program that wrote it, with its version.
    pub producer: String,
    /// Inputs.
    pub inputs: Vec<OnnxTensor>,
    /// Outputs.
    pub outputs: Vec<OnnxTensor>,
    /// Weights and other constants.
    pub weights: Vec<OnnxTensor>,
    /// Kinds of its operations, one for each.
    pub operations: Vec<String>,
    /// What it says about itself, by key.
    pub about: Vec<(String, String)>,
}

impl OnnxFile {
    /// Reads a file.
    ///
    /// # Errors
    /// `MissingInput` without the file, `Data` for one that is no ONNX file.
    pub fn open(path: &Path) -> Result<OnnxFile> {
        let bytes = files::bytes(path, LONGEST).map_err(|e| Error::read(path, e))?;
        let damaged = |why: &str| Error::Data(format!("{} is no usable ONNX file: {why}", path.display()));
        let model = ModelProto::decode(&bytes[..]).map_err(|e| damaged(&e.to_string()))?;
        let graph = model.graph.ok_or_else(|| damaged("it has no graph"))?;
        let weight = |tensor: super::schema::TensorProto| OnnxTensor {
            name: tensor.name,
            shape: tensor.dims.iter().map(i64::to_string).collect(),
            kind: tensor.data_type,
            bytes: tensor.raw_data.len(),
        };
        Ok(OnnxFile {
            opset: model.opset_import.iter().find(|opset| opset.domain.is_empty()).map_or(0, |opset| opset.version),
            producer: format!("{} {}", model.producer_name, model.producer_version).trim().into(),
            inputs: graph.input.into_iter().map(described).collect(),
            outputs: graph.output.into_iter().map(described).collect(),
            weights: graph.initializer.into_iter().map(weight).collect(),
            operations: graph.node.into_iter().map(|node| node.op_type).collect(),
            about: model.metadata_props.into_iter().map(|entry| (entry.key, entry.value)).collect(),
        })
    }
}

fn described(value: ValueInfoProto) -> OnnxTensor {
    let tensor = value.r#type.and_then(|kind| kind.tensor_type).unwrap_or_default();
    let dimension = |value: Option<DimensionValue>| match value {
        Some(DimensionValue::Value(length)) => length.to_string(),
        Some(DimensionValue::Param(name)) => name,
        None => "?".into(),
    };
    let shape = tensor.shape.unwrap_or_default().dim.into_iter().map(|dim| dimension(dim.value)).collect();
    OnnxTensor { name: value.name, shape, kind: tensor.elem_type, bytes: 0 }
}
