//! Mamba-2: a selective state space behind a short convolution, gated and normalised.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layer::{Cache, Decoding, Layer, axes};
use super::layer_norm::LayerNorm;
use super::linear::{Fused, Linear};
use super::low_rank::LowRank;
use super::sequential::Step;
use super::stacked::{Sample, StackLayer};
use super::state_space::{HeadNumbers, StateSpace};
use crate::error::{Error, Result};
use crate::gpu::Role;
use crate::kernels::conv1d::{BackwardDepthwiseInput, BackwardDepthwiseWeights, Channels, Depthwise, Operands};
use crate::kernels::matmul::Activation;
use crate::kernels::ssd::Sizes;
use crate::kernels::{Carry, gated_norm};
use crate::plan::{Init, Plan, Tensor};

/// Added to the mean squares of the normalisations.
pub const EPS: f64 = 1e-5;

/// Sizes of a Mamba-2 mixer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mamba2Config {
    /// Number of states N of a feature.
    #[serde(default = "sixty_four")]
    #[schemars(range(min = 1, max = 1 << 10))]
    pub state: usize,
    /// Number of features P of a head; it divides the features of all heads.
    #[serde(default = "sixty_four")]
    #[schemars(range(min = 1, max = 1 << 10))]
    pub head: usize,
    /// Features of all heads, as a multiple of the layer's.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 16))]
    pub expand: usize,
    /// Number of positions that the short convolution looks at.
    #[serde(default = "four")]
    #[schemars(range(min = 1, max = 16))]
    pub conv: usize,
    /// Number of groups of heads that share their keys and queries; it divides the heads.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1 << 10))]
    pub groups: usize,
    /// Number of positions that are computed at a time as a matrix product. Results do not depend on it.
    #[serde(default = "sixty_four")]
    #[schemars(range(min = 1, max = 256))]
    pub chunk: usize,
}

fn sixty_four() -> usize {
    64
}

fn four() -> usize {
    4
}

fn two() -> usize {
    2
}

fn one() -> usize {
    1
}

impl Default for Mamba2Config {
    fn default() -> Self {
        Mamba2Config { state: sixty_four(), head: sixty_four(), expand: two(), conv: four(), groups: one(), chunk: sixty_four() }
    }
}

/// `mamba_ssm.Mamba2` (Dao & Gu 2024), with its weight names, which are those of `transformers` too:
/// (z, xBC, d) = in_proj u; xBC ← silu(causal convolution of each channel); y = the state space of x, B, C and d; out_proj(RMSNorm(y ⊙
/// silu(z))).
#[derive(Debug)]
pub struct Mamba2 {
    name: String,
    config: Mamba2Config,
    /// E: features of all heads.
    inner: usize,
    in_proj: Linear,
    out_proj: Linear,
    saved: Option<Saved>,
}

#[derive(Debug)]
struct Saved {
    conv: Operands,
    space: StateSpace,
    numbers: HeadNumbers,
    norm: gated_norm::Operands,
}

impl Mamba2 {
    /// A layer with weights `name.in_proj.weight` and so on; `layers` is the number of layers of the model, by whose root the weights of
    /// `out_proj` are smaller at first.
    ///
    /// # Errors
    /// `Config` when the sizes do not divide each other.
    pub fn new(name: &str, features: usize, layers: usize, config: Mamba2Config) -> Result<Self> {
        let inner = config.expand * features;
        if config.head == 0 || !inner.is_multiple_of(config.head) {
            return Err(Error::Config(format!(
                "mamba2: head = {} must divide the {inner} features of all heads (expand · {features})",
                config.head
            )));
        }
        let heads = inner / config.head;
        if config.groups == 0 || !heads.is_multiple_of(config.groups) {
            return Err(Error::Config(format!("mamba2: groups = {} must divide the {heads} heads", config.groups)));
        }
        let outputs = 2 * inner + 2 * config.groups * config.state + heads;
        let projection = |part: &str, inputs: usize, outputs: usize, scale: f64| {
            let label = format!("{name}.{part}");
            Linear::without_bias(&label, &[format!("{label}.weight")], inputs, outputs, Init::Uniform(scale / (inputs as f64).sqrt()))
        };
        let in_proj = projection("in_proj", features, outputs, 1.0);
        let out_proj = projection("out_proj", inner, features, 1.0 / (layers.max(1) as f64).sqrt());
        Ok(Mamba2 { name: name.into(), config, inner, in_proj, out_proj, saved: None })
    }

    /// Appends the forward pass over x (batch, length, features), added to `residual`; with a cache over the window and the states that
    /// earlier positions have left.
    fn forward_from(&mut self, plan: &mut Plan, x: Tensor, residual: Option<Tensor>, cache: Option<Cache>) -> Result<Tensor> {
        let [batch, length, _] = axes(plan, x, &self.name)?;
        let Mamba2Config { state, head, conv, groups, chunk, .. } = self.config;
        let (inner, heads, name) = (self.inner, self.inner / head, self.name.clone());
        let zx = self.in_proj.forward_fused(plan, x, None)?;
        let width = plan.len(zx) / (batch * length);
        let bound = Init::Uniform(1.0 / (conv as f64).sqrt());
        let channels = inner + 2 * groups * state;
        let w = plan.parameter(&format!("{name}.conv1d.weight"), &[channels, 1, conv], bound)?;
        let bias = plan.parameter(&format!("{name}.conv1d.bias"), &[channels], bound)?;
        let sizes = Channels { batch, length, channels, width, first: inner, kernel: conv, activation: Activation::Silu };
        let convolution = Operands { x: zx, w, bias, sizes };
        let xbc = plan.activation(format!("{name}.conv1d.y"), &[batch, length, channels])?;
        let mut carry = |part: &str, shape: &[usize]| match cache {
            Some(Cache { sources, limit }) => {
                let kept = plan.persistent(Role::KvCache, &format!("{name}.{part}"), &[&[2, batch], shape].concat())?;
                Ok(Some(Carry { kept, sources, limit }))
            }
            None => Ok(None),
        };
        let window = if conv > 1 { carry("window", &[conv - 1, channels])? } else { None };
        let carry = carry("state", &[heads, head, state])?;
        Depthwise { of: convolution, y: xbc, carry: window }.record(plan, &name)?;
        let numbers = HeadNumbers {
            dt_bias: plan.parameter(&format!("{name}.dt_bias"), &[heads], Init::SoftplusLogUniform(1e-3, 0.1, 1e-4))?,
            a_log: plan.parameter(&format!("{name}.A_log"), &[heads], Init::LogOfUniform(1.0, 16.0))?,
            d: plan.parameter(&format!("{name}.D"), &[heads], Init::Ones)?,
        };
        let sizes = Sizes { batch, length, size: chunk.min(length), heads, groups, features: head, states: state };
        let mut space = StateSpace::new(&format!("{name}.ssd"), sizes, [0.0, f64::INFINITY]);
        let y = space.forward(plan, [xbc, zx], numbers, carry)?;
        let w = plan.parameter(&format!("{name}.norm.weight"), &[inner], Init::Ones)?;
        let stats = plan.activation(format!("{name}.norm.stats"), &[batch * length, groups])?;
        let norm = gated_norm::Operands { y, z: zx, w, stats, rows: batch * length, cols: inner, groups };
        let out = plan.like(format!("{name}.norm.y"), y)?;
        gated_norm::Forward { of: norm, out, eps: EPS }.record(plan, &name)?;
        self.saved = Some(Saved { conv: convolution, space, numbers, norm });
        self.out_proj.forward_fused(plan, out, residual)
    }
}

impl Layer for Mamba2 {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        self.forward_from(plan, x, None, None)
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        let before = || Error::Internal(format!("{}: backward before forward", self.name));
        let Saved { conv, mut space, numbers, norm } = self.saved.take().ok_or_else(before)?;
        let name = self.name.clone();
        self.out_proj.backward_params(plan, dy)?;
        let dout = self.out_proj.backward_input(plan, dy, Fused::default())?;
        let dzx = plan.like(format!("{name}.dzx"), conv.x)?;
        let dy = plan.like(format!("{name}.dy"), norm.y)?;
        gated_norm::Backward { of: norm, dout, dy, dz: dzx }.record(plan, &name)?;
        gated_norm::BackwardWeight { of: norm, dout, dw: plan.gradient(norm.w)? }.record(plan, &name)?;
        let gradients =
            HeadNumbers { a_log: plan.gradient(numbers.a_log)?, dt_bias: plan.gradient(numbers.dt_bias)?, d: plan.gradient(numbers.d)? };
        let dxbc = space.backward(plan, dy, dzx, gradients)?;
        BackwardDepthwiseInput { of: conv, dy: dxbc, dx: dzx }.record(plan, &name)?;
        let (dw, db) = (plan.gradient(conv.w)?, plan.gradient(conv.bias)?);
        BackwardDepthwiseWeights { of: conv, dy: dxbc, dw, db }.record(plan, &name)?;
        self.in_proj.backward_params(plan, dzx)?;
        self.in_proj.backward_input(plan, dzx, Fused::default())
    }

    fn decoding(&self) -> Decoding {
        Decoding::Endless
    }

    fn keeps_state(&self) -> bool {
        true
    }

    fn forward_cached(&mut self, plan: &mut Plan, x: Tensor, cache: Cache) -> Result<Tensor> {
        self.forward_from(plan, x, None, Some(cache))
    }
}

/// A block of Mamba-2: x + mixer(RMSNorm(x)).
#[derive(Debug)]
pub struct Mamba2Block {
    norm: LayerNorm,
    mixer: Mamba2,
}

impl Mamba2Block {
    /// A block with the weights `name.norm.weight` and `name.mixer.…`, one of so many of a model.
    ///
    /// # Errors
    /// As `Mamba2::new`.
    pub fn new(name: &str, features: usize, layers: usize, config: Mamba2Config) -> Result<Self> {
        let mixer = Mamba2::new(&format!("{name}.mixer"), features, layers, config)?;
        Ok(Mamba2Block { norm: LayerNorm::rms(&format!("{name}.norm"), features, EPS), mixer })
    }

    /// The block with adapters of the projections into and out of its mixer.
    pub fn adapted(mut self, adapter: Option<LowRank>) -> Self {
        let Mamba2 { in_proj, out_proj, .. } = self.mixer;
        self.mixer = Mamba2 { in_proj: in_proj.adapted(adapter), out_proj: out_proj.adapted(adapter), ..self.mixer };
        self
    }
}

impl Layer for Mamba2Block {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        let normed = self.norm.forward(plan, x)?;
        self.mixer.forward_from(plan, normed, Some(x), None)
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        let dn = self.mixer.backward(plan, dy)?;
        self.norm.backward_fused(plan, dn, Fused { residual: Some(dy), ..Fused::default() })
    }

    fn decoding(&self) -> Decoding {
        self.mixer.decoding()
    }

    fn keeps_state(&self) -> bool {
        true
    }

    fn forward_cached(&mut self, plan: &mut Plan, x: Tensor, cache: Cache) -> Result<Tensor> {
        let normed = self.norm.forward(plan, x)?;
        self.mixer.forward_from(plan, normed, Some(x), Some(cache))
    }
}

impl StackLayer for Mamba2Config {
    fn make(&self, name: &str, at: &str, sample: &mut Sample) -> Result<Step> {
        let [_, features] = sample.sequence(at)?;
        Ok(Step::other(Mamba2::new(name, features, 1, self.clone()).map_err(|e| e.of(at))?))
    }
}
