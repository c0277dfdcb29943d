//! Variational autoencoder of images (Kingma & Welling 2014), dense or convolutional.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::{Build, Model, ModelKind};
use crate::batch::{Inputs, Outputs};
use crate::config::{Section, in_range};
use crate::error::{Error, Result};
use crate::kernels::matmul::Activation;
use crate::kernels::vae::{Backward, Sample};
use crate::kernels::{Images, max_pool, upsample};
use crate::layers::{Conv2d, Fused, Layer, Linear, saved_by_forward};
use crate::losses::Gradients;
use crate::plan::{Plan, Tensor};

/// Layers of encoder and decoder, between pixels and latents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum VaeLayers {
    /// Dense network with one hidden layer in encoder and decoder.
    Dense {
        /// Number of features of the hidden layer.
        #[schemars(range(min = 1, max = 1 << 18))]
        hidden: usize,
    },
    /// Convolutional network: the encoder has stages of convolution, ReLU and 2 × 2 max-pooling, the decoder upsampling and 3 × 3
    /// convolutions.
    Convolution {
        /// Number of output channels of each stage, for one to eight stages.
        #[schemars(length(min = 1, max = 8), inner(range(min = 1, max = 1 << 12)))]
        channels: Vec<usize>,
        /// Kernel size of each stage in pixels, an odd number.
        #[schemars(length(min = 1, max = 8), inner(range(min = 1, max = 31)))]
        kernels: Vec<usize>,
    },
}

/// Sizes and options of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageVaeConfig {
    /// Number of features of the latent vector z.
    #[schemars(range(min = 1, max = 1 << 16))]
    pub latents: usize,
    /// Sample z from the posterior in training, instead of z = μ.
    #[serde(default = "yes")]
    pub noise: bool,
    /// Layers of encoder and decoder.
    pub layers: VaeLayers,
}

fn yes() -> bool {
    true
}

const NAME: &str = "model.kind = \"image_vae\"";

impl Section for ImageVaeConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        in_range(self, "model")?;
        let VaeLayers::Convolution { channels, kernels } = &self.layers else { return Ok(()) };
        if channels.is_empty() || channels.len() > 8 || channels.len() != kernels.len() {
            return Err(format!(
                "model.layers: {} channels and {} kernels; give one to eight stages, each with both",
                channels.len(),
                kernels.len()
            ));
        }
        match kernels.iter().find(|k| *k % 2 == 0) {
            Some(k) => Err(format!("model.layers.kernels: {k} is out of range: kernels are odd")),
            None => Ok(()),
        }
    }
}

impl ModelKind for ImageVaeConfig {
    fn build(&self, build: &Build<'_>) -> Result<Box<dyn Model>> {
        let [side, width] = build.fields.shape(NAME, "images")?;
        if side != width {
            return Err(Error::Config(format!("{NAME} takes square images, not {side} × {width}")));
        }
        let (encoder, decoder): (Box<dyn Layer>, Box<dyn Layer>) = match &self.layers {
            VaeLayers::Dense { hidden } => {
                let pixels = side * side;
                (
                    Box::new(Dense::new("encoder", [pixels, *hidden, 2 * self.latents], Activation::Identity)),
                    Box::new(Dense::new("decoder", [self.latents, *hidden, pixels], Activation::Sigmoid)),
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
                    Box::new(ConvEncoder::new(side, channels, kernels, self.latents)),
                    Box::new(ConvDecoder::new(side / factor, channels, self.latents)),
                )
            }
        };
        Ok(Box::new(ImageVae { encoder, decoder, latents: self.latents, noise: self.noise, saved: None }))
    }
}

/// Variational autoencoder: `images` → posterior (μ, ln σ²); z = μ + ε σ, or z = μ outside of training; z → reconstruction, by a sigmoid.
#[derive(Debug)]
struct ImageVae {
    encoder: Box<dyn Layer>,
    decoder: Box<dyn Layer>,
    latents: usize,
    noise: bool,
    saved: Option<(Tensor, Option<u32>)>,
}

impl Model for ImageVae {
    fn forward(&mut self, plan: &mut Plan, inputs: &Inputs) -> Result<Outputs> {
        let posterior = self.encoder.forward(plan, inputs.get(NAME, "images")?)?;
        let z = plan.activation("z", &[inputs.batch, self.latents])?;
        let noise = (self.noise && plan.options.trains).then(|| plan.stream());
        Sample { x: posterior, z, cols: self.latents, noise }.record(plan, "posterior")?;
        self.saved = Some((posterior, noise));
        Ok(Outputs { others: vec![("posterior", posterior)], ..Outputs::only(self.decoder.forward(plan, z)?) })
    }

    fn backward(&mut self, plan: &mut Plan, gradients: &Gradients) -> Result<()> {
        let (posterior, noise) = saved_by_forward(&self.saved, "posterior")?;
        let dz = self.decoder.backward(plan, gradients.main)?;
        let dx = plan.like("posterior.dx", posterior)?;
        let weight = gradients.factor("divergence");
        Backward { x: posterior, dz, dx, cols: self.latents, noise, weight, scale: gradients.scale }.record(plan, "posterior")?;
        self.encoder.backward(plan, dx).map(|_| ())
    }
}

/// Dense network: Linear → ReLU → Linear → activation.
#[derive(Debug)]
struct Dense {
    hidden: Linear,
    output: Linear,
}

impl Dense {
    fn new(name: &str, [inputs, hidden, outputs]: [usize; 3], last: Activation) -> Self {
        let linear = |n: usize, inputs: usize, outputs: usize, activation: Activation| {
            Linear::new(&format!("{name}.{n}"), inputs, outputs).activated(activation)
        };
        Dense { hidden: linear(0, inputs, hidden, Activation::Relu), output: linear(2, hidden, outputs, last) }
    }
}

impl Layer for Dense {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        let h = self.hidden.forward(plan, x)?;
        self.output.forward(plan, h)
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        let dz = self.output.before_activation(plan, dy)?;
        self.output.backward_params(plan, dz)?;
        let dh = self.output.backward_input(plan, dz, Fused { derivative: self.hidden.derivative()?, ..Fused::default() })?;
        self.hidden.backward(plan, dh)
    }
}

/// Batch, height, width and channels of a tensor of images, with channels last.
fn images_of(plan: &Plan, x: Tensor) -> Result<Images> {
    let [batch, height, width, channels] = plan.shape(x)[..] else {
        return Err(Error::Internal(format!("images of shape {:?}", plan.shape(x))));
    };
    Ok(Images { batch, height, width, channels })
}

/// Convolutional encoder: stages of convolution → ReLU → max-pool, then Linear. Weights `encoder.0`, `encoder.3`, …, `latent`.
#[derive(Debug)]
struct ConvEncoder {
    stages: Vec<Conv2d>,
    latent: Linear,
    saved: Vec<Tensor>,
}

impl ConvEncoder {
    fn new(side: usize, channels: &[usize], kernels: &[usize], latents: usize) -> Self {
        let (mut stages, mut side, mut inputs) = (Vec::new(), side, 1);
        for (i, (outputs, kernel)) in channels.iter().zip(kernels).enumerate() {
            stages.push(Conv2d::new(&format!("encoder.{}", 3 * i), inputs, *outputs, *kernel, Activation::Relu));
            (side, inputs) = (side / 2, *outputs);
        }
        ConvEncoder { stages, latent: Linear::new("latent", side * side * inputs, 2 * latents), saved: vec![] }
    }
}

impl Layer for ConvEncoder {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        let (mut x, last) = (x, self.stages.len() - 1);
        self.saved.clear();
        for (i, conv) in self.stages.iter_mut().enumerate() {
            let h = conv.forward(plan, x)?;
            self.saved.push(h);
            let images = images_of(plan, h)?;
            let Images { batch, height, width, channels } = images;
            x = plan.activation(format!("encoder.{}.pooled", 3 * i), &[batch, height / 2, width / 2, channels])?;
            max_pool::Forward { x: h, y: x, images, planes: i == last }.record(plan, "pool")?;
        }
        self.latent.forward(plan, x)
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        let last = self.stages.len() - 1;
        let mut d = self.latent.backward(plan, dy)?;
        for (i, conv) in self.stages.iter_mut().enumerate().rev() {
            let x = *self.saved.get(i).ok_or_else(|| Error::Internal("encoder: backward before forward".into()))?;
            let dx = plan.like(format!("encoder.{}.dpool", 3 * i), x)?;
            max_pool::Backward { x, dy: d, dx, images: images_of(plan, x)?, planes: i == last }.record(plan, "pool")?;
            d = conv.backward(plan, dx)?;
        }
        Ok(d)
    }
}

/// Convolutional decoder: Linear → ReLU, then stages of upsampling → 3 × 3 convolution → ReLU, with a sigmoid in the last stage. Weights
/// `expand`, `decoder.1`, `decoder.4`, ….
#[derive(Debug)]
struct ConvDecoder {
    /// Side of the smallest images in pixels.
    side: usize,
    expand: Linear,
    /// Number of input channels and the convolution, for each stage.
    stages: Vec<(usize, Conv2d)>,
}

impl ConvDecoder {
    fn new(side: usize, channels: &[usize], latents: usize) -> Self {
        let most = channels[channels.len() - 1];
        let expand = Linear::new("expand", latents, side * side * most).activated(Activation::Relu);
        let (mut inputs, last) = (most, channels.len() - 1);
        let outputs = channels[..last].iter().rev().copied().chain([1]);
        let stages = outputs.enumerate().map(|(i, outputs)| {
            let activation = if i == last { Activation::Sigmoid } else { Activation::Relu };
            let conv = Conv2d::new(&format!("decoder.{}", 3 * i + 1), inputs, outputs, 3, activation);
            (std::mem::replace(&mut inputs, outputs), conv)
        });
        ConvDecoder { stages: stages.collect(), expand, side }
    }

    /// Sizes of the images that go into each stage.
    fn sources(&self, batch: usize) -> Vec<Images> {
        let one = |(i, (channels, _)): (usize, &(usize, Conv2d))| Images {
            batch,
            height: self.side << i,
            width: self.side << i,
            channels: *channels,
        };
        self.stages.iter().enumerate().map(one).collect()
    }
}

impl Layer for ConvDecoder {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        let sources = self.sources(plan.shape(x)[0]);
        let mut x = self.expand.forward(plan, x)?;
        for (i, ((_, conv), images)) in self.stages.iter_mut().zip(sources).enumerate() {
            let Images { batch, height, width, channels } = images;
            let y = plan.activation(format!("decoder.{}.upsampled", 3 * i), &[batch, 2 * height, 2 * width, channels])?;
            upsample::Forward { x, y, images, planes: i == 0 }.record(plan, "upsample")?;
            x = conv.forward(plan, y)?;
        }
        Ok(x)
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        let sources = self.sources(plan.shape(dy)[0]);
        let mut d = dy;
        for (i, ((_, conv), images)) in self.stages.iter_mut().zip(sources).enumerate().rev() {
            let dup = conv.backward(plan, d)?;
            d = plan.activation(format!("decoder.{}.dsource", 3 * i), &[images.len()])?;
            upsample::Backward { dy: dup, dx: d, images, planes: i == 0 }.record(plan, "upsample")?;
        }
        let dz = self.expand.before_activation(plan, d)?;
        self.expand.backward(plan, dz)
    }
}
