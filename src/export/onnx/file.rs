//! The graph as an ONNX file, opset 17.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use prost::Message;

use super::super::graph::{Binary, Dimension, Node, Numbers, Op, Value};
use super::super::model::Exported;
use super::schema::{
    AttributeProto, DOUBLE, DimensionProto, DimensionValue, FLOAT, FLOAT16, GraphProto, INT64, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto, attribute,
};
use crate::error::{Error, Result};
use crate::files;

/// Version of the operators that are used.
const OPSET: i64 = 17;
/// Version of the format that came with them.
const IR_VERSION: i64 = 8;
/// A protobuf message is shorter than this.
const LONGEST: usize = i32::MAX as usize;

impl Exported {
    /// Writes the model as an ONNX file, with its weights as 32-bit floats or as 16-bit ones that the graph turns into 32 bits.
    ///
    /// # Errors
    /// `Config` for weights of 2 GiB or more, `Io` when the file cannot be written.
    pub fn write_onnx(&self, path: &Path, half: bool) -> Result<()> {
        let bytes = self.numbers_of_weights() * if half { 2 } else { 4 };
        if bytes > LONGEST - (64 << 20) {
            return Err(Error::Config(format!(
                "{} weights take {bytes} bytes, an ONNX file has at most 2 GiB: export them with --f16, or as .safetensors",
                self.numbers_of_weights()
            )));
        }
        if half {
            for (value, _) in &self.graph.weights {
                if let Some(large) = self.numbers(*value)?.iter().find(|number| number.abs() > ::half::f16::MAX.to_f32()) {
                    let name = &self.graph.info(*value).name;
                    return Err(Error::Config(format!("{name} has {large}, and 16-bit floats end at 65,504: leave --f16 out")));
                }
            }
        }
        files::write(path, &self.onnx(half)?.encode_to_vec())
    }

    fn onnx(&self, half: bool) -> Result<ModelProto> {
        let names = self.graph.values.iter().map(|info| info.name.clone()).collect();
        let mut writer = Writer {
            of: self,
            half,
            names,
            proto: GraphProto { name: "engine".into(), ..GraphProto::default() },
            written: BTreeMap::new(),
        };
        for node in &self.graph.nodes {
            writer.node(node)?;
        }
        let mut graph = writer.proto;
        graph.input = self.graph.inputs.iter().map(|value| self.described(*value)).collect();
        graph.output = self.graph.outputs.iter().map(|value| self.described(*value)).collect();
        let entry = |(key, value): &(String, String)| StringStringEntryProto { key: key.clone(), value: value.clone() };
        Ok(ModelProto {
            ir_version: IR_VERSION,
            producer_name: "engine".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            graph: Some(graph),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
            metadata_props: self.about.iter().map(entry).collect(),
        })
    }

    fn described(&self, value: Value) -> ValueInfoProto {
        let dimension = |dimension: Dimension| DimensionProto {
            value: Some(match dimension {
                Dimension::Fixed(length) => DimensionValue::Value(length as i64),
                Dimension::Any(name) => DimensionValue::Param(name),
            }),
        };
        let shape = TensorShapeProto { dim: self.graph.dimensions(value).into_iter().map(dimension).collect() };
        let elem_type = if self.graph.info(value).integer { INT64 } else { FLOAT };
        let tensor_type = Some(TensorTypeProto { elem_type, shape: Some(shape) });
        ValueInfoProto { name: self.graph.info(value).name.clone(), r#type: Some(TypeProto { tensor_type }) }
    }
}

/// Properties of an operation, by name.
pub(super) enum Property<'a> {
    Int(i64),
    Ints(&'a [i64]),
    Float(f64),
    Text(&'a str),
    Tensor(TensorProto),
}

/// The file while it is written.
pub(super) struct Writer<'a> {
    pub(super) of: &'a Exported,
    half: bool,
    names: BTreeSet<String>,
    pub(super) proto: GraphProto,
    /// Names under which weights can be read.
    written: BTreeMap<Value, String>,
}

impl Writer<'_> {
    /// A name that nothing has yet.
    pub(super) fn unused(&mut self, wanted: &str) -> String {
        let names = (0..).map(|i| if i == 0 { wanted.to_string() } else { format!("{wanted}_{i}") });
        let found = names.into_iter().find(|name| !self.names.contains(name)).unwrap_or_default();
        self.names.insert(found.clone());
        found
    }

    /// Appends an operation and gives the name of its result.
    pub(super) fn op(&mut self, kind: &str, inputs: &[&str], properties: &[(&str, Property<'_>)], output: &str) -> String {
        let attribute = properties.iter().map(|(name, property)| {
            let proto = AttributeProto { name: (*name).into(), ..AttributeProto::default() };
            match property {
                Property::Int(i) => AttributeProto { i: Some(*i), r#type: attribute::INT, ..proto },
                Property::Ints(ints) => AttributeProto { ints: ints.to_vec(), r#type: attribute::INTS, ..proto },
                Property::Float(f) => AttributeProto { f: Some(*f as f32), r#type: attribute::FLOAT, ..proto },
                Property::Text(s) => AttributeProto { s: Some(s.as_bytes().to_vec()), r#type: attribute::STRING, ..proto },
                Property::Tensor(t) => AttributeProto { t: Some(t.clone()), r#type: attribute::TENSOR, ..proto },
            }
        });
        let (input, name) = (inputs.iter().map(|name| name.to_string()).collect(), format!("{output}:{kind}"));
        let attribute = attribute.collect();
        self.proto.node.push(NodeProto { input, output: vec![output.into()], name, op_type: kind.into(), attribute });
        output.into()
    }

    /// Appends an operation whose result has a name of its own.
    pub(super) fn step(&mut self, kind: &str, inputs: &[&str], properties: &[(&str, Property<'_>)], near: &str) -> String {
        let output = self.unused(&format!("{near}:{}", kind.to_lowercase()));
        self.op(kind, inputs, properties, &output)
    }

    pub(super) fn tensor(&mut self, name: &str, dims: &[usize], data_type: i32, raw_data: Vec<u8>) -> String {
        let dims = dims.iter().map(|length| *length as i64).collect();
        self.proto.initializer.push(TensorProto { dims, data_type, name: name.into(), raw_data });
        name.into()
    }

    /// A list of integers that an operation takes as an input.
    pub(super) fn integers(&mut self, values: &[i64], near: &str) -> String {
        let name = self.unused(&format!("{near}:integers"));
        self.tensor(&name, &[values.len()], INT64, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    /// One integer.
    pub(super) fn integer(&mut self, value: i64, near: &str) -> String {
        let name = self.unused(&format!("{near}:integer"));
        self.tensor(&name, &[], INT64, value.to_le_bytes().to_vec())
    }

    /// One number.
    pub(super) fn number(&mut self, value: f64, near: &str) -> String {
        let name = self.unused(&format!("{near}:number"));
        self.tensor(&name, &[], FLOAT, (value as f32).to_le_bytes().to_vec())
    }

    pub(super) fn doubles(&mut self, values: &[f64], near: &str) -> String {
        let name = self.unused(&format!("{near}:doubles"));
        self.tensor(&name, &[values.len()], DOUBLE, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    /// Trained numbers, as they are stored, and the name under which they can be read as 32-bit floats.
    pub(super) fn trained(&mut self, name: &str, dims: &[usize], numbers: &[f32]) -> String {
        if !self.half {
            return self.tensor(name, dims, FLOAT, bytemuck::cast_slice(numbers).to_vec());
        }
        let halves = numbers.iter().flat_map(|number| half::f16::from_f32(*number).to_le_bytes()).collect();
        let stored = self.tensor(name, dims, FLOAT16, halves);
        self.step("Cast", &[&stored], &[("to", Property::Int(FLOAT.into()))], name)
    }

    /// Name of a value; weights are written when they are first read.
    pub(super) fn name(&mut self, value: Value) -> Result<String> {
        let info = self.of.graph.info(value);
        let Some((_, numbers)) = self.of.graph.weights.iter().find(|(weight, _)| *weight == value) else { return Ok(info.name.clone()) };
        if let Some(written) = self.written.get(&value) {
            return Ok(written.clone());
        }
        let values = self.of.numbers(value)?;
        let name = match numbers {
            Numbers::Flat(_) => self.trained(&info.name, &info.shape, values),
            _ => self.tensor(&info.name, &info.shape, FLOAT, bytemuck::cast_slice(values).to_vec()),
        };
        self.written.insert(value, name.clone());
        Ok(name)
    }

    pub(super) fn node(&mut self, node: &Node) -> Result<()> {
        let out = self.of.graph.info(node.output).name.clone();
        if let Op::Recurrent(cell) = node.op {
            return self.recurrent(cell, node, &out);
        }
        let names = node.inputs.iter().map(|value| self.name(*value)).collect::<Result<Vec<_>>>()?;
        let inputs: Vec<&str> = names.iter().map(String::as_str).collect();
        match &node.op {
            Op::Linear => self.linear(&inputs, &out),
            Op::MatMul => self.plain("MatMul", &inputs, &out),
            Op::Binary(Binary::Add) => self.plain("Add", &inputs, &out),
            Op::Binary(Binary::Sub) => self.plain("Sub", &inputs, &out),
            Op::Binary(Binary::Mul) => self.plain("Mul", &inputs, &out),
            Op::Binary(Binary::Div) => self.plain("Div", &inputs, &out),
            Op::Activate(kind) => self.activation(*kind, inputs[0], &out),
            Op::Exp => self.plain("Exp", &inputs, &out),
            Op::Neg => self.plain("Neg", &inputs, &out),
            Op::Softplus => self.plain("Softplus", &inputs, &out),
            Op::Float => {
                self.op("Cast", &inputs, &[("to", Property::Int(FLOAT.into()))], &out);
            }
            Op::LayerNorm(_) | Op::Rms(_) | Op::Unit | Op::Scaled => self.normalisation(&node.op, &inputs, &out),
            Op::Softmax(axis) => {
                self.op("Softmax", &inputs, &[("axis", Property::Int(*axis as i64))], &out);
            }
            Op::Sum(axis) => {
                let axes = self.integers(&[*axis as i64], &out);
                self.op("ReduceSum", &[inputs[0], &axes], &[("keepdims", Property::Int(0))], &out);
            }
            Op::Mean(axis) => {
                let axes = [*axis as i64];
                self.op("ReduceMean", &inputs, &[("axes", Property::Ints(&axes)), ("keepdims", Property::Int(0))], &out);
            }
            Op::CumSum(axis) => {
                let axis = self.integer(*axis as i64, &out);
                self.op("CumSum", &[inputs[0], &axis], &[], &out);
            }
            Op::Attention(causal) => self.attention(&inputs, *causal, node, &out),
            Op::Conv1d { .. } | Op::Conv2d | Op::MaxPool | Op::Upsample => self.images(node, &inputs, &out),
            Op::Fourier(phases) => self.fourier(phases, &inputs, node, &out),
            Op::Rows | Op::Placed(_) | Op::LastOf | Op::Masked(_) | Op::Reverse(_) => self.by_integers(node, &inputs, &out),
            _ => self.axes(node, &inputs, &out),
        }
        Ok(())
    }

    pub(super) fn plain(&mut self, kind: &str, inputs: &[&str], out: &str) {
        self.op(kind, inputs, &[], out);
    }
}
