//! What the simple operations are in ONNX.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use super::super::graph::{Node, Op};
use super::file::{Property, Writer};
use super::schema::{DOUBLE, FLOAT};
use crate::kernels::matmul::Activation;

/// The type that numbers are turned into.
fn to_type(kind: i32) -> (&'static str, Property<'static>) {
    ("to", Property::Int(kind.into()))
}

impl Writer<'_> {
    /// x·Wᵀ + b.
    pub(super) fn linear(&mut self, inputs: &[&str], out: &str) {
        let w = self.step("Transpose", &[inputs[1]], &[("perm", Property::Ints(&[1, 0]))], inputs[1]);
        match inputs.get(2) {
            Some(bias) => {
                let product = self.step("MatMul", &[inputs[0], &w], &[], out);
                self.op("Add", &[&product, bias], &[], out);
            }
            None => self.plain("MatMul", &[inputs[0], &w], out),
        }
    }

    pub(super) fn activation(&mut self, kind: Activation, x: &str, out: &str) {
        match kind {
            Activation::Identity => self.plain("Identity", &[x], out),
            Activation::Relu => self.plain("Relu", &[x], out),
            Activation::Sigmoid => self.plain("Sigmoid", &[x], out),
            Activation::Tanh => self.plain("Tanh", &[x], out),
            Activation::Silu => {
                let gate = self.step("Sigmoid", &[x], &[], out);
                self.plain("Mul", &[x, &gate], out);
            }
            Activation::Gelu => {
                let root = self.number(FRAC_1_SQRT_2, out);
                let scaled = self.step("Mul", &[x, &root], &[], out);
                let erf = self.step("Erf", &[&scaled], &[], out);
                self.gate_by_half(x, &erf, out);
            }
            Activation::GeluTanh => {
                let (root, cubic) = (self.number((2.0 / PI).sqrt(), out), self.number(0.044715, out));
                let square = self.step("Mul", &[x, x], &[], out);
                let cube = self.step("Mul", &[&square, x], &[], out);
                let bent = self.step("Mul", &[&cube, &cubic], &[], out);
                let sum = self.step("Add", &[x, &bent], &[], out);
                let scaled = self.step("Mul", &[&sum, &root], &[], out);
                let tanh = self.step("Tanh", &[&scaled], &[], out);
                self.gate_by_half(x, &tanh, out);
            }
        }
    }

    /// x (1 + gate) / 2.
    fn gate_by_half(&mut self, x: &str, gate: &str, out: &str) {
        let (one, half) = (self.number(1.0, out), self.number(0.5, out));
        let gate = self.step("Add", &[gate, &one], &[], out);
        let gated = self.step("Mul", &[x, &gate], &[], out);
        self.plain("Mul", &[&gated, &half], out);
    }

    pub(super) fn normalisation(&mut self, op: &Op, inputs: &[&str], out: &str) {
        let last = [("axes", Property::Ints(&[-1])), ("keepdims", Property::Int(1))];
        match op {
            Op::LayerNorm(eps) => {
                self.op("LayerNormalization", inputs, &[("axis", Property::Int(-1)), ("epsilon", Property::Float(*eps))], out);
            }
            Op::Scaled => {
                let wide = [to_type(DOUBLE)];
                let [x, mean, deviation] = [0, 1, 2].map(|i| self.step("Cast", &[inputs[i]], &wide, out));
                let centred = self.step("Sub", &[&x, &mean], &[], out);
                let scaled = self.step("Div", &[&centred, &deviation], &[], out);
                self.op("Cast", &[&scaled], &[to_type(FLOAT)], out);
            }
            Op::Rms(eps) => {
                let square = self.step("Mul", &[inputs[0], inputs[0]], &[], out);
                let mean = self.step("ReduceMean", &[&square], &last, out);
                let eps = self.number(*eps, out);
                let sum = self.step("Add", &[&mean, &eps], &[], out);
                let root = self.step("Sqrt", &[&sum], &[], out);
                self.plain("Div", &[inputs[0], &root], out);
            }
            _ => {
                let norm = self.step("ReduceL2", &[inputs[0]], &last, out);
                let least = self.number(1e-12, out);
                let norm = self.step("Max", &[&norm, &least], &[], out);
                self.plain("Div", &[inputs[0], &norm], out);
            }
        }
    }

    /// What changes axes alone.
    pub(super) fn axes(&mut self, node: &Node, inputs: &[&str], out: &str) {
        let x = inputs[0];
        match &node.op {
            Op::Reshape(to) => {
                let to = self.integers(to, out);
                self.plain("Reshape", &[x, &to], out);
            }
            Op::Permute(order) => {
                let order: Vec<i64> = order.iter().map(|axis| *axis as i64).collect();
                self.op("Transpose", &[x], &[("perm", Property::Ints(&order))], out);
            }
            Op::Unsqueeze(axis) => {
                let axes = self.integers(&[*axis as i64], out);
                self.plain("Unsqueeze", &[x, &axes], out);
            }
            Op::Concat(axis) => {
                self.op("Concat", inputs, &[("axis", Property::Int(*axis as i64))], out);
            }
            Op::Slice(axis, from, to) => self.slice(x, [*axis as i64, *from, if *to == -1 { i64::MAX } else { *to }, 1], out),
            Op::Flip(axis) => self.slice(x, [*axis as i64, -1, i64::MIN, -1], out),
            Op::Take(axis, at) => {
                let at = self.integer(*at, out);
                self.op("Gather", &[x, &at], &[("axis", Property::Int(*axis as i64))], out);
            }
            Op::Pad(axis, before, after) => {
                let axes = self.of.graph.shape(node.inputs[0]).len();
                let mut pads = vec![0; 2 * axes];
                (pads[*axis], pads[axes + *axis]) = (*before as i64, *after as i64);
                let pads = self.integers(&pads, out);
                self.plain("Pad", &[x, &pads], out);
            }
            Op::ExpandAs => {
                let shape = self.step("Shape", &[inputs[1]], &[], out);
                self.plain("Expand", &[x, &shape], out);
            }
            _ => self.plain("Identity", &[x], out),
        }
    }

    fn slice(&mut self, x: &str, [axis, from, to, step]: [i64; 4], out: &str) {
        let [from, to, axis, step] = [from, to, axis, step].map(|value| self.integers(&[value], out));
        self.plain("Slice", &[x, &from, &to, &axis, &step], out);
    }
}
