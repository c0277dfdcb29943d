//! Learned positions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layer::{Layer, saved_by_forward};
use super::sequential::Step;
use super::stacked::{Sample, StackLayer};
use crate::error::Result;
use crate::kernels::embedding::{self, BackwardPositions};
use crate::plan::{Init, Plan, Tensor};

/// A learned vector for each position, added to the input: y[b, t] = x[b, t] + weight[t].
#[derive(Debug)]
struct LearnedPositions {
    name: String,
    length: usize,
    features: usize,
    saved: Option<Tensor>,
}

impl Layer for LearnedPositions {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        // As GPT-2 draws them.
        let positions = plan.parameter(&format!("{}.weight", self.name), &[self.length, self.features], Init::Normal(0.02))?;
        let y = plan.like(format!("{}.y", self.name), x)?;
        embedding::AddPositions { x, positions, y, cols: self.length * self.features }.record(plan, &self.name)?;
        self.saved = Some(positions);
        Ok(y)
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        let dpositions = plan.gradient(saved_by_forward(&self.saved, &self.name)?)?;
        let n = self.length * self.features;
        BackwardPositions { dy, dpositions, batch: plan.len(dy) / n, n }.record(plan, &self.name)?;
        Ok(dy)
    }
}

/// Learned positions of a stack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LearnedPositionsConfig {}

impl StackLayer for LearnedPositionsConfig {
    fn make(&self, name: &str, at: &str, sample: &mut Sample) -> Result<Step> {
        let [length, features] = sample.sequence(at)?;
        Ok(Step::other(LearnedPositions { name: name.into(), length, features, saved: None }))
    }
}
