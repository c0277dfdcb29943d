//! Sinusoidal positions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layer::Layer;
use super::sequential::Step;
use super::stacked::{Sample, StackLayer};
use crate::error::Result;
use crate::kernels::positions;
use crate::plan::{Plan, Tensor};

/// Sinusoidal position encoding, added to the input.
#[derive(Debug)]
struct AddPositions {
    /// Prefix of the names of its tensors.
    name: String,
}

impl Layer for AddPositions {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        let (length, cols) = (plan.shape(x)[1], plan.shape(x)[2]);
        let y = plan.like(format!("{}.y", self.name), x)?;
        positions::Forward { x, y, cols, length }.record(plan, &self.name)?;
        Ok(y)
    }

    fn backward(&mut self, _plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        Ok(dy)
    }
}

/// Sinusoidal position encoding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PositionsConfig {}

impl StackLayer for PositionsConfig {
    fn make(&self, name: &str, at: &str, sample: &mut Sample) -> Result<Step> {
        sample.sequence(at)?;
        Ok(Step::other(AddPositions { name: name.into() }))
    }
}
