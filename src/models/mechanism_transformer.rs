//! The mechanism transformer: Llama blocks over a latent, a type and the joints so far, which predict the next joint.

use serde::{Deserialize, Serialize};

use super::sequence_transformer::positive;
use crate::error::{Error, Result, out_of_range};
use crate::gpu::Role;
use crate::kernels::embedding::{AddPositions, BackwardPositions, BackwardTable};
use crate::kernels::fourier::{self, Frequencies};
use crate::kernels::matmul::Activation;
use crate::kernels::rope;
use crate::kernels::tokens::{self, BEFORE_JOINTS};
use crate::layers::{Cache, Fused, Layer, LayerNorm, Linear, LlamaBlock, LlamaBlockConfig, dropout, kept};
use crate::plan::{Init, Plan, Tensor};
use crate::random::Random;

/// Base of the rotary angles.
const THETA: f64 = 10_000.0;
/// Rows of the position table: type, start, and eight joints, of which the last is never an input.
const POSITIONS: usize = 10;
/// Stream of the random frequencies.
const FREQUENCIES: u32 = 21;

/// Name of the buffer of random frequencies, (2, count).
pub(crate) const RANDOM_FREQUENCIES: &str = "joint_features.B";
/// Name of the constant table of rotary angles.
const ROPE_TABLE: &str = "rope.table";

/// What a joint's coordinates become before the first layer sees them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Features {
    /// Themselves.
    Raw {},
    /// sin and cos of 2^k π v, k = 0 … count − 1.
    PowersOfTwo {
        /// Frequencies of each coordinate.
        count: usize,
    },
    /// sin and cos of k v, or of k π v, k = 1 … count.
    Linear {
        /// Frequencies of each coordinate.
        count: usize,
        /// Times π.
        pi: bool,
    },
    /// sin and cos of 2π x·B, B ~ N(0, sigma²) drawn once.
    Gaussian {
        /// Frequencies.
        count: usize,
        /// Their standard deviation.
        sigma: f64,
    },
}

impl Features {
    /// Features of a joint.
    pub fn width(&self) -> usize {
        match self {
            Features::Raw {} => 2,
            Features::PowersOfTwo { count } | Features::Linear { count, .. } => 4 * count,
            Features::Gaussian { count, .. } => 2 * count,
        }
    }

    /// B of `Gaussian`, (2, count), drawn with a seed.
    pub fn random_frequencies(&self, seed: u64) -> Option<Vec<f32>> {
        let Features::Gaussian { count, sigma } = self else { return None };
        let mut random = Random::new(seed, FREQUENCIES, 0);
        Some((0..2 * count).map(|_| (random.normal() * sigma) as f32).collect())
    }

    /// For tables: what, and how many.
    pub fn describe(&self) -> (String, String) {
        match self {
            Features::Raw {} => ("none".into(), "–".into()),
            Features::PowersOfTwo { count } => ("2^k π".into(), count.to_string()),
            Features::Linear { count, pi: true } => (format!("1…{count} times π"), count.to_string()),
            Features::Linear { count, pi: false } => (format!("1…{count}"), count.to_string()),
            Features::Gaussian { count, sigma } => ("Gaussian".into(), format!("{count}, σ = {sigma}")),
        }
    }
}

/// Sizes of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MechanismTransformerConfig {
    /// Features.
    pub d_model: usize,
    /// Heads; they divide `d_model` into even parts.
    pub heads: usize,
    /// Blocks.
    pub layers: usize,
    /// Features of the feed-forward networks.
    pub feed_forward: usize,
    /// On the latent's hidden layer and on attention probabilities.
    #[serde(default)]
    pub dropout: f64,
    /// Types of mechanisms.
    pub types: usize,
    /// Linear layers between features and tokens, 1 or 2.
    pub joint_layers: usize,
    /// Features of a joint.
    pub features: Features,
}

impl MechanismTransformerConfig {
    pub(super) fn validate(&self) -> std::result::Result<(), String> {
        let sizes = [
            ("d_model", self.d_model, 1 << 16),
            ("heads", self.heads, 1 << 12),
            ("layers", self.layers, 1 << 10),
            ("feed_forward", self.feed_forward, 1 << 18),
            ("types", self.types, 1 << 16),
            ("joint_layers", self.joint_layers, 2),
        ];
        sizes.into_iter().try_for_each(|(key, value, most)| positive(key, value, most))?;
        for (key, value) in [("d_model", self.d_model), ("feed_forward", self.feed_forward)] {
            if !value.is_multiple_of(8) {
                return Err(format!("model.{key} = {value} must be a multiple of 8"));
            }
        }
        if !self.d_model.is_multiple_of(2 * self.heads) || self.d_model / self.heads > 128 {
            return Err(format!(
                "model.heads = {} must divide model.d_model = {} into parts of an even number of features, at most 128",
                self.heads, self.d_model
            ));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(out_of_range("model.dropout", self.dropout, "in [0, 1)"));
        }
        match self.features {
            Features::PowersOfTwo { count } => positive("features.count", count, 64),
            Features::Linear { count, .. } | Features::Gaussian { count, .. } => positive("features.count", count, 1024),
            Features::Raw {} => Ok(()),
        }?;
        match self.features {
            Features::Gaussian { sigma, .. } if !(1e-6..=1e3).contains(&sigma) => {
                Err(out_of_range("model.features.sigma", sigma, "from 1e-6 to 1000"))
            }
            _ => Ok(()),
        }
    }

    /// Values of the constant tensors that a plan of this model has, by name.
    pub(crate) fn constants(&self, limit: usize) -> Vec<(&'static str, Vec<f32>)> {
        vec![(ROPE_TABLE, rope::table(limit, self.d_model / self.heads, THETA))]
    }
}

/// What a batch holds.
#[derive(Debug, Clone, Copy)]
pub struct MechanismInputs {
    /// (batch, latents).
    pub latents: Tensor,
    /// (batch) types.
    pub types: Tensor,
    /// (batch, joints, 2): normalised coordinates of the joints that are inputs.
    pub points: Tensor,
    /// Samples.
    pub batch: usize,
}

/// The layers of the model.
#[derive(Debug, Clone)]
pub struct MechanismTransformer {
    config: MechanismTransformerConfig,
    rate: f64,
    latent: [Linear; 2],
    latent_norm: LayerNorm,
    joint: Vec<Linear>,
    blocks: Vec<LlamaBlock>,
    norm: LayerNorm,
    head: Linear,
    saved: Option<Saved>,
}

#[derive(Debug, Clone, Copy)]
struct Saved {
    inputs: MechanismInputs,
    token: Tensor,
    table: Tensor,
    sos: Tensor,
    positions: Tensor,
    joints: usize,
    length: usize,
}

impl MechanismTransformer {
    /// Layers for `batch` sequences of `latents` numbers each. Without `training` there is no dropout and nothing is kept for a backward pass.
    ///
    /// # Errors
    /// `Config` when the heads do not divide the features.
    pub fn new(config: &MechanismTransformerConfig, latents: usize, batch: usize, training: bool) -> Result<Self> {
        let d = config.d_model;
        let rate = if training { config.dropout } else { 0.0 };
        let block = LlamaBlockConfig { features: d, heads: config.heads, hidden: config.feed_forward, dropout: rate, eps: 1e-6 };
        let hidden = |name: &str, inputs: usize| {
            let mut linear = Linear::new(name, inputs, d);
            (linear.activation, linear.training) = (Activation::Relu, training);
            linear
        };
        let joint = match config.joint_layers {
            1 => vec![Linear::new("joint_embedding", config.features.width(), d)],
            _ => vec![hidden("joint_embedding.0", config.features.width()), Linear::new("joint_embedding.2", d, d)],
        };
        Ok(MechanismTransformer {
            config: config.clone(),
            rate,
            latent: [hidden("latent_embedding.0", latents), Linear::new("latent_embedding.3", d, d)],
            latent_norm: LayerNorm::new("latent_norm", d, 1e-5),
            joint,
            blocks: (0..config.layers).map(|i| LlamaBlock::new(&format!("model.layers.{i}"), batch, block)).collect::<Result<_>>()?,
            norm: LayerNorm::rms("model.norm", d, 1e-6),
            head: Linear::new("head", d, 3),
            saved: None,
        })
    }

    /// Appends (batch, length, 3): of each token (x, y, logit of the stop bit) of the joint after it, over whole sequences [latent, type,
    /// start, joints], or of the token at state.position over a cache of `limit` positions.
    ///
    /// # Errors
    /// As `Layer::forward`.
    pub fn forward(&mut self, plan: &mut Plan, inputs: MechanismInputs, cache: Option<Cache>) -> Result<Tensor> {
        let MechanismInputs { latents, types, points, batch } = inputs;
        let d = self.config.d_model;
        let joints = plan.len(points) / 2 / batch;
        let (length, limit) = match cache {
            Some(cache) => (1, cache.limit),
            None => (BEFORE_JOINTS + joints, BEFORE_JOINTS + joints),
        };
        let [first, second] = &mut self.latent;
        first.dropout = dropout(plan, self.rate);
        let h = first.forward(plan, latents)?;
        let h = second.forward(plan, h)?;
        let token = plan.parameter("latent_token", &[d], Init::Zeros)?;
        let sum = plan.like("latent.sum", h)?;
        AddPositions { x: h, positions: token, y: sum, cols: d }.record(plan, "latent")?;
        let latent = self.latent_norm.forward(plan, sum)?;
        let table = plan.parameter("type_embedding.weight", &[self.config.types, d], Init::Normal(1.0))?;
        let sos = plan.parameter("sos", &[d], Init::Normal(1.0))?;
        let positions = plan.parameter("position_embedding.weight", &[POSITIONS, d], Init::Normal(1.0))?;
        let mut joint = self.features(plan, points)?;
        for linear in &mut self.joint {
            joint = linear.forward(plan, joint)?;
        }
        let mut x = plan.activation("tokens", &[batch, length, d])?;
        tokens::Forward { latent, ids: types, table, sos, positions, joint, y: x, batch, length, cols: d, joints }
            .record(plan, "tokens")?;
        let angles = plan.persistent(Role::Workspace, ROPE_TABLE, &[limit, d / self.config.heads / 2, 2])?;
        for block in &mut self.blocks {
            x = block.forward(plan, x, angles, cache)?;
        }
        let x = self.norm.forward(plan, x)?;
        self.saved = Some(Saved { inputs, token, table, sos, positions, joints, length });
        self.head.forward(plan, x)
    }

    fn features(&self, plan: &mut Plan, points: Tensor) -> Result<Tensor> {
        let frequencies = match self.config.features {
            Features::Raw {} => return Ok(points),
            Features::PowersOfTwo { count } => Frequencies::PowersOfTwo(count),
            Features::Linear { count, pi: true } => Frequencies::MultiplesOfPi(count),
            Features::Linear { count, pi: false } => Frequencies::Multiples(count),
            Features::Gaussian { count, .. } => {
                Frequencies::Random(plan.persistent(Role::Workspace, RANDOM_FREQUENCIES, &[2, count])?, count)
            }
        };
        let y = plan.activation("joint_features", &[plan.len(points) / 2, self.config.features.width()])?;
        fourier::Features { x: points, y, frequencies }.record(plan, "joint_features")?;
        Ok(y)
    }

    /// Appends the gradients of all weights from the gradient of the outputs.
    ///
    /// # Errors
    /// `Internal` before `forward`.
    pub fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<()> {
        let Saved { inputs, token, table, sos, positions, joints, length } = kept(&self.saved, "mechanism transformer")?;
        let (d, batch) = (self.config.d_model, inputs.batch);
        let dx = self.head.backward(plan, dy)?;
        let mut dx = self.norm.backward(plan, dx)?;
        for block in self.blocks.iter_mut().rev() {
            dx = block.backward(plan, dx)?;
        }
        let (dlatent, dtype) = (plan.activation("dlatent", &[batch, d])?, plan.activation("dtype", &[batch, d])?);
        let djoint = plan.activation("djoint", &[batch, joints, d])?;
        tokens::Backward { dy: dx, dlatent, dtype, djoint, batch, cols: d, joints }.record(plan, "tokens")?;
        let (dpositions, dsos) = (plan.gradient(positions)?, plan.gradient(sos)?);
        tokens::BackwardParams { dy: dx, dpositions, dsos, batch, length, cols: d }.record(plan, "tokens")?;
        let dtable = plan.gradient(table)?;
        BackwardTable { ids: inputs.types, dy: dtype, dtable, rows: batch, cols: d, vocab: self.config.types }.record(plan, "tokens")?;
        let dsum = self.latent_norm.backward(plan, dlatent)?;
        let dtoken = plan.gradient(token)?;
        BackwardPositions { dy: dsum, dpositions: dtoken, batch, n: d }.record(plan, "latent")?;
        two_layers(plan, &self.latent[0], &self.latent[1], dsum)?;
        match &self.joint[..] {
            [first, second] => two_layers(plan, first, second, djoint),
            [only] => only.backward_params(plan, djoint),
            _ => Err(Error::Internal("a model without joint layers".into())),
        }
    }
}

/// Gradients of the weights of two layers with an activation, and perhaps a dropout, between them; what comes before is data.
fn two_layers(plan: &mut Plan, first: &Linear, second: &Linear, dy: Tensor) -> Result<()> {
    second.backward_params(plan, dy)?;
    let below = Fused { derivative: first.derivative()?, dropout: first.dropout, residual: None };
    let dz = second.backward_input(plan, dy, below)?;
    first.backward_params(plan, dz)
}
