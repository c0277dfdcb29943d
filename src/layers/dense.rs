//! Linear layers and normalisations, as a stack has them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layer_norm::LayerNorm;
use super::linear::Linear;
use super::sequential::Step;
use super::stacked::{Sample, StackLayer};
use crate::error::{Error, Result};

/// `torch.nn.Linear`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinearConfig {
    /// Number of output features; without it, as many as the target asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1 << 18))]
    pub out: Option<usize>,
}

impl StackLayer for LinearConfig {
    fn make(&self, name: &str, at: &str, sample: &mut Sample) -> Result<Step> {
        let missing = || Error::Config(format!("{at}: these data have no `target` to tell how many features come out: give out = …"));
        let (inputs, out) = (sample.features(), self.out.or_else(|| sample.asked_for()).ok_or_else(missing)?);
        sample.set_features(out);
        Ok(Step::linear(Linear::new(name, inputs, out), 0.0))
    }
}

/// `torch.nn.LayerNorm`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NormConfig {}

impl StackLayer for NormConfig {
    fn make(&self, name: &str, _at: &str, sample: &mut Sample) -> Result<Step> {
        Ok(Step::other(LayerNorm::new(name, sample.features(), 1e-5)))
    }
}

/// RMS normalisation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RmsNormConfig {}

impl StackLayer for RmsNormConfig {
    fn make(&self, name: &str, _at: &str, sample: &mut Sample) -> Result<Step> {
        Ok(Step::other(LayerNorm::rms(name, sample.features(), 1e-6)))
    }
}
