//! Recurrent layers for batch-first sequences, as a stack has them.

use serde::{Deserialize, Serialize};

use super::layer::Layer;
use super::pooling::sizes;
use super::recurrent::{Gru, Lstm, Wanted};
use super::sequential::Step;
use super::stacked::{Sample, StackLayer, size};
use crate::error::Result;
use crate::kernels::transpose;
use crate::plan::{Plan, Tensor};

/// Kinds of recurrent layers.
#[derive(Debug)]
enum Cell {
    /// Long short-term memory (LSTM).
    Lstm(Lstm),
    /// Gated recurrent unit (GRU).
    Gru(Gru),
}

/// A recurrent layer for batch-first sequences: it transposes them to time-major order and back.
#[derive(Debug)]
struct Recur {
    /// Prefix of the names of its tensors.
    name: String,
    /// LSTM or GRU.
    cell: Cell,
}

impl Recur {
    fn turned(&self, plan: &mut Plan, x: Tensor, what: &str) -> Result<Tensor> {
        let [first, second, cols] = sizes(plan, x)?;
        let y = plan.activation(format!("{}.{what}", self.name), &[second, first, cols])?;
        transpose::Forward { x, y, first, second, cols }.record(plan, &self.name)?;
        Ok(y)
    }
}

impl Layer for Recur {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        let x = self.turned(plan, x, "steps")?;
        let y = match &mut self.cell {
            Cell::Lstm(lstm) => lstm.forward(plan, x, Wanted::All(0.0))?,
            Cell::Gru(gru) => gru.forward(plan, x, None)?,
        };
        self.turned(plan, y, "y")
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        let dy = self.turned(plan, dy, "dsteps")?;
        let dx = match &mut self.cell {
            Cell::Lstm(lstm) => lstm.backward(plan, dy)?,
            Cell::Gru(gru) => gru.backward(plan, dy, None)?,
        };
        self.turned(plan, dx, "dx")
    }
}

impl Recur {
    /// Layer of a stack with this cell, which is made from the numbers of inputs and of hidden features.
    fn step(name: &str, at: &str, hidden: usize, sample: &mut Sample, cell: impl Fn(usize) -> Cell) -> Result<Step> {
        let [length, features] = sample.sequence(at)?;
        sample.shape = vec![length, hidden];
        Ok(Step::other(Recur { name: name.into(), cell: cell(features) }))
    }
}

/// One layer of `torch.nn.LSTM`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LstmConfig {
    /// Number of features of the hidden state.
    pub hidden: usize,
}

impl StackLayer for LstmConfig {
    fn validate(&self, at: &str, _left: &mut usize) -> std::result::Result<(), String> {
        size(at, "hidden", self.hidden, 1 << 16)
    }

    fn make(&self, name: &str, at: &str, sample: &mut Sample) -> Result<Step> {
        Recur::step(name, at, self.hidden, sample, |features| Cell::Lstm(Lstm::new(name, 0, features, self.hidden)))
    }
}

/// One layer of `torch.nn.GRU`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GruConfig {
    /// Number of features of the hidden state.
    pub hidden: usize,
}

impl StackLayer for GruConfig {
    fn validate(&self, at: &str, _left: &mut usize) -> std::result::Result<(), String> {
        size(at, "hidden", self.hidden, 1 << 16)
    }

    fn make(&self, name: &str, at: &str, sample: &mut Sample) -> Result<Step> {
        Recur::step(name, at, self.hidden, sample, |features| Cell::Gru(Gru::new(name, 0, features, self.hidden)))
    }
}
