//! Embeddings of token sequences.

use super::kept;
use crate::error::Result;
use crate::kernels::embedding::{BackwardPositions, BackwardTable, Fixed, Forward};
use crate::plan::{Init, Plan, Tensor};

/// Learned token and position vectors (`torch.nn.Embedding`, N(0, 1)), added.
#[derive(Debug, Clone)]
pub struct Embedding {
    name: String,
    vocab: usize,
    limit: usize,
    features: usize,
    saved: Option<Saved>,
}

#[derive(Debug, Clone, Copy)]
struct Saved {
    ids: Tensor,
    table: Tensor,
    positions: Tensor,
    rows: usize,
    length: usize,
}

impl Embedding {
    /// Weights `name.value.weight` (vocab, features) and `name.position.weight` (limit, features).
    pub fn new(name: &str, vocab: usize, limit: usize, features: usize) -> Self {
        Embedding { name: name.into(), vocab, limit, features, saved: None }
    }

    /// Appends y[m] = value[ids[m]] + position[m mod length].
    ///
    /// # Errors
    /// As `Layer::forward`.
    pub fn forward(&mut self, plan: &mut Plan, ids: Tensor, length: usize) -> Result<Tensor> {
        let (rows, cols) = (plan.len(ids), self.features);
        let table = plan.parameter(&format!("{}.value.weight", self.name), &[self.vocab, cols], Init::Normal(1.0))?;
        let positions = plan.parameter(&format!("{}.position.weight", self.name), &[self.limit, cols], Init::Normal(1.0))?;
        let y = plan.activation(format!("{}.y", self.name), &[rows, cols])?;
        Forward { ids, table, positions, y, rows, cols, length }.record(plan, &self.name)?;
        self.saved = Some(Saved { ids, table, positions, rows, length });
        Ok(y)
    }

    /// Appends the gradients of both tables, for sequences that start at position 0 and fill the limit.
    ///
    /// # Errors
    /// `Internal` before `forward`.
    pub fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<()> {
        let Saved { ids, table, positions, rows, length } = kept(&self.saved, &self.name)?;
        let (dtable, dpositions) = (plan.gradient(table)?, plan.gradient(positions)?);
        BackwardTable { ids, dy, dtable, rows, cols: self.features, vocab: self.vocab }.record(plan, &self.name)?;
        BackwardPositions { dy, dpositions, batch: rows / length, n: length * self.features }.record(plan, &self.name)
    }
}

/// Token and position as two numbers in [0, 1]; no weights.
#[derive(Debug, Clone, Copy)]
pub struct FixedEmbedding {
    /// Largest token.
    pub max_value: usize,
    /// Largest position.
    pub max_position: usize,
}

impl FixedEmbedding {
    /// Appends y[m] = (ids[m] / max_value, (m mod length) / max_position).
    ///
    /// # Errors
    /// As `Layer::forward`.
    pub fn forward(&self, plan: &mut Plan, ids: Tensor, length: usize) -> Result<Tensor> {
        let rows = plan.len(ids);
        let y = plan.activation("embedding.y", &[rows, 2])?;
        let (max_value, max_position) = (self.max_value as f64, self.max_position as f64);
        Fixed { ids, y, rows, length, max_value, max_position }.record(plan, "embedding")?;
        Ok(y)
    }
}
