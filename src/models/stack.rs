//! A model that the run file itself composes of the library's layers, as `torch.nn.Sequential` does: layer i has the weights `i.…`.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::model::{Build, Model, ModelKind};
use crate::batch::{Inputs, Outputs};
use crate::config::Section;
use crate::error::{Error, Result};
use crate::kernels::matmul::Activation;
use crate::layers::{
    Activate, AddPositions, Attend, Block, BlockConfig, Cell, Drop, Embed, Embedding, Gru, LastPosition, Layer, LayerNorm, Linear, Lstm,
    Mask, MeanPool, Recur, Residual, Same, SelfAttention, Sequential, Step, TransformerBlock,
};
use crate::losses::Gradients;
use crate::plan::Plan;

/// Layers of the model, from the input to the output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StackConfig {
    /// Name of the data field that is the input; without it, the first field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// Layers, from the input to the output.
    #[serde(deserialize_with = "layer_by_layer")]
    pub layers: Vec<LayerConfig>,
}

/// Reads each layer by itself, so that an error message names the layer that is wrong.
fn layer_by_layer<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<LayerConfig>, D::Error> {
    let values = Vec::<toml::Value>::deserialize(deserializer)?;
    let layer = |(i, value): (usize, toml::Value)| {
        LayerConfig::deserialize(value).map_err(|e| D::Error::custom(format!("layers[{i}]: {}", e.message().trim())))
    };
    values.into_iter().enumerate().map(layer).collect()
}

/// A layer of a stack, by its `kind`. Shapes are those of one sample: (features), or (length, features) for a sequence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum LayerConfig {
    /// `torch.nn.Linear` over the features.
    Linear {
        /// Number of output features; without it, the size of the data's `target`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        out: Option<usize>,
    },
    /// `torch.nn.ReLU`: max(x, 0).
    Relu {},
    /// `torch.nn.GELU`: x·Φ(x).
    Gelu {},
    /// `torch.nn.GELU` in its tanh form.
    GeluTanh {},
    /// `torch.nn.Sigmoid`: 1 / (1 + exp(−x)).
    Sigmoid {},
    /// `torch.nn.SiLU`: x / (1 + exp(−x)).
    Silu {},
    /// `torch.nn.Tanh`: tanh x.
    Tanh {},
    /// `torch.nn.Dropout`.
    Dropout {
        /// Probability that an element becomes zero.
        rate: f64,
    },
    /// `torch.nn.LayerNorm` over the features.
    Norm {},
    /// RMS normalisation over the features.
    RmsNorm {},
    /// `torch.nn.Flatten`: (length, features) → (length · features).
    Flatten {},
    /// Token and position embeddings (`torch.nn.Embedding`): integers (length) → (length, features).
    Embedding {
        /// Number of features.
        features: usize,
    },
    /// Sinusoidal position encoding, added to the input.
    Positions {},
    /// Residual connection: x + layers(x), with the weights under `i.j.…`.
    Residual {
        /// Layers inside of the residual connection.
        #[serde(deserialize_with = "layer_by_layer")]
        layers: Vec<LayerConfig>,
    },
    /// Self-attention with its residual: x + `torch.nn.MultiheadAttention`(x).
    SelfAttention {
        /// Number of attention heads; they divide the features.
        heads: usize,
        /// Causal attention: each position sees only itself and earlier ones.
        #[serde(default)]
        causal: bool,
        /// Dropout rate of attention probabilities and of the output.
        #[serde(default)]
        dropout: f64,
    },
    /// `torch.nn.TransformerEncoderLayer`.
    TransformerBlock {
        /// Number of attention heads; they divide the features.
        heads: usize,
        /// Number of hidden features of the feed-forward network.
        feed_forward: usize,
        /// Activation of the feed-forward network.
        #[serde(default = "relu")]
        activation: Activation,
        /// Causal attention: each position sees only itself and earlier ones.
        #[serde(default)]
        causal: bool,
        /// Dropout rate of attention probabilities, hidden activations and sublayer outputs.
        #[serde(default)]
        dropout: f64,
        /// Pre-norm: normalise the inputs of the sublayers instead of the sums after them.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        norm_first: bool,
    },
    /// One layer of `torch.nn.LSTM`.
    Lstm {
        /// Number of features of the hidden state.
        hidden: usize,
    },
    /// One layer of `torch.nn.GRU`.
    Gru {
        /// Number of features of the hidden state.
        hidden: usize,
    },
    /// Mean over the positions: (length, features) → (features).
    MeanPool {},
    /// Last position: (length, features) → (features).
    Last {},
}

fn relu() -> Activation {
    Activation::Relu
}

impl LayerConfig {
    fn activation(&self) -> Option<Activation> {
        match self {
            LayerConfig::Relu {} => Some(Activation::Relu),
            LayerConfig::Gelu {} => Some(Activation::Gelu),
            LayerConfig::GeluTanh {} => Some(Activation::GeluTanh),
            LayerConfig::Sigmoid {} => Some(Activation::Sigmoid),
            LayerConfig::Silu {} => Some(Activation::Silu),
            LayerConfig::Tanh {} => Some(Activation::Tanh),
            _ => None,
        }
    }
}

/// Largest number of layers in a stack, including those inside of residual layers.
const MOST: usize = 1000;

impl Section for StackConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        if self.layers.is_empty() {
            return Err("model.layers is empty: give at least one, as in layers = [{ kind = \"linear\", out = 512 }]".into());
        }
        let mut left = MOST;
        check(&self.layers, "model.layers", &mut left)
    }
}

fn check(layers: &[LayerConfig], at: &str, left: &mut usize) -> std::result::Result<(), String> {
    for (i, layer) in layers.iter().enumerate() {
        *left = left.checked_sub(1).ok_or_else(|| format!("model.layers has more than {MOST} layers"))?;
        let at = format!("{at}[{i}]");
        let size = |name: &str, value: usize, most: usize| match (1..=most).contains(&value) {
            true => Ok(()),
            false => Err(format!("{at}.{name} = {value} is out of range: it must be from 1 to {most}")),
        };
        let rate = |name: &str, rate: f64| match (0.0..1.0).contains(&rate) {
            true => Ok(()),
            false => Err(format!("{at}.{name} = {rate} is out of range: it must be in [0, 1)")),
        };
        match layer {
            LayerConfig::Linear { out } => out.map_or(Ok(()), |out| size("out", out, 1 << 18))?,
            LayerConfig::Dropout { rate: value } => rate("rate", *value)?,
            LayerConfig::Embedding { features } => size("features", *features, 1 << 16)?,
            LayerConfig::Residual { layers } if layers.is_empty() => return Err(format!("{at}.layers is empty")),
            LayerConfig::Residual { layers } => check(layers, &format!("{at}.layers"), left)?,
            LayerConfig::SelfAttention { heads, dropout, .. } => {
                size("heads", *heads, 1 << 12)?;
                rate("dropout", *dropout)?;
            }
            LayerConfig::TransformerBlock { heads, feed_forward, dropout, .. } => {
                size("heads", *heads, 1 << 12)?;
                size("feed_forward", *feed_forward, 1 << 18)?;
                rate("dropout", *dropout)?;
            }
            LayerConfig::Lstm { hidden } | LayerConfig::Gru { hidden } => size("hidden", *hidden, 1 << 16)?,
            LayerConfig::Relu {}
            | LayerConfig::Gelu {}
            | LayerConfig::GeluTanh {}
            | LayerConfig::Sigmoid {}
            | LayerConfig::Silu {}
            | LayerConfig::Tanh {}
            | LayerConfig::Norm {}
            | LayerConfig::RmsNorm {}
            | LayerConfig::Flatten {}
            | LayerConfig::Positions {}
            | LayerConfig::MeanPool {}
            | LayerConfig::Last {} => {}
        }
    }
    Ok(())
}

const NAME: &str = "model.kind = \"stack\"";

impl ModelKind for StackConfig {
    fn build(&self, given: &Build<'_>) -> Result<Box<dyn Model>> {
        let first = given.fields.0.first().map_or("", |f| f.name);
        let input = self.input.as_deref().unwrap_or(first);
        let field = given.fields.0.iter().find(|f| f.name == input);
        let field = field.ok_or_else(|| Error::Config(format!("{NAME}: the data have no field `{input}`: {}", given.fields.list())))?;
        if field.answer {
            return Err(Error::Config(format!("model.input = \"{input}\" is what is to be predicted: give what it is predicted from")));
        }
        let target = given.fields.shape::<1>(NAME, "target").ok().map(|[n]| n);
        let mut maker = Maker { shape: field.shape.clone(), integers: field.below, target };
        let layers = maker.sequence(&self.layers, "", "model.layers")?;
        Ok(Box::new(Stack { input: field.name, layers }))
    }
}

/// Builder that makes layers one after another and follows the shape through them.
struct Maker {
    /// Shape of one sample, as the next layer gets it.
    shape: Vec<usize>,
    /// Number that the integers of the input are below, until an embedding has taken them; none for floats.
    integers: Option<usize>,
    /// Number of features of the target, if the data have one.
    target: Option<usize>,
}

impl Maker {
    fn sequence(&mut self, configs: &[LayerConfig], prefix: &str, at: &str) -> Result<Sequential> {
        let mut made: Vec<Step> = Vec::new();
        for (i, config) in configs.iter().enumerate() {
            // What follows a product is fused into it.
            if let Some(Step::Linear { linear, rate }) = made.last_mut() {
                let plain = linear.activation == Activation::Identity && *rate == 0.0;
                if let Some(activation) = config.activation().filter(|_| plain) {
                    linear.activation = activation;
                    continue;
                }
                if let (LayerConfig::Dropout { rate: of }, 0.0) = (config, *rate) {
                    *rate = *of;
                    continue;
                }
            }
            let (name, at) = (format!("{prefix}{i}"), format!("{at}[{i}]"));
            if self.integers.is_some() && !matches!(config, LayerConfig::Embedding { .. }) {
                return Err(Error::Config(format!("{at}: these data are integers: begin with {{ kind = \"embedding\", features = … }}")));
            }
            made.push(self.layer(config, &name, &at)?);
        }
        Ok(Sequential(made))
    }

    fn features(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Length and features of the current shape, or an error if it is no sequence.
    fn sequences(&self, at: &str) -> Result<[usize; 2]> {
        let shape: std::result::Result<[usize; 2], _> = self.shape.as_slice().try_into();
        shape.map_err(|_| Error::Config(format!("{at} takes sequences (length, features), and is given {:?}", self.shape)))
    }

    /// Number of features of the current sequences, or an error if the heads do not divide them.
    fn in_heads(&self, heads: usize, at: &str) -> Result<usize> {
        let [_, features] = self.sequences(at)?;
        if !features.is_multiple_of(heads) || features / heads > 128 {
            return Err(Error::Config(format!(
                "{at}.heads = {heads} must divide the {features} features that it is given into parts of at most 128"
            )));
        }
        Ok(features)
    }

    /// Makes a layer and follows the shape through it. Long, as it has an arm for each kind.
    fn layer(&mut self, config: &LayerConfig, name: &str, at: &str) -> Result<Step> {
        let other = |layer: Box<dyn Layer>| Ok(Step::Other(layer));
        if let Some(kind) = config.activation() {
            return other(Box::new(Activate::new(name, kind)));
        }
        match config {
            LayerConfig::Linear { out } => {
                let inputs = self.features();
                let missing =
                    || Error::Config(format!("{at}: these data have no `target` to tell how many features come out: give out = …"));
                let out = out.or(self.target).ok_or_else(missing)?;
                if let Some(last) = self.shape.last_mut() {
                    *last = out;
                }
                Ok(Step::linear(Linear::new(name, inputs, out), 0.0))
            }
            LayerConfig::Dropout { rate } => other(Box::new(Drop::new(name, *rate))),
            LayerConfig::Norm {} => other(Box::new(LayerNorm::new(name, self.features(), 1e-5))),
            LayerConfig::RmsNorm {} => other(Box::new(LayerNorm::rms(name, self.features(), 1e-6))),
            LayerConfig::Flatten {} => {
                self.shape = vec![self.shape.iter().product()];
                other(Box::new(Same))
            }
            LayerConfig::Embedding { features } => {
                let vocabulary = self.integers.take();
                let vocabulary = vocabulary.ok_or_else(|| Error::Config(format!("{at} takes integers; these are numbers already")))?;
                let [length]: [usize; 1] =
                    self.shape.as_slice().try_into().map_err(|_| Error::Config(format!("{at} takes one axis of integers")))?;
                self.shape = vec![length, *features];
                other(Box::new(Embed(Embedding::new(name, vocabulary, length, *features))))
            }
            LayerConfig::Positions {} => {
                self.sequences(at)?;
                other(Box::new(AddPositions { name: name.into() }))
            }
            LayerConfig::Residual { layers } => {
                let before = self.shape.clone();
                let inner = self.sequence(layers, &format!("{name}."), &format!("{at}.layers"))?;
                if self.shape != before {
                    return Err(Error::Config(format!(
                        "{at} adds its input {before:?} to what its layers give, {:?}: make them equal",
                        self.shape
                    )));
                }
                other(Box::new(Residual::new(name, inner)))
            }
            LayerConfig::SelfAttention { heads, causal, dropout } => {
                let features = self.in_heads(*heads, at)?;
                other(Box::new(Attend(SelfAttention::new(name, features, *heads, Mask::of(*causal), *dropout)?)))
            }
            LayerConfig::TransformerBlock { heads, feed_forward, activation, causal, dropout, norm_first } => {
                let features = self.in_heads(*heads, at)?;
                let (heads, hidden, activation, causal, dropout, norm_first) =
                    (*heads, *feed_forward, *activation, *causal, *dropout, *norm_first);
                let config = BlockConfig { features, heads, hidden, activation, dropout, eps: 1e-5, causal, norm_first };
                other(Box::new(Block(TransformerBlock::new(name, config)?)))
            }
            LayerConfig::Lstm { hidden } => {
                let [length, features] = self.sequences(at)?;
                self.shape = vec![length, *hidden];
                let cell = Cell::Lstm(Lstm::new(name, 0, features, *hidden));
                other(Box::new(Recur { name: name.into(), cell }))
            }
            LayerConfig::Gru { hidden } => {
                let [length, features] = self.sequences(at)?;
                self.shape = vec![length, *hidden];
                let cell = Cell::Gru(Gru::new(name, 0, features, *hidden));
                other(Box::new(Recur { name: name.into(), cell }))
            }
            LayerConfig::MeanPool {} => {
                let [_, features] = self.sequences(at)?;
                self.shape = vec![features];
                other(Box::<MeanPool>::default())
            }
            LayerConfig::Last {} => {
                let [_, features] = self.sequences(at)?;
                self.shape = vec![features];
                other(Box::<LastPosition>::default())
            }
            LayerConfig::Relu {}
            | LayerConfig::Gelu {}
            | LayerConfig::GeluTanh {}
            | LayerConfig::Sigmoid {}
            | LayerConfig::Silu {}
            | LayerConfig::Tanh {} => Err(Error::Internal(format!("{at}: an activation without a kind"))),
        }
    }
}

/// Model that applies its layers to one field of the data.
#[derive(Debug)]
struct Stack {
    input: &'static str,
    layers: Sequential,
}

impl Model for Stack {
    fn forward(&mut self, plan: &mut Plan, inputs: &Inputs) -> Result<Outputs> {
        let x = inputs.get(NAME, self.input)?;
        self.layers.forward(plan, x).map(Outputs::only)
    }

    fn backward(&mut self, plan: &mut Plan, gradients: &Gradients) -> Result<()> {
        self.layers.backward(plan, gradients.main).map(|_| ())
    }
}
