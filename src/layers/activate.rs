//! An activation and a dropout that no product takes along.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layer::{Decoding, Layer, dropout, saved_by_forward};
use super::sequential::Step;
use super::stacked::{Sample, StackLayer};
use crate::error::Result;
use crate::kernels::matmul::Activation;
use crate::kernels::{self, activation};
use crate::plan::{Plan, Tensor};

/// An activation as a layer of its own.
#[derive(Debug)]
struct Activate {
    /// Prefix of the names of its tensors.
    name: String,
    /// Activation function.
    kind: Activation,
    /// Input of the forward pass.
    saved: Option<Tensor>,
}

impl Activate {
    /// A layer with this activation.
    fn new(name: &str, kind: Activation) -> Self {
        Activate { name: name.into(), kind, saved: None }
    }
}

impl Layer for Activate {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        let y = plan.like(format!("{}.y", self.name), x)?;
        activation::Forward { x, y, kind: self.kind }.record(plan, &self.name)?;
        self.saved = Some(x);
        Ok(y)
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        let x = saved_by_forward(&self.saved, &self.name)?;
        let dx = plan.like(format!("{}.dx", self.name), x)?;
        activation::Backward { x, dy, dx, kind: self.kind }.record(plan, &self.name)?;
        Ok(dx)
    }

    fn decoding(&self) -> Decoding {
        Decoding::Endless
    }
}

/// A dropout as a layer of its own (`torch.nn.Dropout`).
#[derive(Debug)]
pub struct DropoutLayer {
    name: String,
    rate: f64,
    saved: Option<kernels::Dropout>,
}

impl DropoutLayer {
    /// A dropout layer with this rate; it has no weights, and its tensors have this name.
    pub fn new(name: &str, rate: f64) -> Self {
        DropoutLayer { name: name.into(), rate, saved: None }
    }

    fn apply(&self, plan: &mut Plan, x: Tensor, what: &str) -> Result<Tensor> {
        let Some(dropout) = self.saved else { return Ok(x) };
        let y = plan.like(format!("{}.{what}", self.name), x)?;
        kernels::dropout::Apply { x, y, dropout }.record(plan, &self.name)?;
        Ok(y)
    }
}

impl Layer for DropoutLayer {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        self.saved = dropout(plan, self.rate);
        self.apply(plan, x, "y")
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        self.apply(plan, dy, "dx")
    }

    fn decoding(&self) -> Decoding {
        Decoding::Endless
    }
}

/// Tables of activations in a stack, each with a name of its own and no keys.
macro_rules! activations {
    ($($config:ident $kind:ident $doc:literal;)*) => {
        $(#[doc = $doc]
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
        pub struct $config {}

        impl StackLayer for $config {
            fn make(&self, name: &str, _at: &str, _sample: &mut Sample) -> Result<Step> {
                Ok(Step::other(Activate::new(name, Activation::$kind)))
            }

            fn activation(&self) -> Option<Activation> {
                Some(Activation::$kind)
            }
        })*
    };
}

activations! {
    ReluConfig Relu "`torch.nn.ReLU`.";
    GeluConfig Gelu "`torch.nn.GELU`.";
    GeluTanhConfig GeluTanh "`torch.nn.GELU` in its tanh form.";
    SigmoidConfig Sigmoid "`torch.nn.Sigmoid`.";
    SiluConfig Silu "`torch.nn.SiLU`.";
    TanhConfig Tanh "`torch.nn.Tanh`.";
}

/// `torch.nn.Dropout`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DropoutConfig {
    /// Probability that an element becomes zero.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub rate: f64,
}

impl StackLayer for DropoutConfig {
    fn make(&self, name: &str, _at: &str, _sample: &mut Sample) -> Result<Step> {
        Ok(Step::other(DropoutLayer::new(name, self.rate)))
    }

    fn dropout(&self) -> Option<f64> {
        Some(self.rate)
    }
}
