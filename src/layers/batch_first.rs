//! Recurrent layers for batch-first sequences, as a stack has them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layer::{Layer, lengths};
use super::pooling::sizes;
use super::recurrent::{Gru, Lstm, Wanted};
use super::sequential::Step;
use super::stacked::{Sample, StackLayer};
use crate::error::Result;
use crate::kernels::concat::{self, Sides};
use crate::kernels::embedding;
use crate::kernels::transpose::{self, Reverse};
use crate::plan::{Plan, Tensor};

/// Kinds of recurrent layers.
#[derive(Debug)]
enum Cell {
    /// Long short-term memory (LSTM).
    Lstm(Lstm),
    /// Gated recurrent unit (GRU).
    Gru(Gru),
}

impl Cell {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        match self {
            Cell::Lstm(lstm) => lstm.forward(plan, x, Wanted::All(0.0)),
            Cell::Gru(gru) => gru.forward(plan, x, None),
        }
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        match self {
            Cell::Lstm(lstm) => lstm.backward(plan, dy),
            Cell::Gru(gru) => gru.backward(plan, dy, None),
        }
    }
}

/// Order of the time steps that a direction takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

/// A recurrent layer for batch-first sequences: it transposes them to time-major order and back. With two directions, a second cell goes
/// from the end of each sequence to its beginning, and its states stand beside those of the first.
#[derive(Debug)]
struct Recur {
    /// Prefix of the names of its tensors.
    name: String,
    cell: Cell,
    /// Cell of the second direction.
    reverse: Option<Cell>,
}

impl Recur {
    /// Transposes to time-major order (`to` true) or back, from the end of the sequences in the backward direction.
    fn turned(&self, plan: &mut Plan, x: Tensor, to: bool, direction: Direction, what: &str) -> Result<Tensor> {
        let [first, second, cols] = sizes(plan, x)?;
        let y = plan.activation(format!("{}.{what}", self.name), &[second, first, cols])?;
        let reverse = match (direction, to) {
            (Direction::Forward, _) => Reverse::None,
            (Direction::Backward, true) => Reverse::Second,
            (Direction::Backward, false) => Reverse::First,
        };
        let lengths = lengths(plan);
        transpose::Forward { x, y, first, second, cols, reverse, lengths }.record(plan, &self.name)?;
        Ok(y)
    }

    fn sides(&self, plan: &Plan, y: Tensor) -> Result<(Vec<usize>, Sides)> {
        let [batch, length, cols] = sizes(plan, y)?;
        Ok((vec![batch, length, cols], Sides { rows: batch * length, left: cols, right: cols }))
    }
}

impl Layer for Recur {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        let steps = self.turned(plan, x, true, Direction::Forward, "steps")?;
        let y = self.cell.forward(plan, steps)?;
        let a = self.turned(plan, y, false, Direction::Forward, "y")?;
        let Some(mut cell) = self.reverse.take() else { return Ok(a) };
        let steps = self.turned(plan, x, true, Direction::Backward, "steps_reverse")?;
        let y = cell.forward(plan, steps)?;
        let b = self.turned(plan, y, false, Direction::Backward, "y_reverse")?;
        self.reverse = Some(cell);
        let (mut shape, sides) = self.sides(plan, a)?;
        shape[2] *= 2;
        let y = plan.activation(format!("{}.both", self.name), &shape)?;
        concat::Forward { a, b, y, sides }.record(plan, &self.name)?;
        Ok(y)
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        let Some(mut cell) = self.reverse.take() else {
            let dy = self.turned(plan, dy, true, Direction::Forward, "dsteps")?;
            let dx = self.cell.backward(plan, dy)?;
            return self.turned(plan, dx, false, Direction::Forward, "dx");
        };
        let [batch, length, cols] = sizes(plan, dy)?;
        let shape = [batch, length, cols / 2];
        let (da, db) = (plan.activation(format!("{}.da", self.name), &shape)?, plan.activation(format!("{}.db", self.name), &shape)?);
        concat::Backward { dy, da, db, sides: self.sides(plan, da)?.1 }.record(plan, &self.name)?;
        let d = self.turned(plan, da, true, Direction::Forward, "dsteps")?;
        let d = self.cell.backward(plan, d)?;
        let a = self.turned(plan, d, false, Direction::Forward, "dx_forward")?;
        let d = self.turned(plan, db, true, Direction::Backward, "dsteps_reverse")?;
        let d = cell.backward(plan, d)?;
        let b = self.turned(plan, d, false, Direction::Backward, "dx_reverse")?;
        self.reverse = Some(cell);
        let dx = plan.like(format!("{}.dx", self.name), a)?;
        embedding::AddPositions { x: a, positions: b, y: dx, cols: plan.len(a) }.record(plan, &self.name)?;
        Ok(dx)
    }
}

impl Recur {
    /// Layer of a stack with cells that are made for this number of inputs, `reverse` for the direction from the end.
    fn step(
        name: &str,
        at: &str,
        (hidden, bidirectional): (usize, bool),
        sample: &mut Sample,
        cell: impl Fn(usize, bool) -> Cell,
    ) -> Result<Step> {
        let [length, features] = sample.sequence(at)?;
        sample.shape = vec![length, if bidirectional { 2 * hidden } else { hidden }];
        let reverse = bidirectional.then(|| cell(features, true));
        Ok(Step::other(Recur { name: name.into(), cell: cell(features, false), reverse }))
    }
}

/// One layer of `torch.nn.LSTM`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LstmConfig {
    /// Number of features of the hidden state.
    #[schemars(range(min = 1, max = 1 << 16))]
    pub hidden: usize,
    /// Add a second direction, from the end to the beginning: the result has its states beside those of the first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schemars(!skip_serializing_if)]
    pub bidirectional: bool,
}

impl StackLayer for LstmConfig {
    fn make(&self, name: &str, at: &str, sample: &mut Sample) -> Result<Step> {
        Recur::step(name, at, (self.hidden, self.bidirectional), sample, |features, reverse| {
            let lstm = Lstm::new(name, 0, features, self.hidden);
            Cell::Lstm(if reverse { lstm.reversed() } else { lstm })
        })
    }
}

/// One layer of `torch.nn.GRU`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GruConfig {
    /// Number of features of the hidden state.
    #[schemars(range(min = 1, max = 1 << 16))]
    pub hidden: usize,
    /// Add a second direction, from the end to the beginning: the result has its states beside those of the first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schemars(!skip_serializing_if)]
    pub bidirectional: bool,
}

impl StackLayer for GruConfig {
    fn make(&self, name: &str, at: &str, sample: &mut Sample) -> Result<Step> {
        Recur::step(name, at, (self.hidden, self.bidirectional), sample, |features, reverse| {
            let gru = Gru::new(name, 0, features, self.hidden);
            Cell::Gru(if reverse { gru.reversed() } else { gru })
        })
    }
}
