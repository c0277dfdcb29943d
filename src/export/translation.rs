//! The graph while the recorded forward pass is translated: which tensor has which value.

use std::collections::{HashMap, HashSet};

use super::graph::{Binary, Graph, Numbers, Op, Value};
use crate::error::{Error, Result};
use crate::kernels::matmul::Activation;
use crate::plan::{Buffer, Entry, FixedPlan, Storage, Tensor};

/// The graph while it takes shape, launch by launch.
#[derive(Debug)]
pub(super) struct Translation<'a> {
    pub(super) plan: &'a FixedPlan,
    buffers: &'a [Buffer],
    pub(super) graph: Graph,
    values: HashMap<Tensor, Value>,
    /// Surroundings that a convolution is a product over: what they are of, and the convolution.
    pub(super) surroundings: HashMap<Tensor, (Value, Op)>,
    /// Sums of ln decay and step sizes of a state space, which share a tensor.
    pub(super) decays: HashMap<Tensor, [Value; 2]>,
    /// States of recurrent layers, whose products with weights are part of the layer's operation.
    pub(super) states: HashSet<Tensor>,
    /// Past positions, of a model that decodes.
    pub(super) past: Option<Past>,
}

/// Keys and values of past positions.
#[derive(Debug, Clone)]
pub(super) struct Past {
    /// Number of positions that the model sees.
    pub(super) limit: usize,
    /// Past keys, and keys and values with the new ones, of each attention.
    pub(super) layers: Vec<(Value, [Value; 2])>,
}

impl<'a> Translation<'a> {
    /// A translation that begins with these inputs; `states` are those of recurrent layers.
    pub(super) fn new(
        plan: &'a FixedPlan,
        buffers: &'a [Buffer],
        graph: Graph,
        inputs: &[(Tensor, Value)],
        states: HashSet<Tensor>,
    ) -> Translation<'a> {
        let values = inputs.iter().copied().collect();
        Translation { plan, buffers, graph, values, surroundings: HashMap::new(), decays: HashMap::new(), states, past: None }
    }

    /// Number of positions of a table: that of the sequence, or all that the model sees.
    pub(super) fn table_length(&self, length: usize) -> usize {
        self.past.as_ref().map_or(length, |past| past.limit)
    }

    /// The part of a table along an axis that belongs to the positions of x (batch, time, …): all of it, unless there are past positions.
    pub(super) fn placed(&mut self, table: Value, axis: usize, x: Value, entry: &Entry, what: &str) -> Result<Value> {
        if self.past.is_none() { Ok(table) } else { self.add(Op::Placed(axis), &[table, x], entry, what) }
    }

    /// Keys and values (batch, heads, time, d) with the past ones before them, which become inputs of the graph.
    pub(super) fn with_past(&mut self, new: [Value; 2], entry: &Entry) -> Result<[Value; 2]> {
        let (Some(length), Some(past)) = (self.graph.axes.past, &self.past) else { return Ok(new) };
        let number = past.layers.len();
        let mut both = |value: Value, what: &str| {
            let [batch, heads, _, d] = self.shape(value)[..] else {
                return Err(Error::Internal(format!("{what} of {:?}", self.shape(value))));
            };
            let past = self.graph.input(&format!("past_key_values.{number}.{what}"), &[batch, heads, length, d], false);
            Ok((past, self.add(Op::Concat(2), &[past, value], entry, &format!("{what}s"))?))
        };
        let ((keys, k), (_, v)) = (both(new[0], "key")?, both(new[1], "value")?);
        if let Some(past) = &mut self.past {
            past.layers.push((keys, [k, v]));
        }
        Ok([k, v])
    }

    /// The tensor bound to a variable.
    pub(super) fn bound(&self, entry: &Entry, name: &str) -> Result<Tensor> {
        entry.tensor(name).ok_or_else(|| Error::Internal(format!("{} has no {name}", entry.shader.name)))
    }

    /// Value of the tensor bound to a variable.
    pub(super) fn read(&mut self, entry: &Entry, name: &str) -> Result<Value> {
        let tensor = self.bound(entry, name)?;
        self.value(tensor)
    }

    /// Value of the tensor bound to a variable, if there is one.
    pub(super) fn maybe(&mut self, entry: &Entry, name: &str) -> Result<Option<Value>> {
        entry.tensor(name).map(|tensor| self.value(tensor)).transpose()
    }

    /// Says which value the tensor bound to a variable has from now on.
    pub(super) fn write(&mut self, entry: &Entry, name: &str, value: Value) -> Result<()> {
        let tensor = self.bound(entry, name)?;
        self.values.insert(tensor, value);
        Ok(())
    }

    /// Value of a tensor: of a result so far, a weight, or what is kept with the weights.
    pub(super) fn value(&mut self, tensor: Tensor) -> Result<Value> {
        if let Some(value) = self.values.get(&tensor) {
            return Ok(*value);
        }
        let (name, shape) = (self.plan.info(tensor).name.clone(), self.plan.shape(tensor).to_vec());
        let value = match self.plan.info(tensor).storage {
            Storage::Parameter { .. } => self.parameter(tensor, &name, &shape)?,
            // What a layer normalisation without a bias adds.
            _ if name.starts_with("zeros.") => self.constant(&name, &shape, vec![0.0; shape.iter().product()]),
            _ => {
                let kept = self.buffers.iter().find(|buffer| buffer.name == name);
                let kept = kept.ok_or_else(|| Error::Internal(format!("{name} is read before it is written")))?;
                self.graph.weight(&name, &shape, Numbers::Kept(kept.values.clone()))
            }
        };
        self.values.insert(tensor, value);
        Ok(value)
    }

    /// A weight, several that lie one after the other, or some rows of one.
    fn parameter(&mut self, tensor: Tensor, name: &str, shape: &[usize]) -> Result<Value> {
        if let Some(found) = self.plan.parameters().iter().find(|p| p.name == name) {
            return Ok(self.graph.weight(name, shape, Numbers::Flat(found.offset..found.offset + found.len())));
        }
        let parts = self.plan.parts();
        let mut joined: Vec<(usize, Tensor)> =
            parts.iter().filter(|(_, whole, _)| *whole == tensor).map(|(part, _, at)| (*at, *part)).collect();
        joined.sort();
        if !joined.is_empty() {
            let parts = joined.into_iter().map(|(_, part)| self.value(part)).collect::<Result<Vec<_>>>()?;
            return self.graph.add(Op::Concat(0), &parts, name, "");
        }
        let missing = || Error::Internal(format!("{name} is no weight"));
        let (_, whole, first) = *parts.iter().find(|(part, ..)| *part == tensor).ok_or_else(missing)?;
        let row = shape[1..].iter().product::<usize>();
        let whole = self.value(whole)?;
        let from = first / row;
        self.graph.add(Op::Slice(0, from as i64, (from + shape[0]) as i64), &[whole], name.split('[').next().unwrap_or(name), "part")
    }

    /// A constant that follows from the configuration.
    pub(super) fn constant(&mut self, name: &str, shape: &[usize], numbers: Vec<f32>) -> Value {
        self.graph.weight(&format!("constants.{name}"), shape, Numbers::Constant(numbers))
    }

    /// Numbers of a constant of the plan that is bound to a variable.
    pub(super) fn given(&self, entry: &Entry, name: &str) -> Result<Vec<f32>> {
        let tensor = self.bound(entry, name)?;
        let fill = self.plan.constants().iter().find(|(constant, _)| *constant == tensor).map(|(_, fill)| fill);
        let fill = fill.ok_or_else(|| Error::Internal(format!("{name} of {} is no constant", entry.shader.name)))?;
        Ok(fill.words(0..self.plan.len(tensor)).into_iter().map(f32::from_bits).collect())
    }

    pub(super) fn add(&mut self, op: Op, inputs: &[Value], entry: &Entry, what: &str) -> Result<Value> {
        self.graph.add(op, inputs, &entry.label, what)
    }

    pub(super) fn binary(&mut self, op: Binary, a: Value, b: Value, entry: &Entry, what: &str) -> Result<Value> {
        self.add(Op::Binary(op), &[a, b], entry, what)
    }

    pub(super) fn view(&mut self, value: Value, shape: &[usize], entry: &Entry) -> Result<Value> {
        self.graph.view(value, shape, &entry.label)
    }

    pub(super) fn shape(&self, value: Value) -> Vec<usize> {
        self.graph.shape(value).to_vec()
    }

    /// The value after an activation, by the number of its kind in `shaders/common/activation.wgsl`.
    pub(super) fn activated(&mut self, value: Value, kind: u32, entry: &Entry, what: &str) -> Result<Value> {
        use Activation::{Gelu, GeluTanh, Identity, Relu, Sigmoid, Silu, Tanh};
        let kinds = [Identity, Relu, Gelu, GeluTanh, Sigmoid, Silu, Tanh];
        let known = kinds.into_iter().find(|known| *known as u32 == kind);
        match known.ok_or_else(|| Error::Internal(format!("activation {kind}")))? {
            Identity => Ok(value),
            kind => self.add(Op::Activate(kind), &[value], entry, what),
        }
    }
}
