//! Adapters: what is trained in place of the weights of a model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::in_range;
use super::section::Section;

/// Linear layers that have adapters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Adapted {
    /// The projections of attention: of queries, keys and values, and of what it gives.
    #[default]
    Attention,
    /// All linear layers of the blocks, those of feed-forward networks and of Mamba-2's mixers too.
    All,
}

/// Low-rank adapters of a language model, which are trained while its own weights, those of `--init`, stay as they are (LoRA, Hu et al.
/// 2021): a layer with the weight W has W + (α / rank) · B·A.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdaptConfig {
    /// Rank of each adapter, at most that of the smallest weight which has one.
    #[schemars(range(min = 1, max = 1 << 16))]
    pub rank: usize,
    /// α, by which adapters are scaled, as α / rank; without it, `rank`, so that they are not scaled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub alpha: Option<f64>,
    /// Layers that have adapters.
    pub layers: Adapted,
}

impl Default for AdaptConfig {
    fn default() -> Self {
        AdaptConfig { rank: 8, alpha: None, layers: Adapted::Attention }
    }
}

impl AdaptConfig {
    /// α / rank.
    pub fn scale(&self) -> f64 {
        self.alpha.map_or(1.0, |alpha| alpha / self.rank as f64)
    }
}

impl Section for AdaptConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        in_range(self, "adapt")
    }
}
