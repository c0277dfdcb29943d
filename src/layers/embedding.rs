//! Embeddings of token sequences.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layer::{Decoding, Layer, saved_by_forward};
use super::sequential::Step;
use super::stacked::{Sample, StackLayer};
use crate::error::{Error, Result};
use crate::kernels::embedding::{BackwardPositions, BackwardTable, Fixed, Forward};
use crate::plan::{Init, Plan, Tensor};

/// Batch and length of a tensor of tokens.
fn sequences(plan: &Plan, ids: Tensor, name: &str) -> Result<[usize; 2]> {
    let wrong = |_| Error::Config(format!("{name} takes tokens (batch, length), and is given {:?}", plan.shape(ids)));
    plan.shape(ids).try_into().map_err(wrong)
}

/// Learned vectors of tokens, with those of their positions added (`torch.nn.Embedding`, N(0, 1)), or without.
#[derive(Debug, Clone)]
pub struct Embedding {
    name: String,
    /// Names of the tables of tokens and of positions.
    tables: [String; 2],
    /// Initial values of both.
    init: Init,
    vocab: usize,
    /// Number of positions; none if positions have no vectors.
    limit: Option<usize>,
    features: usize,
    saved: Option<Saved>,
}

#[derive(Debug, Clone, Copy)]
struct Saved {
    ids: Tensor,
    table: Tensor,
    positions: Option<Tensor>,
    rows: usize,
    length: usize,
}

impl Embedding {
    /// A layer with the weights `name.value.weight` (vocab, features), and with a limit `name.position.weight` (limit, features).
    pub fn new(name: &str, vocab: usize, limit: Option<usize>, features: usize) -> Self {
        let tables = ["value", "position"].map(|table| format!("{name}.{table}.weight"));
        Embedding { name: name.into(), tables, init: Init::Normal(1.0), vocab, limit, features, saved: None }
    }

    /// The layer with other names of the tables of tokens and of positions, and other initial values.
    pub fn with(self, tables: [String; 2], init: Init) -> Self {
        Embedding { tables, init, ..self }
    }

    /// Appends y[b, m] = value[ids[b, m]] + position[state.position + m], (batch, length, features).
    ///
    /// # Errors
    /// As `Layer::forward`.
    pub fn forward(&mut self, plan: &mut Plan, ids: Tensor) -> Result<Tensor> {
        let [batch, length] = sequences(plan, ids, &self.name)?;
        let (rows, cols) = (batch * length, self.features);
        let table = plan.parameter(&self.tables[0], &[self.vocab, cols], self.init)?;
        let positions = |limit| plan.parameter(&self.tables[1], &[limit, cols], self.init);
        let positions = self.limit.map(positions).transpose()?;
        let y = plan.activation(format!("{}.y", self.name), &[batch, length, cols])?;
        Forward { ids, table, positions, y, rows, cols, length }.record(plan, &self.name)?;
        self.saved = Some(Saved { ids, table, positions, rows, length });
        Ok(y)
    }

    /// Appends the gradients of the tables, for sequences that start at position 0 and fill the limit.
    ///
    /// # Errors
    /// `Internal` before `forward`.
    pub fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<()> {
        let Saved { ids, table, positions, rows, length } = saved_by_forward(&self.saved, &self.name)?;
        let dtable = plan.gradient(table)?;
        BackwardTable { ids, dy, dtable, rows, cols: self.features, vocab: self.vocab }.record(plan, &self.name)?;
        let Some(positions) = positions else { return Ok(()) };
        let dpositions = plan.gradient(positions)?;
        BackwardPositions { dy, dpositions, batch: rows / length, n: length * self.features }.record(plan, &self.name)
    }
}

/// Fixed embedding without weights: token and position as two numbers in [0, 1].
#[derive(Debug, Clone, Copy)]
pub struct FixedEmbedding {
    /// Largest token, which becomes 1.
    pub max_value: usize,
    /// Largest position, which becomes 1.
    pub max_position: usize,
}

impl FixedEmbedding {
    /// Appends y[b, m] = (ids[b, m] / max_value, m / max_position), (batch, length, 2).
    ///
    /// # Errors
    /// As `Layer::forward`.
    pub fn forward(&self, plan: &mut Plan, ids: Tensor) -> Result<Tensor> {
        let [batch, length] = sequences(plan, ids, "embedding")?;
        let rows = batch * length;
        let y = plan.activation("embedding.y", &[batch, length, 2])?;
        let (max_value, max_position) = (self.max_value as f64, self.max_position as f64);
        Fixed { ids, y, rows, length, max_value, max_position }.record(plan, "embedding")?;
        Ok(y)
    }
}

impl Layer for Embedding {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        self.forward(plan, x)
    }

    /// Integers have no gradient: what it gives is of no use.
    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        self.backward(plan, dy)?;
        Ok(dy)
    }

    fn decoding(&self) -> Decoding {
        if self.limit.is_some() { Decoding::Limited } else { Decoding::Endless }
    }
}

/// Token embedding of a stack, with that of the positions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingConfig {
    /// Number of features that an integer becomes.
    #[schemars(range(min = 1, max = 1 << 16))]
    pub features: usize,
    /// Add a learned vector for each position. Without it sequences can be continued beyond the length of the training data.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[schemars(!skip_serializing_if)]
    pub positions: bool,
}

fn yes() -> bool {
    true
}

fn is_yes(given: &bool) -> bool {
    *given
}

impl StackLayer for EmbeddingConfig {
    fn make(&self, name: &str, at: &str, sample: &mut Sample) -> Result<Step> {
        let vocabulary = sample.integers.take().ok_or_else(|| Error::Config(format!("{at} takes integers; these are numbers already")))?;
        let [length]: [usize; 1] =
            sample.shape.as_slice().try_into().map_err(|_| Error::Config(format!("{at} takes one axis of integers")))?;
        sample.shape = vec![length, self.features];
        let limit = self.positions.then_some(length);
        Ok(Step::other(Embedding::new(name, vocabulary, limit, self.features)))
    }

    fn takes_integers(&self) -> bool {
        true
    }
}
