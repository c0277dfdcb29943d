//! Sinusoidal positions.

use super::layer::Layer;
use crate::error::Result;
use crate::kernels::positions;
use crate::plan::{Plan, Tensor};

/// Sinusoidal position encoding, added to the input.
#[derive(Debug)]
pub struct AddPositions {
    /// Prefix of the names of its tensors.
    pub name: String,
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
