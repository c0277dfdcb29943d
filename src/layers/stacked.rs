//! What a layer tells a stack of itself: its table in the run file, and how it is made for the samples that it is given.

use std::fmt::Debug;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use super::sequential::{Sequential, Step};
use crate::error::{Error, Result};
use crate::kernels::matmul::Activation;

/// Largest number of layers in a stack, including those inside of other layers.
const MOST: usize = 1000;

/// A sample on its way through a stack: what the next layer is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Shape of one sample: (features), or (length, features) for a sequence.
    pub shape: Vec<usize>,
    /// Number that the integers of the input are below, until an embedding has taken them; none for floats.
    pub integers: Option<usize>,
    /// Shape of the target, if the data have one; of classes with their number as the last axis.
    pub target: Option<Vec<usize>>,
    /// True while shorter sequences are filled up to the length of the longest: what fills them must not count.
    pub padded: bool,
}

impl Sample {
    /// Number of features.
    pub fn features(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// The sample with another number of features.
    pub fn set_features(&mut self, features: usize) {
        if let Some(last) = self.shape.last_mut() {
            *last = features;
        }
    }

    /// Number of features that the target asks for: those of a position, if it has as many positions as the sample, or else all of its
    /// numbers.
    pub fn asked_for(&self) -> Option<usize> {
        let target = self.target.as_ref()?;
        let each = self.shape.len() > 1 && target.len() > 1 && target.first() == self.shape.first();
        Some(target[usize::from(each)..].iter().product())
    }

    /// Length and features of a sequence.
    ///
    /// # Errors
    /// `Config` if the sample is no sequence.
    pub fn sequence(&self, at: &str) -> Result<[usize; 2]> {
        let shape: std::result::Result<[usize; 2], _> = self.shape.as_slice().try_into();
        shape.map_err(|_| Error::Config(format!("{at} takes sequences (length, features), and is given {:?}", self.shape)))
    }

    /// Number of features of a sequence, which the heads divide.
    ///
    /// # Errors
    /// `Config` if the sample is no sequence, or if the heads do not divide its features or are wider than 128.
    pub fn in_heads(&self, heads: usize, at: &str) -> Result<usize> {
        let [_, features] = self.sequence(at)?;
        if !features.is_multiple_of(heads) || features / heads > 128 {
            return Err(Error::Config(format!(
                "{at}.heads = {heads} must divide the {features} features that it is given into parts of at most 128"
            )));
        }
        Ok(features)
    }
}

/// A layer of a stack, as its table in the run file describes it.
pub trait StackLayer: Debug {
    /// Fails on values that do not fit each other; `at` is the place in the run file, `left` the number of layers that a stack may still
    /// have.
    ///
    /// # Errors
    /// A message that says what is wrong.
    fn validate(&self, at: &str, left: &mut usize) -> std::result::Result<(), String> {
        let _ = (at, left);
        Ok(())
    }

    /// Makes the layer, with weights named `name.…`, and turns the sample into what the next layer is given.
    ///
    /// # Errors
    /// `Config` if the layer cannot take such samples.
    fn make(&self, name: &str, at: &str, sample: &mut Sample) -> Result<Step>;

    /// Activation function, if the layer is one and nothing else: a linear layer takes it along.
    fn activation(&self) -> Option<Activation> {
        None
    }

    /// Rate, if the layer is a dropout and nothing else: a linear layer takes it along.
    fn dropout(&self) -> Option<f64> {
        None
    }

    /// True if a position of the result depends on later positions of the input.
    fn looks_ahead(&self) -> bool {
        false
    }

    /// True if the layer takes integers.
    fn takes_integers(&self) -> bool {
        false
    }
}

/// Reads each layer by itself, so that an error message names the layer that is wrong.
///
/// # Errors
/// The message of the first layer that is wrong.
pub fn layer_by_layer<'de, D: Deserializer<'de>, L: DeserializeOwned>(deserializer: D) -> std::result::Result<Vec<L>, D::Error> {
    let values = Vec::<toml::Value>::deserialize(deserializer)?;
    let layer = |(i, value): (usize, toml::Value)| {
        L::deserialize(value).map_err(|e| D::Error::custom(format!("layers[{i}]: {}", e.message().trim())))
    };
    values.into_iter().enumerate().map(layer).collect()
}

/// Fails on a layer whose values do not fit each other, and on more than a thousand layers. `config::in_range` looks at each value by
/// itself.
///
/// # Errors
/// A message that says what is wrong.
pub fn validate_layers<L: StackLayer>(layers: &[L], at: &str) -> std::result::Result<(), String> {
    validate_within(layers, at, &mut { MOST })
}

/// `validate_layers` for layers inside of another one.
pub(super) fn validate_within<L: StackLayer>(layers: &[L], at: &str, left: &mut usize) -> std::result::Result<(), String> {
    for (i, layer) in layers.iter().enumerate() {
        *left = left.checked_sub(1).ok_or_else(|| format!("model.layers has more than {MOST} layers"))?;
        layer.validate(&format!("{at}[{i}]"), left)?;
    }
    Ok(())
}

/// Makes layers one after another: layer i has the weights `{prefix}{i}.…`. What follows a product is fused into it.
///
/// # Errors
/// `Config` if a layer cannot take what the one before it gives.
pub fn make_layers<L: StackLayer>(layers: &[L], prefix: &str, at: &str, sample: &mut Sample) -> Result<Sequential> {
    let mut made: Vec<Step> = Vec::new();
    for (i, layer) in layers.iter().enumerate() {
        if made.last_mut().is_some_and(|step| step.takes_along(layer.activation(), layer.dropout())) {
            continue;
        }
        let (name, at) = (format!("{prefix}{i}"), format!("{at}[{i}]"));
        if sample.integers.is_some() && !layer.takes_integers() {
            return Err(Error::Config(format!("{at}: these data are integers: begin with {{ kind = \"embedding\", features = … }}")));
        }
        if sample.padded && layer.looks_ahead() {
            return Err(Error::Config(format!(
                "{at} looks at positions after the end of shorter sequences (data.lengths): use layers that look back alone, such as lstm, gru or \
                 causal attention, and then last, mean_pool or attention_pool"
            )));
        }
        made.push(layer.make(&name, &at, sample)?);
    }
    Ok(Sequential(made))
}

/// Declares the layers of a stack, by their `kind` in the run file: the one list of them.
macro_rules! stack_layers {
    ($($(#[$doc:meta])* $kind:ident($config:ty),)*) => {
        /// A layer of a stack, by its `kind`. Shapes are those of one sample: (features), or (length, features) for a sequence.
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        pub enum LayerConfig {
            $($(#[$doc])* $kind($config),)*
        }

        impl LayerConfig {
            fn layer(&self) -> &dyn StackLayer {
                match self {
                    $(LayerConfig::$kind(layer) => layer,)*
                }
            }
        }

        impl StackLayer for LayerConfig {
            fn validate(&self, at: &str, left: &mut usize) -> std::result::Result<(), String> {
                self.layer().validate(at, left)
            }

            fn make(&self, name: &str, at: &str, sample: &mut Sample) -> $crate::error::Result<Step> {
                self.layer().make(name, at, sample)
            }

            fn activation(&self) -> Option<$crate::kernels::matmul::Activation> {
                self.layer().activation()
            }

            fn dropout(&self) -> Option<f64> {
                self.layer().dropout()
            }

            fn looks_ahead(&self) -> bool {
                self.layer().looks_ahead()
            }

            fn takes_integers(&self) -> bool {
                self.layer().takes_integers()
            }
        }
    };
}
pub(super) use stack_layers;
