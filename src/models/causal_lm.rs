//! What causal language models have in common: tokens, an embedding, blocks, a norm and a head.

use super::model::{Build, Model};
use crate::batch::{Inputs, Outputs};
use crate::error::Result;
use crate::layers::{Cache, Decoding, Embedding, Layer, LayerNorm, Linear};
use crate::losses::Gradients;
use crate::plan::{Init, Plan};

/// Standard deviation of the initial values of the table of tokens and of the head.
pub(super) const DEVIATION: f64 = 0.02;

/// Maps tokens (batch, length) to logits (batch, length, vocabulary).
#[derive(Debug)]
pub(super) struct CausalLm {
    name: &'static str,
    embedding: Embedding,
    blocks: Vec<Box<dyn Layer>>,
    norm: LayerNorm,
    head: Linear,
}

impl CausalLm {
    /// A model of this name in messages. `table` is the name of the weight of the embedding, which is that of the head as well where they
    /// are `tied`; else the head has `lm_head.weight`.
    ///
    /// # Errors
    /// `Config` when the data have no tokens.
    pub(super) fn new(
        build: &Build<'_>,
        name: &'static str,
        (table, features, tied): (&str, usize, bool),
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
        let tables = [table.to_string(), String::new()];
        let embedding = Embedding::new("tokens", vocabulary, None, features).with(tables, Init::Normal(DEVIATION));
        Ok(CausalLm { name, embedding, blocks, norm, head })
    }

    fn outputs(&mut self, plan: &mut Plan, inputs: &Inputs, cache: Option<Cache>) -> Result<Outputs> {
        let mut x = self.embedding.forward(plan, inputs.get(self.name, "tokens")?)?;
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
        self.embedding.backward(plan, dy)
    }
}
