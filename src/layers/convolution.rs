//! Convolution as a product over the surroundings of each position (im2col, Chellapilla et al. 2006), of some samples at a time.
//!
//! The surroundings are larger than the samples by the size of the kernel. Those of a chunk of samples stay in the cache of the card
//! between the launch that makes them and the product that reads them, and the backward pass makes them again, so that they never pass
//! through its memory.

use std::ops::Range;

use super::layer::saved_by_forward;
use super::linear::{Fused, Linear, Saved};
use super::projection::Part;
use crate::error::Result;
use crate::gpu::Target;
use crate::kernels::matmul::{Activation, Matmul};
use crate::plan::{Plan, Tensor};

/// Bytes of the surroundings of a chunk: with their gradient half of the Infinity Cache of the RX 6600.
const CHUNK: u64 = 8 << 20;

/// Samples of a chunk whose surroundings are so many numbers each, the same for all chunks but the last; all samples where they fit, or
/// where nothing is limited: that is no device, but a plan that is written down as layers.
fn chunk(target: &Target, samples: usize, numbers: usize) -> usize {
    if target.max_binding == u64::MAX {
        return samples;
    }
    let most = (CHUNK.min(target.max_binding) / (4 * numbers as u64)).max(1) as usize;
    samples.div_ceil(samples.div_ceil(most))
}

/// How the surroundings of samples are made.
pub(super) trait Surroundings: Copy {
    /// Shape of the samples: how many there are, and the positions of each.
    fn samples(&self) -> [usize; 2];

    /// Appends the surroundings of these samples of x, at the beginning of y.
    fn unfold(&self, plan: &mut Plan, samples: &Range<usize>, x: Tensor, y: Tensor, label: &str) -> Result<()>;

    /// Appends dx of these samples, from the gradient of their surroundings at the beginning of dy.
    fn fold(&self, plan: &mut Plan, samples: &Range<usize>, dy: Tensor, dx: Tensor, label: &str) -> Result<()>;
}

/// y = activation(surroundings of x · Wᵀ + b).
#[derive(Debug, Clone)]
pub(super) struct Convolution<S> {
    name: String,
    linear: Linear,
    saved: Option<(Tensor, S, usize)>,
}

impl<S: Surroundings> Convolution<S> {
    /// A convolution with the weights of a layer over the surroundings of a position.
    pub(super) fn new(name: &str, linear: Linear) -> Self {
        Convolution { name: name.into(), linear, saved: None }
    }

    /// Chunks of samples, with their rows of the product. Where there are several, each is a part of longer tensors.
    fn chunks(surroundings: S, chunk: usize) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        let [samples, positions] = surroundings.samples();
        let ranges = (0..samples).step_by(chunk).map(move |first| first..(first + chunk).min(samples));
        ranges.map(move |range| (range.clone(), range.start * positions..range.end * positions))
    }

    /// Appends y of x, in this shape.
    ///
    /// # Errors
    /// As `Layer::forward`.
    pub(super) fn forward(&mut self, plan: &mut Plan, x: Tensor, shape: &[usize], surroundings: S) -> Result<Tensor> {
        let [samples, positions] = surroundings.samples();
        let Linear { inputs, outputs, activation, .. } = self.linear;
        let chunk = chunk(&plan.target, samples, positions * inputs);
        let (weight, bias) = self.linear.declared(plan)?;
        let y = plan.activation(format!("{}.y", self.name), shape)?;
        let keeps = plan.options.trains && activation != Activation::Identity;
        let pre = keeps.then(|| plan.activation(format!("{}.pre", self.name), shape)).transpose()?;
        let around = plan.activation(format!("{}.surroundings", self.name), &[chunk * positions, inputs])?;
        for (samples_of, rows) in Self::chunks(surroundings, chunk) {
            surroundings.unfold(plan, &samples_of, x, around, &self.name)?;
            let of_y = (chunk < samples).then_some(rows.start * outputs);
            let product = Matmul {
                trans_b: true,
                bias,
                activation,
                pre,
                a_at: of_y.map(|_| 0),
                y_at: of_y,
                ..Matmul::new(around, weight, y, (rows.len(), outputs, inputs))
            };
            product.record(plan, &self.name)?;
        }
        self.linear.saved = Some(Saved { x: around, weight, bias, pre, factors: None, rows: samples * positions });
        self.saved = Some((x, surroundings, chunk));
        Ok(y)
    }

    /// Appends the gradients of weights and input.
    ///
    /// # Errors
    /// As `Layer::backward`.
    pub(super) fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        let (x, surroundings, chunk) = saved_by_forward(&self.saved, &self.name)?;
        let dz = self.linear.before_activation(plan, dy)?;
        let dx = plan.like(format!("{}.dinput", self.name), x)?;
        let [samples, positions] = surroundings.samples();
        if chunk == samples {
            self.linear.backward_params(plan, dz)?;
            let d = self.linear.backward_input(plan, dz, Fused::default())?;
            surroundings.fold(plan, &(0..samples), d, dx, &self.name)?;
            return Ok(dx);
        }
        let Linear { inputs, outputs, .. } = self.linear;
        let Saved { weight, bias, .. } = saved_by_forward(&self.linear.saved, &self.name)?;
        let shape = [chunk * positions, inputs];
        let around = plan.activation(format!("{}.surroundings (again)", self.name), &shape)?;
        let d = plan.activation(format!("{}.dsurroundings", self.name), &shape)?;
        for (samples_of, rows) in Self::chunks(surroundings, chunk) {
            surroundings.unfold(plan, &samples_of, x, around, &self.name)?;
            let part = Part { rows: rows.len(), inputs, outputs, x_at: 0, y_at: rows.start * outputs };
            part.backward(plan, &self.name, (weight, bias), [around, dz, d])?;
            surroundings.fold(plan, &samples_of, d, dx, &self.name)?;
        }
        Ok(dx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_even_and_fit() {
        let target = Target { max_binding: 1 << 31, ..Target::default() };
        let of = [(64, 4096 * 288), (64, 256 * 576), (64, 4096 * 121), (7, 1 << 19), (3, 1 << 30), (5, 4)];
        assert_eq!(of.map(|(samples, numbers)| chunk(&target, samples, numbers)), [1, 13, 4, 4, 1, 5]);
        assert_eq!(chunk(&Target { max_binding: 100, ..target }, 7, 12), 2);
    }
}
