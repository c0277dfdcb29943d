//! Variational autoencoder of images (Kingma & Welling 2014), dense or convolutional.

use serde::{Deserialize, Serialize};

use super::sequence_transformer::positive;
use crate::error::{Error, Result};
use crate::kernels::matmul::Activation;
use crate::kernels::vae::{Backward, Sample};
use crate::kernels::{Images, activation, max_pool, upsample};
use crate::layers::{Conv2d, Fused, Layer, Linear, kept};
use crate::plan::{Plan, Tensor};

/// Layers between pixels and latents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum VaeLayers {
    /// One hidden layer each way.
    Dense {
        /// Its features.
        hidden: usize,
    },
    /// Stages of convolution, ReLU and 2 × 2 max-pooling; back by upsampling and 3 × 3 convolutions.
    Convolution {
        /// Outputs of each stage.
        channels: Vec<usize>,
        /// Odd kernel sizes of each stage.
        kernels: Vec<usize>,
    },
}

/// Sizes of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageVaeConfig {
    /// Numbers that stand for an image.
    pub latents: usize,
    /// Draw z from the posterior while training, instead of z = μ.
    #[serde(default = "yes")]
    pub noise: bool,
    /// What lies between.
    pub layers: VaeLayers,
}

fn yes() -> bool {
    true
}

impl ImageVaeConfig {
    pub(super) fn validate(&self) -> std::result::Result<(), String> {
        positive("latents", self.latents, 1 << 16)?;
        match &self.layers {
            VaeLayers::Dense { hidden } => positive("layers.hidden", *hidden, 1 << 18),
            VaeLayers::Convolution { channels, kernels } => {
                if channels.is_empty() || channels.len() > 8 || channels.len() != kernels.len() {
                    return Err(format!(
                        "model.layers: {} channels and {} kernels; give one to eight stages, each with both",
                        channels.len(),
                        kernels.len()
                    ));
                }
                channels.iter().try_for_each(|c| positive("layers.channels", *c, 1 << 12))?;
                match kernels.iter().find(|k| **k > 31 || *k % 2 == 0) {
                    Some(k) => Err(format!("model.layers.kernels: {k} is out of range: kernels are odd, at most 31")),
                    None => Ok(()),
                }
            }
        }
    }

    /// The layers for a batch of square images. Without `training` z = μ and nothing is kept for a backward pass.
    ///
    /// # Errors
    /// `Config` when the stages do not halve the side evenly.
    pub fn build(&self, batch: usize, side: usize, training: bool) -> Result<ImageVae> {
        let (encoder, decoder): (Box<dyn Coder>, Box<dyn Coder>) = match &self.layers {
            VaeLayers::Dense { hidden } => {
                let pixels = side * side;
                (
                    Box::new(Dense::new("encoder", [pixels, *hidden, 2 * self.latents], Activation::Identity, training)),
                    Box::new(Dense::new("decoder", [self.latents, *hidden, pixels], Activation::Sigmoid, training)),
                )
            }
            VaeLayers::Convolution { channels, kernels } => {
                let factor = 1 << channels.len();
                if !side.is_multiple_of(factor) {
                    return Err(Error::Config(format!(
                        "images of {side} × {side} cannot be halved {} times: use a side that is a multiple of {factor}",
                        channels.len()
                    )));
                }
                (
                    Box::new(ConvEncoder::new(batch, side, channels, kernels, self.latents, training)),
                    Box::new(ConvDecoder::new(batch, side / factor, channels, self.latents, training)),
                )
            }
        };
        Ok(ImageVae { encoder, decoder, latents: self.latents, training, noise: self.noise && training, saved: None })
    }
}

/// One way through the model.
trait Coder: std::fmt::Debug {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor>;
    /// Gradients of the weights, and of the input when it is asked for.
    fn backward(&mut self, plan: &mut Plan, dy: Tensor, needs_input: bool) -> Result<Option<Tensor>>;
}

/// pixels → (μ, ln σ²), z = μ + ε σ, z → pixels through a sigmoid.
#[derive(Debug)]
pub struct ImageVae {
    encoder: Box<dyn Coder>,
    decoder: Box<dyn Coder>,
    latents: usize,
    training: bool,
    noise: bool,
    saved: Option<(Tensor, Option<u32>)>,
}

impl ImageVae {
    /// Appends the posterior (batch, 2, latents) and the reconstruction (batch, pixels) of images (batch, pixels).
    ///
    /// # Errors
    /// As `Layer::forward`.
    pub fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<(Tensor, Tensor)> {
        let posterior = self.encoder.forward(plan, x)?;
        let rows = plan.len(posterior) / 2 / self.latents;
        let z = plan.activation("z", &[rows, self.latents])?;
        let noise = self.noise.then(|| plan.stream());
        Sample { x: posterior, z, cols: self.latents, noise }.record(plan, "posterior")?;
        self.saved = self.training.then_some((posterior, noise));
        Ok((posterior, self.decoder.forward(plan, z)?))
    }

    /// Appends the gradients of all weights from that of the reconstruction and from the divergence of that weight.
    ///
    /// # Errors
    /// `Internal` before `forward`.
    pub fn backward(&mut self, plan: &mut Plan, dy: Tensor, divergence: f64) -> Result<()> {
        let (posterior, noise) = kept(&self.saved, "posterior")?;
        let dz = self.decoder.backward(plan, dy, true)?.ok_or_else(|| Error::Internal("no gradient of the latents".into()))?;
        let dposterior = plan.like("posterior.dx", posterior)?;
        Backward { x: posterior, dz, dx: dposterior, cols: self.latents, noise, weight: divergence }.record(plan, "posterior")?;
        self.encoder.backward(plan, dposterior, false).map(|_| ())
    }
}

/// The gradient before a layer's activation from that after it.
fn before_activation(plan: &mut Plan, layer: &Linear, dy: Tensor, name: &str) -> Result<Tensor> {
    let Some((kind, x)) = layer.derivative()? else { return Ok(dy) };
    let dx = plan.like(format!("{name}.dz"), x)?;
    activation::Backward { x, dy, dx, kind }.record(plan, name)?;
    Ok(dx)
}

/// Linear → ReLU → Linear → activation.
#[derive(Debug)]
struct Dense {
    name: String,
    hidden: Linear,
    output: Linear,
}

impl Dense {
    fn new(name: &str, [inputs, hidden, outputs]: [usize; 3], last: Activation, training: bool) -> Self {
        let linear = |n: usize, inputs: usize, outputs: usize, activation: Activation| {
            let mut linear = Linear::new(&format!("{name}.{n}"), inputs, outputs);
            (linear.activation, linear.training) = (activation, training);
            linear
        };
        Dense { name: name.into(), hidden: linear(0, inputs, hidden, Activation::Relu), output: linear(2, hidden, outputs, last) }
    }
}

impl Coder for Dense {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        let h = self.hidden.forward(plan, x)?;
        self.output.forward(plan, h)
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor, needs_input: bool) -> Result<Option<Tensor>> {
        let dz = before_activation(plan, &self.output, dy, &self.name)?;
        self.output.backward_params(plan, dz)?;
        let dh = self.output.backward_input(plan, dz, Fused { derivative: self.hidden.derivative()?, ..Fused::default() })?;
        self.hidden.backward_params(plan, dh)?;
        if needs_input { self.hidden.backward_input(plan, dh, Fused::default()).map(Some) } else { Ok(None) }
    }
}

/// Stages of convolution → ReLU → max-pool, then Linear. Weights `encoder.0`, `encoder.3`, …, `latent`.
#[derive(Debug)]
struct ConvEncoder {
    stages: Vec<(Conv2d, Images)>,
    latent: Linear,
    saved: Vec<Tensor>,
}

impl ConvEncoder {
    fn new(batch: usize, side: usize, channels: &[usize], kernels: &[usize], latents: usize, training: bool) -> Self {
        let mut stages = Vec::new();
        let (mut side, mut inputs) = (side, 1);
        for (i, (outputs, kernel)) in channels.iter().zip(kernels).enumerate() {
            let images = Images { batch, height: side, width: side, channels: inputs };
            let conv = Conv2d::new(&format!("encoder.{}", 3 * i), images, *outputs, *kernel, Activation::Relu, training);
            stages.push((conv, Images { channels: *outputs, ..images }));
            (side, inputs) = (side / 2, *outputs);
        }
        ConvEncoder { stages, latent: Linear::new("latent", side * side * inputs, 2 * latents), saved: vec![] }
    }
}

impl Coder for ConvEncoder {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        let (mut x, last) = (x, self.stages.len() - 1);
        self.saved.clear();
        for (i, (conv, images)) in self.stages.iter_mut().enumerate() {
            let h = conv.forward(plan, x)?;
            self.saved.push(h);
            let Images { batch, height, width, channels } = *images;
            x = plan.activation(format!("encoder.{}.pooled", 3 * i), &[batch, height / 2 * (width / 2) * channels])?;
            max_pool::Forward { x: h, y: x, images: *images, planes: i == last }.record(plan, "pool")?;
        }
        self.latent.forward(plan, x)
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor, needs_input: bool) -> Result<Option<Tensor>> {
        let last = self.stages.len() - 1;
        let mut d = self.latent.backward(plan, dy)?;
        for (i, (conv, images)) in self.stages.iter_mut().enumerate().rev() {
            let x = *self.saved.get(i).ok_or_else(|| Error::Internal("encoder: backward before forward".into()))?;
            let dx = plan.like(format!("encoder.{}.dpool", 3 * i), x)?;
            max_pool::Backward { x, dy: d, dx, images: *images, planes: i == last }.record(plan, "pool")?;
            if i == 0 && !needs_input {
                conv.backward_params(plan, dx)?;
                return Ok(None);
            }
            d = conv.backward(plan, dx)?;
        }
        Ok(Some(d))
    }
}

/// Linear → ReLU, then stages of upsampling → 3 × 3 convolution, with ReLU but for the last, which has a sigmoid. Weights `expand`,
/// `decoder.1`, `decoder.4`, ….
#[derive(Debug)]
struct ConvDecoder {
    expand: Linear,
    stages: Vec<(Images, Conv2d)>,
}

impl ConvDecoder {
    fn new(batch: usize, side: usize, channels: &[usize], latents: usize, training: bool) -> Self {
        let most = channels[channels.len() - 1];
        let mut expand = Linear::new("expand", latents, side * side * most);
        (expand.activation, expand.training) = (Activation::Relu, training);
        let (mut side, mut inputs, last) = (side, most, channels.len() - 1);
        let outputs = channels[..last].iter().rev().copied().chain([1]);
        let stages = outputs.enumerate().map(|(i, outputs)| {
            let source = Images { batch, height: side, width: side, channels: inputs };
            let images = Images { height: 2 * side, width: 2 * side, ..source };
            (side, inputs) = (2 * side, outputs);
            let activation = if i == last { Activation::Sigmoid } else { Activation::Relu };
            (source, Conv2d::new(&format!("decoder.{}", 3 * i + 1), images, outputs, 3, activation, training))
        });
        ConvDecoder { stages: stages.collect(), expand }
    }
}

impl Coder for ConvDecoder {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        let mut x = self.expand.forward(plan, x)?;
        for (i, (source, conv)) in self.stages.iter_mut().enumerate() {
            let y = plan.activation(format!("decoder.{}.upsampled", 3 * i), &[4 * source.len()])?;
            upsample::Forward { x, y, images: *source, planes: i == 0 }.record(plan, "upsample")?;
            x = conv.forward(plan, y)?;
        }
        Ok(x)
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor, needs_input: bool) -> Result<Option<Tensor>> {
        let mut d = dy;
        for (i, (source, conv)) in self.stages.iter_mut().enumerate().rev() {
            let dup = conv.backward(plan, d)?;
            d = plan.activation(format!("decoder.{}.dsource", 3 * i), &[source.len()])?;
            upsample::Backward { dy: dup, dx: d, images: *source, planes: i == 0 }.record(plan, "upsample")?;
        }
        let dz = before_activation(plan, &self.expand, d, "expand")?;
        self.expand.backward_params(plan, dz)?;
        if needs_input { self.expand.backward_input(plan, dz, Fused::default()).map(Some) } else { Ok(None) }
    }
}
