//! The mechanism transformer: Llama blocks over a latent, a type and the joints so far, which predict the next joint.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::{Build, Model, ModelKind};
use crate::batch::{Inputs, Outputs};
use crate::config::{Section, in_range};
use crate::error::{Error, Result};
use crate::gpu::Role;
use crate::kernels::embedding::{AddPositions, BackwardPositions, BackwardTable};
use crate::kernels::fourier::{self, Frequencies};
use crate::kernels::matmul::Activation;
use crate::kernels::tokens::{self, BEFORE_JOINTS};
use crate::layers::{Cache, Decoding, Fused, Layer, LayerNorm, Linear, LlamaBlock, LlamaBlockConfig, dropout, saved_by_forward};
use crate::losses::Gradients;
use crate::plan::{Buffer, Fill, Init, Plan, Tensor};
use crate::random::{Random, stream};

/// Base θ of the rotary angles.
const ROTARY_BASE: f64 = 10_000.0;
/// Number of rows of the position table: type, start and eight joints, of which the last is never an input.
const POSITIONS: usize = 10;

/// Name of the buffer of random frequencies, (2, count).
const RANDOM_FREQUENCIES: &str = "joint_features.B";
const NAME: &str = "model.kind = \"mechanism_transformer\"";

/// Features that the coordinates (x, y) of a joint are turned into before the first layer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Features {
    /// The coordinates themselves.
    Raw {},
    /// Fourier features sin and cos of 2^k π v, k = 0 … count − 1, for each coordinate v.
    PowersOfTwo {
        /// Number of frequencies for each coordinate.
        #[schemars(range(min = 1, max = 64))]
        count: usize,
    },
    /// Fourier features sin and cos of k v, or of k π v, k = 1 … count, for each coordinate v.
    Linear {
        /// Number of frequencies for each coordinate.
        #[schemars(range(min = 1, max = 1024))]
        count: usize,
        /// Multiply the frequencies by π.
        pi: bool,
    },
    /// Random Fourier features: sin and cos of 2π x·B, where B ~ N(0, sigma²) is drawn once.
    Gaussian {
        /// Number of frequencies.
        #[schemars(range(min = 1, max = 1024))]
        count: usize,
        /// Standard deviation of the frequencies.
        #[schemars(range(min = 1e-6, max = 1e3))]
        sigma: f64,
    },
}

impl Features {
    /// Number of features of a joint.
    pub fn width(&self) -> usize {
        match self {
            Features::Raw {} => 2,
            Features::PowersOfTwo { count } | Features::Linear { count, .. } => 4 * count,
            Features::Gaussian { count, .. } => 2 * count,
        }
    }

    /// Matrix B of `Gaussian`, shape (2, count), drawn with a seed; none for the others.
    fn random_frequencies(&self, seed: u64) -> Option<Vec<f32>> {
        let Features::Gaussian { count, sigma } = self else { return None };
        let mut random = Random::new(seed, stream::FREQUENCIES, 0);
        Some((0..2 * count).map(|_| (random.normal() * sigma) as f32).collect())
    }

    /// Kind and number of the frequencies, as text for tables.
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

/// Sizes and options of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MechanismTransformerConfig {
    /// Number of features of a token, a multiple of 8.
    #[schemars(range(min = 8, max = 1 << 16))]
    pub d_model: usize,
    /// Number of attention heads; they divide `d_model` into heads of an even number of features, at most 128.
    #[schemars(range(min = 1, max = 1 << 12))]
    pub heads: usize,
    /// Number of blocks.
    #[schemars(range(min = 1, max = 1 << 10))]
    pub layers: usize,
    /// Number of hidden features of the feed-forward networks, a multiple of 8.
    #[schemars(range(min = 8, max = 1 << 18))]
    pub feed_forward: usize,
    /// Dropout rate of the latent's hidden layer and of attention probabilities.
    #[serde(default)]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub dropout: f64,
    /// Number of types of mechanisms.
    #[schemars(range(min = 1, max = 1 << 16))]
    pub types: usize,
    /// Number of linear layers between features of a joint and its token.
    #[schemars(range(min = 1, max = 2))]
    pub joint_layers: usize,
    /// Features that the coordinates of a joint are turned into.
    pub features: Features,
}

impl Section for MechanismTransformerConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        in_range(self, "model")?;
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
        Ok(())
    }
}

impl ModelKind for MechanismTransformerConfig {
    /// Warns of frequencies that are noise: sin 2^k π v has the period 2^(1 − k), which is no more than twice the distance of neighbouring
    /// 32-bit numbers.
    fn notes(&self, size: f64) -> Vec<String> {
        let Features::PowersOfTwo { count } = self.features else { return vec![] };
        let apart = f64::from(f32::EPSILON) * 2f64.powi(size.max(1e-30).log2().floor() as i32);
        let first = (0..count).find(|k| 2f64.powi(*k as i32) * apart >= 1.0);
        let warning = |first: usize| {
            format!(
                "WARNING: {} of the {count} frequencies 2^k π, from k = {first} on, are noise to the model: neighbouring 32-bit numbers of the size of these coordinates \
                 ({size:.2}) are half a period apart or more. model.features.count = {first} keeps the others",
                count - first
            )
        };
        first.map(warning).into_iter().collect()
    }

    fn integers_below(&self) -> Option<usize> {
        Some(self.types)
    }

    fn buffers(&self, seed: u64) -> Vec<Buffer> {
        let frequencies = self.features.random_frequencies(seed);
        let buffer = |b: Vec<f32>| Buffer { name: RANDOM_FREQUENCIES.into(), shape: vec![2, b.len() / 2], values: b };
        frequencies.map(buffer).into_iter().collect()
    }

    fn build(&self, build: &Build<'_>) -> Result<Box<dyn Model>> {
        let [latents] = build.fields.shape(NAME, "latents")?;
        let [joints, 2] = build.fields.shape(NAME, "points")? else {
            return Err(Error::Config(format!("{NAME} needs points of the plane")));
        };
        let types = build.fields.below(NAME, "types")?;
        if types > self.types {
            return Err(Error::Data(format!(
                "the data have a type {}; model.types = {} is for types from 0 to {}. Raise model.types",
                types - 1,
                self.types,
                self.types - 1
            )));
        }
        let d = self.d_model;
        let heads = self.heads;
        let (hidden, dropout) = (self.feed_forward, self.dropout);
        let limit = BEFORE_JOINTS + joints;
        let block = LlamaBlockConfig { features: d, heads, kv_heads: heads, hidden, dropout, eps: 1e-6, theta: ROTARY_BASE, limit };
        let layer = |name: &str, inputs: usize| Linear::new(name, inputs, d).activated(Activation::Relu);
        let joint = match self.joint_layers {
            1 => vec![Linear::new("joint_embedding", self.features.width(), d)],
            _ => vec![layer("joint_embedding.0", self.features.width()), Linear::new("joint_embedding.2", d, d)],
        };
        let frequencies = build.buffers.iter().find(|b| b.name == RANDOM_FREQUENCIES);
        Ok(Box::new(MechanismTransformer {
            config: self.clone(),
            positions: limit,
            frequencies: frequencies.map(|b| Fill::floats(b.values.clone())),
            latent: [layer("latent_embedding.0", latents), Linear::new("latent_embedding.3", d, d)],
            latent_norm: LayerNorm::new("latent_norm", d, 1e-5),
            joint,
            blocks: (0..self.layers).map(|i| LlamaBlock::new(&format!("model.layers.{i}"), block)).collect::<Result<_>>()?,
            norm: LayerNorm::rms("model.norm", d, 1e-6),
            head: Linear::new("head", d, 3),
            saved: None,
        }))
    }
}

/// Maps `latents` (batch, n), `types` (batch) and `points` (batch, joints, 2) to (batch, length, 3): for each token of
/// [latent, type, start, joints], the coordinates of the next joint and the logit of its stop bit.
#[derive(Debug, Clone)]
struct MechanismTransformer {
    config: MechanismTransformerConfig,
    /// Number of tokens of a whole sequence.
    positions: usize,
    frequencies: Option<Fill>,
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
    types: Tensor,
    token: Tensor,
    table: Tensor,
    sos: Tensor,
    positions: Tensor,
    batch: usize,
    joints: usize,
    length: usize,
}

impl MechanismTransformer {
    /// Appends the forward pass over whole sequences, or for the token at state.position over a cache.
    fn tokens(&mut self, plan: &mut Plan, inputs: &Inputs, cache: Option<Cache>) -> Result<Outputs> {
        let [latents, types, points] = ["latents", "types", "points"].map(|name| inputs.get(NAME, name));
        let (latents, types, points, batch) = (latents?, types?, points?, inputs.batch);
        let d = self.config.d_model;
        let joints = plan.len(points) / 2 / batch;
        let length = if cache.is_some() { 1 } else { self.positions };
        let [first, second] = &mut self.latent;
        first.dropout = dropout(plan, self.config.dropout);
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
        for block in &mut self.blocks {
            x = block.forward(plan, x, cache)?;
        }
        let x = self.norm.forward(plan, x)?;
        self.saved = Some(Saved { types, token, table, sos, positions, batch, joints, length });
        self.head.forward(plan, x).map(Outputs::only)
    }

    fn features(&self, plan: &mut Plan, points: Tensor) -> Result<Tensor> {
        let frequencies = match self.config.features {
            Features::Raw {} => return Ok(points),
            Features::PowersOfTwo { count } => Frequencies::PowersOfTwo(count),
            Features::Linear { count, pi: true } => Frequencies::MultiplesOfPi(count),
            Features::Linear { count, pi: false } => Frequencies::Multiples(count),
            Features::Gaussian { count, .. } => {
                Frequencies::Random(plan.constant(Role::Workspace, RANDOM_FREQUENCIES, &[2, count], self.frequencies.clone())?, count)
            }
        };
        let y = plan.activation("joint_features", &[plan.shape(points)[0], plan.shape(points)[1], self.config.features.width()])?;
        fourier::Features { x: points, y, frequencies }.record(plan, "joint_features")?;
        Ok(y)
    }
}

impl Model for MechanismTransformer {
    fn forward(&mut self, plan: &mut Plan, inputs: &Inputs) -> Result<Outputs> {
        self.tokens(plan, inputs, None)
    }

    fn decoding(&self) -> Decoding {
        Decoding::Limited
    }

    fn forward_cached(&mut self, plan: &mut Plan, inputs: &Inputs, cache: Cache) -> Result<Outputs> {
        self.tokens(plan, inputs, Some(cache))
    }

    fn backward(&mut self, plan: &mut Plan, gradients: &Gradients) -> Result<()> {
        let Saved { types, token, table, sos, positions, batch, joints, length } = saved_by_forward(&self.saved, "mechanism transformer")?;
        let d = self.config.d_model;
        let dx = self.head.backward(plan, gradients.main)?;
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
        BackwardTable { ids: types, dy: dtype, dtable, rows: batch, cols: d, vocab: self.config.types }.record(plan, "tokens")?;
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

/// Appends the weight gradients of two layers with an activation, and perhaps dropout, between them; their input is data without gradient.
fn two_layers(plan: &mut Plan, first: &Linear, second: &Linear, dy: Tensor) -> Result<()> {
    second.backward_params(plan, dy)?;
    let below = Fused { derivative: first.derivative()?, dropout: first.dropout, residual: None };
    let dz = second.backward_input(plan, dy, below)?;
    first.backward_params(plan, dz)
}
