//! A sum of what goes into layers and what comes out of them.

use super::layer::Layer;
use super::sequential::Sequential;
use crate::error::Result;
use crate::kernels::embedding;
use crate::plan::{Plan, Tensor};

/// Residual connection around layers: x + layers(x).
#[derive(Debug)]
pub struct Residual {
    name: String,
    inner: Sequential,
}

impl Residual {
    /// A residual connection around these layers.
    pub fn new(name: &str, inner: Sequential) -> Self {
        Residual { name: name.into(), inner }
    }

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
}
