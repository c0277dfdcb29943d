//! A model as a graph of tensor operations: what both the ONNX file and the torch module are written from.

use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Display, Formatter};
use std::ops::Range;

use crate::error::{Error, Result};
use crate::kernels::matmul::Activation;

/// Handle of a value of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Value(pub(super) usize);

/// Sums, differences, products and quotients, element by element; the shorter shape is repeated as NumPy does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
}

/// Cells of recurrent layers, with PyTorch's order of gates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cell {
    /// Gates i, f, g, o.
    Lstm,
    /// Gates r, z, n.
    Gru,
}

impl Cell {
    pub(super) fn gates(self) -> usize {
        match self {
            Cell::Lstm => 4,
            Cell::Gru => 3,
        }
    }
}

/// Operations. Axes count from the front; shapes in the comments are those of the inputs.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Op {
    /// x·Wᵀ + b of x (…, n), W (m, n) and, if given, b (m).
    Linear,
    /// Product of the last two axes; those before them are repeated as NumPy does it.
    MatMul,
    /// Two numbers at a time.
    Binary(Binary),
    /// An activation.
    Activate(Activation),
    /// eˣ.
    Exp,
    /// −x.
    Neg,
    /// ln(1 + eˣ).
    Softplus,
    /// Numbers of integers.
    Float,
    /// (x − mean) / √(variance + eps) · w + b over the last axis.
    LayerNorm(f64),
    /// x / √(mean of x² + eps) over the last axis.
    Rms(f64),
    /// (x − mean) / deviation in 64 bits: features of high frequencies tell the difference.
    Scaled,
    /// x / max(‖x‖, 1e-12) over the last axis.
    Unit,
    /// Softmax over an axis.
    Softmax(usize),
    /// Other axes over the same numbers: 0 keeps the length of the axis at its place, −1 stands for what is left.
    Reshape(Vec<i64>),
    /// Axes in another order.
    Permute(Vec<usize>),
    /// A new axis of length 1.
    Unsqueeze(usize),
    /// Along an axis, one after the other.
    Concat(usize),
    /// Part of an axis; the end is −1 for all that is left.
    Slice(usize, i64, i64),
    /// One place of an axis, which vanishes; −1 is the last.
    Take(usize, i64),
    /// An axis backwards.
    Flip(usize),
    /// The first numbers of an axis backwards, as many as a sequence is long; time is the first axis or the second, sequences the other.
    Reverse(usize),
    /// Zeros before and after an axis.
    Pad(usize, usize, usize),
    /// Sum over an axis, which vanishes.
    Sum(usize),
    /// Mean over an axis, which vanishes.
    Mean(usize),
    /// Sums of the first numbers of an axis.
    CumSum(usize),
    /// Rows of a table (n, m) by integers.
    Rows,
    /// Rows of a table along an axis for the positions of x (batch, time, …): those that follow the positions of the third input, past
    /// keys (batch, heads, time, d).
    Placed(usize),
    /// Position `length` − 1 of x (batch, time, …).
    LastOf,
    /// x (batch, time, …), and a number after the end of each sequence, by the sequences' lengths.
    Masked(f32),
    /// x repeated to the shape of another.
    ExpandAs,
    /// softmax(q·kᵀ / √d)·v of (batch, heads, time, d), causal or not. Keys and values may begin with past positions.
    Attention(bool),
    /// Convolution of (batch, time, channels) with W (outputs, channels / groups, kernel) and b, with zeros before and after.
    Conv1d { dilation: usize, before: usize, after: usize, groups: usize },
    /// Convolution of (batch, height, width, channels) with W (outputs, channels, k, k) and b, padded to the same size.
    Conv2d,
    /// Largest of 2 × 2 pixels of (batch, height, width, channels).
    MaxPool,
    /// Each pixel of (batch, height, width, channels) four times.
    Upsample,
    /// States of a recurrent layer over x (time, batch, features), from zeros, with W_ih, W_hh, b_ih, b_hh.
    Recurrent(Cell),
    /// Sines and cosines of the phases of coordinates (…, 2), which are computed in 64 bits.
    Fourier(Phases),
}

/// Phases of Fourier features.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Phases {
    /// π times each coordinate times these numbers, by their remainder by a whole turn; sines and cosines of each coordinate in turn.
    HalfTurns(Vec<f64>),
    /// Each coordinate times these numbers.
    Radians(Vec<f64>),
    /// 2π times the product with a matrix (2, count), the second input; all sines, then all cosines.
    Random,
}

/// What is known of a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Info {
    /// Name, unique in the graph.
    pub(super) name: String,
    /// Lengths of its axes, as they were recorded: those of axes that may have any length are multiples of `Axes`.
    pub(super) shape: Vec<usize>,
    /// Holds integers.
    pub(super) integer: bool,
}

/// Lengths that stand for any length. They are primes that divide nothing else of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Axes {
    /// Number of samples.
    pub(super) batch: usize,
    /// Number of positions, where the model takes any.
    pub(super) time: Option<usize>,
    /// Number of positions whose keys and values are given.
    pub(super) past: Option<usize>,
}

impl Axes {
    /// True if an axis of this recorded length may have any.
    pub(super) fn any(self, length: usize) -> bool {
        length.is_multiple_of(self.batch) || self.time.is_some_and(|time| length.is_multiple_of(time))
    }
}

/// Length of an axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Dimension {
    /// This length.
    Fixed(usize),
    /// Any length, by the name that stands for it.
    Any(String),
}

impl Display for Dimension {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Dimension::Fixed(length) => write!(f, "{length}"),
            Dimension::Any(name) => f.write_str(name),
        }
    }
}

/// Numbers of a weight.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Numbers {
    /// These elements of the flat weights.
    Flat(Range<usize>),
    /// Kept with the weights, not trained.
    Kept(Vec<f32>),
    /// Follow from the configuration.
    Constant(Vec<f32>),
}

/// An operation, with the layer that it is of.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) op: Op,
    pub(super) inputs: Vec<Value>,
    pub(super) output: Value,
    pub(super) layer: String,
}

/// The graph, in an order in which it can be computed.
#[derive(Debug, Clone)]
pub(super) struct Graph {
    pub(super) axes: Axes,
    pub(super) values: Vec<Info>,
    pub(super) inputs: Vec<Value>,
    pub(super) outputs: Vec<Value>,
    pub(super) weights: Vec<(Value, Numbers)>,
    pub(super) nodes: Vec<Node>,
    names: BTreeMap<String, usize>,
}

impl Graph {
    pub(super) fn new(axes: Axes) -> Graph {
        Graph { axes, values: vec![], inputs: vec![], outputs: vec![], weights: vec![], nodes: vec![], names: BTreeMap::new() }
    }

    pub(super) fn info(&self, value: Value) -> &Info {
        &self.values[value.0]
    }

    pub(super) fn shape(&self, value: Value) -> &[usize] {
        &self.info(value).shape
    }

    fn value(&mut self, name: &str, shape: Vec<usize>, integer: bool) -> Value {
        let count = self.names.entry(name.into()).or_default();
        *count += 1;
        let name = if *count == 1 { name.to_string() } else { format!("{name}_{count}") };
        self.values.push(Info { name, shape, integer });
        Value(self.values.len() - 1)
    }

    pub(super) fn input(&mut self, name: &str, shape: &[usize], integer: bool) -> Value {
        let value = self.value(name, shape.to_vec(), integer);
        self.inputs.push(value);
        value
    }

    /// A weight by its name; twice the same is once.
    pub(super) fn weight(&mut self, name: &str, shape: &[usize], numbers: Numbers) -> Value {
        if let Some((value, _)) = self.weights.iter().find(|(value, _)| self.info(*value).name == name) {
            return *value;
        }
        let value = self.value(name, shape.to_vec(), false);
        self.weights.push((value, numbers));
        value
    }

    /// Appends an operation, whose result is named after the layer and what it is there.
    ///
    /// # Errors
    /// `Internal` where shapes do not fit.
    pub(super) fn add(&mut self, op: Op, inputs: &[Value], layer: &str, what: &str) -> Result<Value> {
        let shapes: Vec<&[usize]> = inputs.iter().map(|value| self.shape(*value)).collect();
        let shape = shape_of(&op, &shapes).ok_or_else(|| Error::Internal(format!("{layer}: {op:?} of {shapes:?}")))?;
        let integer = matches!(op, Op::Reshape(_) | Op::Unsqueeze(_)) && self.info(inputs[0]).integer;
        let name = if what.is_empty() { layer.to_string() } else { format!("{layer}.{what}") };
        let output = self.value(&name, shape, integer);
        self.nodes.push(Node { op, inputs: inputs.to_vec(), output, layer: layer.into() });
        Ok(output)
    }

    /// The value with these axes, which hold the same numbers.
    ///
    /// # Errors
    /// `Internal` where they do not, or where two axes may have any length that neither of them had before.
    pub(super) fn view(&mut self, value: Value, shape: &[usize], layer: &str) -> Result<Value> {
        let from = self.shape(value).to_vec();
        if from == shape {
            return Ok(value);
        }
        let to: Vec<i64> = shape
            .iter()
            .enumerate()
            .map(|(i, length)| match self.axes.any(*length) {
                false => *length as i64,
                true if from.get(i) == Some(length) => 0,
                true => -1,
            })
            .collect();
        if to.iter().filter(|length| **length == -1).count() > 1 || from.iter().product::<usize>() != shape.iter().product::<usize>() {
            return Err(Error::Internal(format!("{layer}: {from:?} seen as {shape:?}")));
        }
        let seen = self.add(Op::Reshape(to), &[value], layer, "view")?;
        self.values[seen.0].shape = shape.to_vec();
        Ok(seen)
    }

    /// Names a value as an output of the graph; one that is an input or a weight, or an output already, is copied first.
    ///
    /// # Errors
    /// `Internal` without such a value.
    pub(super) fn output(&mut self, value: Value, name: &str) -> Result<()> {
        let own = self.nodes.iter().any(|node| node.output == value) && !self.outputs.contains(&value);
        let value = if own { value } else { self.add(Op::Activate(Activation::Identity), &[value], name, "")? };
        let taken = self.values.iter().any(|info| info.name == name);
        if let (true, Some(at)) = (taken, self.values.iter().position(|info| info.name == name).filter(|at| *at != value.0)) {
            self.values[at].name = format!("{name}.");
        }
        self.values[value.0].name = name.into();
        self.outputs.push(value);
        Ok(())
    }

    /// Leaves out what no output depends on, of the inputs, too.
    pub(super) fn prune(&mut self) {
        let mut needed: HashSet<Value> = self.outputs.iter().copied().collect();
        for node in self.nodes.iter().rev() {
            if needed.contains(&node.output) {
                needed.extend(&node.inputs);
            }
        }
        self.nodes.retain(|node| needed.contains(&node.output));
        self.weights.retain(|(value, _)| needed.contains(value));
        self.inputs.retain(|value| needed.contains(value));
    }

    /// Lengths of the axes of a value.
    pub(super) fn dimensions(&self, value: Value) -> Vec<Dimension> {
        let one = |length: &usize| match self.axes {
            Axes { past: Some(past), .. } if *length == past => Dimension::Any("past_length".into()),
            Axes { past: Some(past), time: Some(time), .. } if *length == past + time => Dimension::Any("past_length + length".into()),
            Axes { batch, .. } if *length == batch => Dimension::Any("batch".into()),
            Axes { batch, .. } if length.is_multiple_of(batch) => Dimension::Any(format!("batch_{}", length / batch)),
            Axes { time: Some(time), .. } if *length == time => Dimension::Any("length".into()),
            Axes { time: Some(time), .. } if length.is_multiple_of(time) => Dimension::Any(format!("length_{}", length / time)),
            _ => Dimension::Fixed(*length),
        };
        self.shape(value).iter().map(one).collect()
    }

    /// True if the two are the same but for the lengths of axes that may have any.
    pub(super) fn same(&self, other: &Graph) -> bool {
        let weights = |graph: &Graph| graph.weights.iter().map(|(value, _)| graph.info(*value).clone()).collect::<Vec<_>>();
        let constants = |graph: &Graph| graph.weights.iter().map(|(_, numbers)| numbers.clone()).collect::<Vec<_>>();
        self.nodes == other.nodes && weights(self) == weights(other) && constants(self) == constants(other)
    }
}

/// Shape of a sum of two shapes, by NumPy's rules.
fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let axes = a.len().max(b.len());
    let at = |shape: &[usize], i: usize| (i + shape.len()).checked_sub(axes).map_or(1, |i| shape[i]);
    (0..axes)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y || y == 1 => Some(x),
            (1, y) => Some(y),
            _ => None,
        })
        .collect()
}

fn without(shape: &[usize], axis: usize) -> Vec<usize> {
    shape.iter().enumerate().filter(|(i, _)| *i != axis).map(|(_, length)| *length).collect()
}

fn with(shape: &[usize], axis: usize, length: usize) -> Vec<usize> {
    shape.iter().enumerate().map(|(i, own)| if i == axis { length } else { *own }).collect()
}

/// Shape of the result of an operation; none where the inputs do not fit.
fn shape_of(op: &Op, inputs: &[&[usize]]) -> Option<Vec<usize>> {
    let x = *inputs.first()?;
    let last = x.len().saturating_sub(1);
    Some(match op {
        Op::Linear => with(x, last, *inputs.get(1)?.first().filter(|_| inputs[1].get(1) == x.last())?),
        Op::MatMul => {
            let y = *inputs.get(1)?;
            let (&[.., m, k], &[.., also, n]) = (x, y) else { return None };
            let mut shape = broadcast(&x[..x.len() - 2], &y[..y.len() - 2]).filter(|_| k == also)?;
            shape.extend([m, n]);
            shape
        }
        Op::Binary(_) => broadcast(x, inputs.get(1)?)?,
        Op::Reshape(to) => {
            let kept = |(i, length): (usize, &i64)| if *length == 0 { x.get(i).copied() } else { usize::try_from(*length).ok() };
            // What is left is known to the caller alone.
            to.iter().enumerate().map(|to| kept(to).or(Some(0))).collect::<Option<Vec<_>>>()?
        }
        Op::Permute(order) => order.iter().map(|axis| x.get(*axis).copied()).collect::<Option<Vec<_>>>()?,
        Op::Unsqueeze(axis) => [&x[..*axis], &[1], &x[*axis..]].concat(),
        Op::Concat(axis) => with(x, *axis, inputs.iter().map(|shape| shape.get(*axis)).sum::<Option<usize>>()?),
        Op::Slice(axis, from, to) => {
            let length = *x.get(*axis)? as i64;
            let end = if *to == -1 { length } else { *to };
            with(x, *axis, usize::try_from(end - from).ok().filter(|_| end <= length)?)
        }
        Op::Take(axis, _) | Op::Sum(axis) | Op::Mean(axis) => without(x, *axis),
        Op::Pad(axis, before, after) => with(x, *axis, x.get(*axis)? + before + after),
        Op::Rows => [inputs.get(1)?, &x[1..]].concat(),
        Op::Placed(axis) => with(x, *axis, *inputs.get(1)?.get(1)?),
        Op::LastOf => without(x, 1),
        Op::ExpandAs => inputs.get(1)?.to_vec(),
        Op::Conv1d { .. } | Op::Conv2d => with(x, last, *inputs.get(1)?.first()?),
        Op::MaxPool => with(&with(x, 1, x.get(1)? / 2), 2, x.get(2)? / 2),
        Op::Upsample => with(&with(x, 1, x.get(1)? * 2), 2, x.get(2)? * 2),
        Op::Recurrent(_) => with(x, last, *inputs.get(2)?.get(1)?),
        Op::Fourier(phases) => with(
            x,
            last,
            match phases {
                Phases::HalfTurns(numbers) | Phases::Radians(numbers) => 4 * numbers.len(),
                Phases::Random => 2 * inputs.get(1)?.get(1)?,
            },
        ),
        Op::Attention(_) => x.to_vec(),
        Op::Activate(_) | Op::Exp | Op::Neg | Op::Softplus | Op::Float | Op::LayerNorm(_) | Op::Rms(_) | Op::Unit | Op::Softmax(_) => {
            x.to_vec()
        }
        Op::Scaled | Op::Flip(_) | Op::Reverse(_) | Op::CumSum(_) | Op::Masked(_) => x.to_vec(),
    })
}
