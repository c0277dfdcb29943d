//! Variational autoencoder of images (Kingma & Welling 2014).

use serde::{Deserialize, Serialize};

use super::sequence_transformer::positive;
use crate::error::{Error, Result};
use crate::kernels::activation;
use crate::kernels::matmul::Activation;
use crate::kernels::vae::{Backward, Sample};
use crate::layers::{Fused, Layer, Linear, kept};
use crate::plan::{Plan, Tensor};

/// Sizes of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageVaeConfig {
    /// Numbers that stand for an image.
    pub latents: usize,
    /// Features of the hidden layers.
    pub hidden: usize,
    /// Draw z from the posterior while training, instead of z = μ.
    #[serde(default = "yes")]
    pub noise: bool,
}

fn yes() -> bool {
    true
}

impl ImageVaeConfig {
    pub(super) fn validate(&self) -> std::result::Result<(), String> {
        positive("latents", self.latents, 1 << 16)?;
        positive("hidden", self.hidden, 1 << 18)
    }
}

/// pixels → hidden → (μ, ln σ²), z = μ + ε σ, z → hidden → pixels through a sigmoid; ReLU on the hidden layers.
#[derive(Debug, Clone)]
pub struct ImageVae {
    encoder: [Linear; 2],
    decoder: [Linear; 2],
    latents: usize,
    training: bool,
    noise: bool,
    saved: Option<(Tensor, Option<u32>)>,
}

impl ImageVae {
    /// Layers for images of so many pixels. Without `training` z = μ and nothing is kept for a backward pass.
    pub fn new(config: &ImageVaeConfig, pixels: usize, training: bool) -> Self {
        let linear = |name: &str, inputs: usize, outputs: usize, activation: Activation| {
            let mut linear = Linear::new(name, inputs, outputs);
            (linear.activation, linear.training) = (activation, training);
            linear
        };
        let (hidden, latents) = (config.hidden, config.latents);
        ImageVae {
            encoder: [linear("encoder.0", pixels, hidden, Activation::Relu), Linear::new("encoder.2", hidden, 2 * latents)],
            decoder: [linear("decoder.0", latents, hidden, Activation::Relu), linear("decoder.2", hidden, pixels, Activation::Sigmoid)],
            latents,
            training,
            noise: config.noise && training,
            saved: None,
        }
    }

    /// Appends the posterior (batch, 2, latents) and the reconstruction (batch, pixels) of images (batch, pixels).
    ///
    /// # Errors
    /// As `Layer::forward`.
    pub fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<(Tensor, Tensor)> {
        let h = self.encoder[0].forward(plan, x)?;
        let posterior = self.encoder[1].forward(plan, h)?;
        let rows = plan.len(posterior) / 2 / self.latents;
        let z = plan.activation("z", &[rows, self.latents])?;
        let noise = self.noise.then(|| plan.stream());
        Sample { x: posterior, z, cols: self.latents, noise }.record(plan, "posterior")?;
        self.saved = self.training.then_some((posterior, noise));
        let h = self.decoder[0].forward(plan, z)?;
        Ok((posterior, self.decoder[1].forward(plan, h)?))
    }

    /// Appends the gradients of all weights from that of the reconstruction and from the divergence of that weight.
    ///
    /// # Errors
    /// `Internal` before `forward`.
    pub fn backward(&mut self, plan: &mut Plan, dy: Tensor, divergence: f64) -> Result<()> {
        let (posterior, noise) = kept(&self.saved, "posterior")?;
        let [hidden, output] = &self.decoder;
        let (kind, pre) = output.derivative()?.ok_or_else(|| Error::Internal("the output keeps no value".into()))?;
        let dpre = plan.like("decoder.2.dpre", pre)?;
        activation::Backward { x: pre, dy, dx: dpre, kind }.record(plan, "decoder.2")?;
        output.backward_params(plan, dpre)?;
        let dh = output.backward_input(plan, dpre, Fused { derivative: hidden.derivative()?, ..Fused::default() })?;
        hidden.backward_params(plan, dh)?;
        let dz = hidden.backward_input(plan, dh, Fused::default())?;
        let dposterior = plan.like("posterior.dx", posterior)?;
        Backward { x: posterior, dz, dx: dposterior, cols: self.latents, noise, weight: divergence }.record(plan, "posterior")?;
        let [hidden, output] = &self.encoder;
        output.backward_params(plan, dposterior)?;
        let dh = output.backward_input(plan, dposterior, Fused { derivative: hidden.derivative()?, ..Fused::default() })?;
        hidden.backward_params(plan, dh)
    }
}
