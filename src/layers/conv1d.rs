//! Convolution over time.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::convolution::{Convolution, Surroundings};
use super::layer::{Layer, axes};
use super::linear::Linear;
use super::sequential::Step;
use super::stacked::{Sample, StackLayer};
use crate::error::Result;
use crate::kernels::conv1d::{BackwardUnfold, Sizes, Unfold};
use crate::plan::{Plan, Tensor};

/// `torch.nn.Conv1d` with stride 1 and as many results as positions, channels last.
#[derive(Debug)]
struct Conv1d {
    name: String,
    outputs: usize,
    kernel: usize,
    dilation: usize,
    before: usize,
    convolution: Convolution<Sizes>,
}

impl Surroundings for Sizes {
    fn samples(&self) -> [usize; 2] {
        [self.batch, self.length]
    }

    fn unfold(&self, plan: &mut Plan, samples: &Range<usize>, x: Tensor, y: Tensor, label: &str) -> Result<()> {
        Unfold { x, y, sizes: Sizes { batch: samples.len(), ..*self }, first: samples.start }.record(plan, label)
    }

    fn fold(&self, plan: &mut Plan, samples: &Range<usize>, dy: Tensor, dx: Tensor, label: &str) -> Result<()> {
        BackwardUnfold { dy, dx, sizes: Sizes { batch: samples.len(), ..*self }, first: samples.start }.record(plan, label)
    }
}

impl Layer for Conv1d {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        let [batch, length, channels] = axes(plan, x, &self.name)?;
        let sizes = Sizes { batch, length, channels, kernel: self.kernel, dilation: self.dilation, before: self.before };
        self.convolution.forward(plan, x, &[batch, length, self.outputs], sizes)
    }

    fn backward(&mut self, plan: &mut Plan, dy: Tensor) -> Result<Tensor> {
        self.convolution.backward(plan, dy)
    }
}

/// Convolution of a stack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Conv1dConfig {
    /// Number of output features.
    #[schemars(range(min = 1, max = 1 << 16))]
    pub out: usize,
    /// Number of positions that a result depends on; an odd one unless `causal = true`.
    #[schemars(range(min = 1, max = 1 << 10))]
    pub kernel: usize,
    /// Distance between two of the positions that a result depends on.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1 << 16))]
    pub dilation: usize,
    /// Causal convolution: a result depends on its own position and earlier ones. Without it, as many lie before as after.
    #[serde(default)]
    pub causal: bool,
}

fn one() -> usize {
    1
}

impl StackLayer for Conv1dConfig {
    fn validate(&self, at: &str, _left: &mut usize) -> std::result::Result<(), String> {
        match self.causal || self.kernel % 2 == 1 {
            true => Ok(()),
            false => Err(format!("{at}.kernel = {} is even: take an odd one, or causal = true", self.kernel)),
        }
    }

    fn make(&self, name: &str, at: &str, sample: &mut Sample) -> Result<Step> {
        let [_, channels] = sample.sequence(at)?;
        let Conv1dConfig { out, kernel, dilation, causal } = *self;
        sample.set_features(out);
        let mut linear = Linear::new(name, channels * kernel, out);
        linear.weight_shape = Some(vec![out, channels, kernel]);
        let before = if causal { (kernel - 1) * dilation } else { (kernel - 1) / 2 * dilation };
        let convolution = Convolution::new(name, linear);
        Ok(Step::other(Conv1d { name: name.into(), outputs: out, kernel, dilation, before, convolution }))
    }

    fn looks_ahead(&self) -> bool {
        !self.causal && self.kernel > 1
    }
}
