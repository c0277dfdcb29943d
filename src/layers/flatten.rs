//! Sequences as single vectors.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layer::Layer;
use super::sequential::Step;
use super::stacked::{Sample, StackLayer};
use crate::error::Result;
use crate::plan::{Plan, Tensor};

/// `torch.nn.Flatten`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlattenConfig {}

impl StackLayer for FlattenConfig {
    fn make(&self, _name: &str, _at: &str, sample: &mut Sample) -> Result<Step> {
        sample.shape = vec![sample.shape.iter().product()];
        Ok(Step::other(Flatten))
    }

    fn looks_ahead(&self) -> bool {
        true
    }
}

/// Identity: the numbers stay where they are, and the next layer takes them as one vector.
#[derive(Debug)]
struct Flatten;

impl Layer for Flatten {
    fn forward(&mut self, _plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        Ok(x)
    }

    fn backward(&mut self, _plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        Ok(dy)
    }
}
