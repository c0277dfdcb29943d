//! Convolution.

use super::layer::{Layer, saved_by_forward};
use super::linear::{Fused, Linear};
use crate::error::{Error, Result};
use crate::kernels::matmul::Activation;
use crate::kernels::{Images, patches};
use crate::plan::{Plan, Tensor};

/// `torch.nn.Conv2d` with an odd kernel, stride 1 and padding "same", channels last, followed by an activation; it is a product over
/// patches (im2col).
#[derive(Debug, Clone)]
pub struct Conv2d {
    name: String,
    channels: usize,
    kernel: usize,
    linear: Linear,
    saved: Option<Images>,
}

impl Conv2d {
    /// A layer with the weights `name.weight` (outputs, channels, kernel, kernel) and `name.bias` (outputs).
    pub fn new(name: &str, channels: usize, outputs: usize, kernel: usize, activation: Activation) -> Self {
        let mut linear = Linear::new(name, channels * kernel * kernel, outputs).activated(activation);
        linear.weight_shape = Some(vec![outputs, channels, kernel, kernel]);
        Conv2d { name: name.into(), channels, kernel, linear, saved: None }
    }
}

impl Layer for Conv2d {
    /// Maps (batch, height, width, channels) to (batch, height, width, outputs); a last axis of 1 may be left out.
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        let images = match (plan.shape(x), self.channels) {
            (&[batch, height, width], 1) => Images { batch, height, width, channels: 1 },
            (&[batch, height, width, channels], expected) if channels == expected => Images { batch, height, width, channels },
            (shape, expected) => {
                return Err(Error::Config(format!("{} takes images of {expected} channels, and is given {shape:?}", self.name)));
            }
        };
        let Images { batch, height, width, channels } = images;
        let y = plan.activation(format!("{}.patches", self.name), &[batch, height, width, channels * self.kernel * self.kernel])?;
        patches::Forward { x, y, images, kernel: self.kernel }.record(plan, &self.name)?;
        self.saved = Some(images);
        self.linear.forward(plan, y)
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        let dz = self.linear.before_activation(plan, dy)?;
        self.linear.backward_params(plan, dz)?;
        let dpatches = self.linear.backward_input(plan, dz, Fused::default())?;
        let images = saved_by_forward(&self.saved, &self.name)?;
        let Images { batch, height, width, channels } = images;
        let dx = plan.activation(format!("{}.dimages", self.name), &[batch, height, width, channels])?;
        patches::Backward { dy: dpatches, dx, images, kernel: self.kernel }.record(plan, &self.name)?;
        Ok(dx)
    }
}
