//! A sum of what goes into layers and what comes out of them.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::layer::{Cache, Decoding, Layer};
use super::sequential::{Sequential, Step};
use super::stacked::{Sample, StackLayer, layer_by_layer, make_layers, validate_within};
use crate::error::{Error, Result};
use crate::kernels::embedding;
use crate::plan::{Plan, Tensor};

/// Residual connection around layers: x + layers(x).
#[derive(Debug)]
struct Residual {
    name: String,
    inner: Sequential,
}

impl Residual {
    fn sum(&self, plan: &mut Plan, [a, b]: [Tensor; 2], what: &str) -> Result<Tensor> {
        let y = plan.like(format!("{}.{what}", self.name), a)?;
        embedding::AddPositions { x: a, positions: b, y, cols: plan.len(a) }.record(plan, &self.name)?;
        Ok(y)
    }
}

impl Layer for Residual {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        let y = self.inner.forward(plan, x)?;
        self.sum(plan, [x, y], "sum")
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        let dx = self.inner.backward(plan, dy)?;
        self.sum(plan, [dy, dx], "dsum")
    }

    fn decoding(&self) -> Decoding {
        self.inner.decoding()
    }

    fn keeps_state(&self) -> bool {
        self.inner.keeps_state()
    }

    fn forward_cached(&mut self, plan: &mut Plan, x: Tensor, cache: Cache) -> Result<Tensor> {
        let y = self.inner.forward_cached(plan, x, cache)?;
        self.sum(plan, [x, y], "sum")
    }
}

/// Residual connection around layers `L`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, bound(deserialize = "L: DeserializeOwned"))]
pub struct ResidualConfig<L> {
    /// Layers inside of the residual connection.
    #[serde(deserialize_with = "layer_by_layer")]
    #[schemars(length(min = 1))]
    pub layers: Vec<L>,
}

impl<L: StackLayer> StackLayer for ResidualConfig<L> {
    fn validate(&self, at: &str, left: &mut usize) -> std::result::Result<(), String> {
        if self.layers.is_empty() {
            return Err(format!("{at}.layers is empty"));
        }
        validate_within(&self.layers, &format!("{at}.layers"), left)
    }

    fn make(&self, name: &str, at: &str, sample: &mut Sample) -> Result<Step> {
        let before = sample.shape.clone();
        let inner = make_layers(&self.layers, &format!("{name}."), &format!("{at}.layers"), sample)?;
        if sample.shape != before {
            return Err(Error::Config(format!(
                "{at} adds its input {before:?} to what its layers give, {:?}: make them equal",
                sample.shape
            )));
        }
        Ok(Step::other(Residual { name: name.into(), inner }))
    }

    fn looks_ahead(&self) -> bool {
        self.layers.iter().any(StackLayer::looks_ahead)
    }
}
