//! What the operations over sequences and images are in ONNX.

use std::f64::consts::PI;

use super::super::graph::{Cell, Node, Op, Phases};
use super::file::{Property, Writer};
use super::schema::{DOUBLE, FLOAT, TensorProto};
use crate::error::Result;

impl Writer<'_> {
    /// An LSTM or a GRU: gates in ONNX's order, and both biases as one.
    pub(super) fn recurrent(&mut self, cell: Cell, node: &Node, out: &str) -> Result<()> {
        // PyTorch's gates i, f, g, o as i, o, f, g, and r, z, n as z, r, n.
        let order: &[usize] = if cell == Cell::Lstm { &[0, 3, 1, 2] } else { &[1, 0, 2] };
        let units = self.of.graph.shape(node.inputs[2])[1];
        let gates = |numbers: &[f32], row: usize| -> Vec<f32> {
            order.iter().flat_map(|gate| numbers[gate * units * row..(gate + 1) * units * row].to_vec()).collect()
        };
        let features = self.of.graph.shape(node.inputs[1])[1];
        let w = gates(self.of.numbers(node.inputs[1])?, features);
        let r = gates(self.of.numbers(node.inputs[2])?, units);
        let b = [gates(self.of.numbers(node.inputs[3])?, 1), gates(self.of.numbers(node.inputs[4])?, 1)].concat();
        let rows = cell.gates() * units;
        let layer = node.layer.as_str();
        let w = self.trained(&format!("{layer}.W"), &[1, rows, features], &w);
        let r = self.trained(&format!("{layer}.R"), &[1, rows, units], &r);
        let b = self.trained(&format!("{layer}.B"), &[1, 2 * rows], &b);
        let x = self.name(node.inputs[0])?;
        let size = ("hidden_size", Property::Int(units as i64));
        let all = match cell {
            Cell::Lstm => self.step("LSTM", &[&x, &w, &r, &b], &[size], out),
            Cell::Gru => self.step("GRU", &[&x, &w, &r, &b], &[size, ("linear_before_reset", Property::Int(1))], out),
        };
        // (time, directions, batch, units).
        let direction = self.integers(&[1], out);
        self.plain("Squeeze", &[&all, &direction], out);
        Ok(())
    }

    /// softmax(q·kᵀ / √d + mask)·v.
    pub(super) fn attention(&mut self, inputs: &[&str], causal: bool, node: &Node, out: &str) {
        let d = self.of.graph.shape(node.inputs[0]).last().copied().unwrap_or(1);
        let scale = self.number(1.0 / (d as f64).sqrt(), out);
        let k = self.step("Transpose", &[inputs[1]], &[("perm", Property::Ints(&[0, 1, 3, 2]))], out);
        let products = self.step("MatMul", &[inputs[0], &k], &[], out);
        let mut scores = self.step("Mul", &[&products, &scale], &[], out);
        if causal {
            let shape = self.step("Shape", &[&scores], &[], out);
            let raw_data = f32::NEG_INFINITY.to_le_bytes().to_vec();
            let never = TensorProto { dims: vec![1], data_type: FLOAT, name: String::new(), raw_data };
            let never = self.step("ConstantOfShape", &[&shape], &[("value", Property::Tensor(never))], out);
            let above = match [0, 1].map(|i| self.of.graph.shape(node.inputs[i])[2]) {
                [queries, keys] if queries == keys => self.integer(1, out),
                // The first query sees all past positions and its own.
                _ => {
                    let one = self.integer(1, out);
                    let [queries, keys] = [0, 1].map(|i| self.length(inputs[i], 2, out));
                    let past = self.step("Sub", &[&keys, &queries], &[], out);
                    self.step("Add", &[&past, &one], &[], out)
                }
            };
            let later = self.step("Trilu", &[&never, &above], &[("upper", Property::Int(1))], out);
            scores = self.step("Add", &[&scores, &later], &[], out);
        }
        let weights = self.step("Softmax", &[&scores], &[("axis", Property::Int(-1))], out);
        self.plain("MatMul", &[&weights, inputs[2]], out);
    }

    /// Length of an axis.
    fn length(&mut self, x: &str, axis: i64, near: &str) -> String {
        let shape = self.step("Shape", &[x], &[], near);
        let axis = self.integer(axis, near);
        self.step("Gather", &[&shape, &axis], &[("axis", Property::Int(0))], near)
    }

    /// Convolutions, pooling and upsampling, for which ONNX has channels before places.
    pub(super) fn images(&mut self, node: &Node, inputs: &[&str], out: &str) {
        let axes = self.of.graph.shape(node.inputs[0]).len() as i64;
        let first: Vec<i64> = [0, axes - 1].into_iter().chain(1..axes - 1).collect();
        let last: Vec<i64> = [0].into_iter().chain(2..axes).chain([1]).collect();
        let x = self.step("Transpose", &[inputs[0]], &[("perm", Property::Ints(&first))], out);
        let y = match &node.op {
            Op::Conv1d { dilation, before, after, groups } => {
                let pads = [*before as i64, *after as i64];
                let properties = [
                    ("dilations", Property::Ints(&[*dilation as i64])),
                    ("group", Property::Int(*groups as i64)),
                    ("pads", Property::Ints(&pads)),
                ];
                self.step("Conv", &[&x, inputs[1], inputs[2]], &properties, out)
            }
            Op::Conv2d => {
                let kernel = self.of.graph.shape(node.inputs[1])[2] as i64;
                self.step("Conv", &[&x, inputs[1], inputs[2]], &[("pads", Property::Ints(&[kernel / 2; 4]))], out)
            }
            Op::MaxPool => {
                let two = [2, 2];
                self.step("MaxPool", &[&x], &[("kernel_shape", Property::Ints(&two)), ("strides", Property::Ints(&two))], out)
            }
            _ => {
                let scales: Vec<u8> = [1f32, 1.0, 2.0, 2.0].iter().flat_map(|scale| scale.to_le_bytes()).collect();
                let name = self.unused(&format!("{out}:scales"));
                let scales = self.tensor(&name, &[4], FLOAT, scales);
                let how = [("coordinate_transformation_mode", "asymmetric"), ("mode", "nearest"), ("nearest_mode", "floor")];
                self.step("Resize", &[&x, "", &scales], &how.map(|(name, text)| (name, Property::Text(text))), out)
            }
        };
        self.op("Transpose", &[&y], &[("perm", Property::Ints(&last))], out);
    }

    /// Sines and cosines of phases in 64 bits.
    pub(super) fn fourier(&mut self, phases: &Phases, inputs: &[&str], node: &Node, out: &str) {
        let wide = [("to", Property::Int(DOUBLE.into()))];
        let x = self.step("Cast", &[inputs[0]], &wide, out);
        let (angles, turns) = match phases {
            Phases::HalfTurns(numbers) | Phases::Radians(numbers) => {
                let axes = self.integers(&[-1], out);
                let x = self.step("Unsqueeze", &[&x, &axes], &[], out);
                let numbers = self.doubles(numbers, out);
                (self.step("Mul", &[&x, &numbers], &[], out), matches!(phases, Phases::HalfTurns(_)))
            }
            Phases::Random => {
                let b = self.step("Cast", &[inputs[1]], &wide, out);
                let products = self.step("MatMul", &[&x, &b], &[], out);
                let two = self.doubles(&[2.0], out);
                (self.step("Mul", &[&products, &two], &[], out), true)
            }
        };
        let angles = if turns {
            let two = self.doubles(&[2.0], out);
            let rest = self.step("Mod", &[&angles, &two], &[("fmod", Property::Int(1))], out);
            let pi = self.doubles(&[PI], out);
            self.step("Mul", &[&rest, &pi], &[], out)
        } else {
            angles
        };
        let sines = self.step("Sin", &[&angles], &[], out);
        let cosines = self.step("Cos", &[&angles], &[], out);
        let both = self.step("Concat", &[&sines, &cosines], &[("axis", Property::Int(-1))], out);
        let both = self.step("Cast", &[&both], &[("to", Property::Int(FLOAT.into()))], out);
        let shape = self.of.graph.shape(node.output);
        let mut to = vec![0; shape.len() - 1];
        to.push(shape[shape.len() - 1] as i64);
        let to = self.integers(&to, out);
        self.plain("Reshape", &[&both, &to], out);
    }

    /// What depends on integers: rows of tables, and lengths of sequences.
    pub(super) fn by_integers(&mut self, node: &Node, inputs: &[&str], out: &str) {
        match &node.op {
            Op::Rows => self.plain("Gather", inputs, out),
            Op::Placed(axis) => {
                let (new, past) = (self.length(inputs[1], 1, out), self.length(inputs[2], 2, out));
                // ONNX Runtime makes a slice of a range alone, which leaves out what is beyond the table in silence.
                let (zero, one) = (self.integer(0, out), self.integer(1, out));
                let places = self.step("Range", &[&zero, &new, &one], &[], out);
                let places = self.step("Add", &[&places, &past], &[], out);
                self.op("Gather", &[inputs[0], &places], &[("axis", Property::Int(*axis as i64))], out);
            }
            Op::Reverse(time) => {
                let (time, batch) = (*time as i64, 1 - *time as i64);
                self.op("ReverseSequence", inputs, &[("time_axis", Property::Int(time)), ("batch_axis", Property::Int(batch))], out);
            }
            Op::LastOf => {
                let one = self.integer(1, out);
                let at = self.step("Sub", &[inputs[1], &one], &[], out);
                let axes = self.integers(&[1], out);
                let at = self.step("Unsqueeze", &[&at, &axes], &[], out);
                self.op("GatherND", &[inputs[0], &at], &[("batch_dims", Property::Int(1))], out);
            }
            Op::Masked(fill) => {
                let (zero, one) = (self.integer(0, out), self.integer(1, out));
                let length = self.length(inputs[0], 1, out);
                let places = self.step("Range", &[&zero, &length, &one], &[], out);
                let column = self.integers(&[1], out);
                let lengths = self.step("Unsqueeze", &[inputs[1], &column], &[], out);
                let mask = self.step("Less", &[&places, &lengths], &[], out);
                let axes: Vec<i64> = (2..self.of.graph.shape(node.inputs[0]).len() as i64).collect();
                let axes = self.integers(&axes, out);
                let mask = self.step("Unsqueeze", &[&mask, &axes], &[], out);
                let fill = self.number(f64::from(*fill), out);
                self.plain("Where", &[&mask, inputs[0], &fill], out);
            }
            _ => self.plain("Identity", inputs, out),
        }
    }
}
