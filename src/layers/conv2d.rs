//! Convolution.

use super::{Fused, Layer, Linear};
use crate::error::Result;
use crate::kernels::matmul::Activation;
use crate::kernels::{Images, activation, patches};
use crate::plan::{Plan, Tensor};

/// `torch.nn.Conv2d` with an odd kernel, stride 1 and padding "same", channels last: patches, then a product; and an activation.
#[derive(Debug, Clone)]
pub struct Conv2d {
    name: String,
    images: Images,
    kernel: usize,
    linear: Linear,
}

impl Conv2d {
    /// Weights `name.weight` (outputs, channels, kernel, kernel) and `name.bias`, for images of these sizes.
    pub fn new(name: &str, images: Images, outputs: usize, kernel: usize, activation: Activation, training: bool) -> Self {
        let mut linear = Linear::new(name, images.channels * kernel * kernel, outputs);
        linear.weight_shape = Some(vec![outputs, images.channels, kernel, kernel]);
        (linear.activation, linear.training) = (activation, training);
        Conv2d { name: name.into(), images, kernel, linear }
    }
}

impl Layer for Conv2d {
    /// (batch, height, width, channels) → (batch, height, width, outputs).
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        let Images { batch, height, width, channels } = self.images;
        let rows = batch * height * width;
        let y = plan.activation(format!("{}.patches", self.name), &[rows, channels * self.kernel * self.kernel])?;
        patches::Forward { x, y, images: self.images, kernel: self.kernel }.record(plan, &self.name)?;
        self.linear.forward(plan, y)
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        let dz = self.backward_params(plan, dy)?;
        let dpatches = self.linear.backward_input(plan, dz, Fused::default())?;
        let Images { batch, height, width, channels } = self.images;
        let dx = plan.activation(format!("{}.dimages", self.name), &[batch, height, width, channels])?;
        patches::Backward { dy: dpatches, dx, images: self.images, kernel: self.kernel }.record(plan, &self.name)?;
        Ok(dx)
    }
}

impl Conv2d {
    /// Appends the gradients of the weights alone, for the first layer; gives the gradient before the activation.
    ///
    /// # Errors
    /// `Internal` before `forward`.
    pub fn backward_params(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        let dz = match self.linear.derivative()? {
            Some((kind, x)) => {
                let dx = plan.like(format!("{}.dz", self.name), x)?;
                activation::Backward { x, dy, dx, kind }.record(plan, &self.name)?;
                dx
            }
            None => dy,
        };
        self.linear.backward_params(plan, dz)?;
        Ok(dz)
    }
}
