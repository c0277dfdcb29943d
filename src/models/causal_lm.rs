//! What causal language models have in common: tokens, an embedding, blocks, a norm and a head.

use super::model::{Build, Model};
use crate::batch::{Inputs, Outputs};
use crate::error::Result;
use crate::layers::{Cache, Decoding, DropoutLayer, Embedding, Layer, LayerNorm, Linear};
use crate::losses::Gradients;
use crate::plan::{Init, Plan};

/// Standard deviation of the initial values of the table of tokens and of the head.
pub(super) const DEVIATION: f64 = 0.02;

/// What is around the blocks of a model.
pub(super) struct Around<'a> {
    /// Name of the weight of the embedding, which is that of the head as well where they are `tied`; else the head has `lm_head.weight`.
    pub(super) table: &'a str,
    /// Name of the table of learned positions, of a model that has one.
    pub(super) positions: Option<&'a str>,
    /// Number of features of a position.
    pub(super) features: usize,
    pub(super) tied: bool,
    /// Dropout rate of the embedding.
    pub(super) dropout: f64,
}

/// Maps tokens (batch, length) to logits (batch, length, vocabulary).
#[derive(Debug)]
pub(super) struct CausalLm {
    name: &'static str,
    embedding: Embedding,
    dropout: DropoutLayer,
    blocks: Vec<Box<dyn Layer>>,
    norm: LayerNorm,
    head: Linear,
}

impl CausalLm {
    /// A model of this name in messages.
    ///
    /// # Errors
    /// `Config` when the data have no tokens.
    pub(super) fn new(
        build: &Build<'_>,
        name: &'static str,
        Around { table, positions, features, tied, dropout }: Around<'_>,
        blocks: Vec<Box<dyn Layer>>,
        norm: LayerNorm,
    ) -> Result<Self> {
        let vocabulary = build.fields.below(name, "tokens")?;
        let of_head = if tied { table } else { "lm_head.weight" };
        let mut head = Linear::without_bias("lm_head", &[of_head.into()], features, vocabulary, Init::Normal(DEVIATION));
        if tied {
            // The embedding has declared it, and the gradients of both add up.
            head.rows_of = Some((vocabulary, 0));
        }
        let tables = [table, positions.unwrap_or_default()].map(String::from);
        let limit = positions.map(|_| build.fields.shape(name, "tokens").map(|[length]| length)).transpose()?;
        let embedding = Embedding::new("tokens", vocabulary, limit, features).with(tables, Init::Normal(DEVIATION));
        Ok(CausalLm { name, embedding, dropout: DropoutLayer::new("tokens.drop", dropout), blocks, norm, head })
    }

    fn outputs(&mut self, plan: &mut Plan, inputs: &Inputs, cache: Option<Cache>) -> Result<Outputs> {
        let mut x = self.embedding.forward(plan, inputs.get(self.name, "tokens")?)?;
        x = self.dropout.forward(plan, x)?;
        for block in &mut self.blocks {
            x = match cache {
                Some(cache) => block.forward_cached(plan, x, cache)?,
                None => block.forward(plan, x)?,
            };
        }
        let x = self.norm.forward(plan, x)?;
        self.head.project(plan, x).map(Outputs::projected)
    }
}

impl Model for CausalLm {
    fn forward(&mut self, plan: &mut Plan, inputs: &Inputs) -> Result<Outputs> {
        self.outputs(plan, inputs, None)
    }

    fn decoding(&self) -> Decoding {
        self.blocks.iter().map(|block| block.decoding()).min().unwrap_or(Decoding::Endless)
    }

    fn keeps_state(&self) -> bool {
        self.blocks.iter().any(|block| block.keeps_state())
    }

    fn forward_cached(&mut self, plan: &mut Plan, inputs: &Inputs, cache: Cache) -> Result<Outputs> {
        self.outputs(plan, inputs, Some(cache))
    }

    fn backward(&mut self, plan: &mut Plan, gradients: &Gradients) -> Result<()> {
        let mut dy = self.head.project_backward(plan, gradients.main)?;
        dy = self.norm.backward(plan, dy)?;
        for block in self.blocks.iter_mut().rev() {
            dy = block.backward(plan, dy)?;
        }
        dy = self.dropout.backward(plan, dy)?;
        self.embedding.backward(plan, dy)
    }
}
