//! Layers whose passes take more than an input, as a row of layers calls them.

use super::embedding::Embedding;
use super::layer::Layer;
use super::pooling::sizes;
use super::recurrent::{Gru, Lstm, Wanted};
use super::self_attention::SelfAttention;
use super::transformer_block::TransformerBlock;
use crate::error::Result;
use crate::kernels::transpose;
use crate::plan::{Plan, Tensor};

/// Identity layer, for a change of shape alone.
#[derive(Debug)]
pub struct Same;

impl Layer for Same {
    fn forward(&mut self, _plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        Ok(x)
    }

    fn backward(&mut self, _plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        Ok(dy)
    }
}

/// Token and position embedding as a layer; its inputs are integers, which have no gradient.
#[derive(Debug)]
pub struct Embed(pub Embedding);

impl Layer for Embed {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        self.0.forward(plan, x)
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        self.0.backward(plan, dy)?;
        Ok(dy)
    }
}

/// Self-attention with its residual, as a layer.
#[derive(Debug)]
pub struct Attend(pub SelfAttention);

impl Layer for Attend {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        self.0.forward(plan, x, x)
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        self.0.backward(plan, dy, Some(dy))
    }
}

/// A transformer block over whole sequences, as a layer.
#[derive(Debug)]
pub struct Block(pub TransformerBlock);

impl Layer for Block {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        self.0.forward(plan, x, None)
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        self.0.backward(plan, dy)
    }
}

/// Kinds of recurrent layers.
#[derive(Debug)]
pub enum Cell {
    /// Long short-term memory (LSTM).
    Lstm(Lstm),
    /// Gated recurrent unit (GRU).
    Gru(Gru),
}

/// A recurrent layer for batch-first sequences: it transposes them to time-major order and back.
#[derive(Debug)]
pub struct Recur {
    /// Prefix of the names of its tensors.
    pub name: String,
    /// LSTM or GRU.
    pub cell: Cell,
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
