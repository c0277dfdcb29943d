//! Convolution of images.

use std::ops::Range;

use super::convolution::{Convolution, Surroundings};
use super::layer::Layer;
use super::linear::Linear;
use crate::error::{Error, Result};
use crate::kernels::matmul::Activation;
use crate::kernels::{Images, patches};
use crate::plan::{Plan, Tensor};

/// `torch.nn.Conv2d` with an odd kernel, stride 1 and padding "same", channels last, followed by an activation.
#[derive(Debug, Clone)]
pub struct Conv2d {
    name: String,
    channels: usize,
    outputs: usize,
    kernel: usize,
    convolution: Convolution<Patches>,
}

/// The pixels around each pixel of images.
#[derive(Debug, Clone, Copy)]
struct Patches {
    images: Images,
    kernel: usize,
}

impl Patches {
    fn some(&self, samples: &Range<usize>) -> Images {
        Images { batch: samples.len(), ..self.images }
    }
}

impl Surroundings for Patches {
    fn samples(&self) -> [usize; 2] {
        [self.images.batch, self.images.height * self.images.width]
    }

    fn unfold(&self, plan: &mut Plan, samples: &Range<usize>, x: Tensor, y: Tensor, label: &str) -> Result<()> {
        patches::Forward { x, y, images: self.some(samples), first: samples.start, kernel: self.kernel }.record(plan, label)
    }

    fn fold(&self, plan: &mut Plan, samples: &Range<usize>, dy: Tensor, dx: Tensor, label: &str) -> Result<()> {
        patches::Backward { dy, dx, images: self.some(samples), first: samples.start, kernel: self.kernel }.record(plan, label)
    }
}

impl Conv2d {
    /// A layer with the weights `name.weight` (outputs, channels, kernel, kernel) and `name.bias` (outputs).
    pub fn new(name: &str, channels: usize, outputs: usize, kernel: usize, activation: Activation) -> Self {
        let mut linear = Linear::new(name, channels * kernel * kernel, outputs).activated(activation);
        linear.weight_shape = Some(vec![outputs, channels, kernel, kernel]);
        Conv2d { name: name.into(), channels, outputs, kernel, convolution: Convolution::new(name, linear) }
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
        let Images { batch, height, width, .. } = images;
        let shape = [batch, height, width, self.outputs];
        self.convolution.forward(plan, x, &shape, Patches { images, kernel: self.kernel })
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        self.convolution.backward(plan, dy)
    }
}
