//! Next vector by attention over the context from its mean (AMN).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::{Build, Model, ModelKind};
use crate::batch::{Inputs, Outputs};
use crate::config::{Section, in_range};
use crate::error::{Error, Result};
use crate::kernels::attention_pool;
use crate::kernels::matmul::Activation;
use crate::layers::{Layer, LayerNorm, Linear, Sequential, Step};
use crate::layers::{context_mean, sizes};
use crate::losses::Gradients;
use crate::plan::{Plan, Tensor};

const NAME: &str = "model.kind = \"vector_amn\"";

/// Attention over the context with its mean b as query, giving w; then an MLP on [b; w] whose output is added to b.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VectorAmnConfig {
    /// Number of features of query and keys, and of the second hidden layer.
    #[schemars(range(min = 1, max = 1 << 16))]
    pub width: usize,
    /// Number of features of the first hidden layer.
    #[schemars(range(min = 1, max = 1 << 18))]
    pub hidden: usize,
}

impl Section for VectorAmnConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        in_range(self, "model")
    }
}

impl ModelKind for VectorAmnConfig {
    fn build(&self, build: &Build<'_>) -> Result<Box<dyn Model>> {
        let [_, dim] = build.fields.shape(NAME, "context")?;
        let gelu = |name: &str, inputs: usize, outputs: usize| Linear::new(name, inputs, outputs).activated(Activation::Gelu);
        let norm = |name: &str, features: usize| Step::Norm(Box::new(LayerNorm::new(name, features, 1e-5)));
        Ok(Box::new(Amn {
            keys: Linear::new("context_encoder", dim, self.width),
            query: Linear::new("query_encoder", dim, self.width),
            network: Sequential(vec![
                Step::linear(gelu("residual_net.0", 2 * dim, self.hidden), 0.0),
                norm("residual_net.2", self.hidden),
                Step::linear(gelu("residual_net.3", self.hidden, self.width), 0.0),
                norm("residual_net.5", self.width),
                Step::linear(Linear::new("residual_net.6", self.width, dim), 0.0),
            ]),
            saved: None,
        }))
    }
}

#[derive(Debug)]
struct Amn {
    keys: Linear,
    query: Linear,
    network: Sequential,
    saved: Option<[Tensor; 4]>,
}

impl Model for Amn {
    fn forward(&mut self, plan: &mut Plan, inputs: &Inputs) -> Result<Outputs> {
        let x = inputs.get(NAME, "context")?;
        let [batch, context, dim] = sizes(plan, x)?;
        let b = context_mean(plan, x)?;
        let k = self.keys.forward(plan, x)?;
        let q = self.query.forward(plan, b)?;
        let (a, y) = (plan.activation("attention.a", &[batch, context])?, plan.activation("attention.y", &[batch, 2, dim])?);
        attention_pool::Forward { q, k, x, b, a, y, rows: batch, length: context, features: plan.len(q) / batch, cols: dim }
            .record(plan, "attention")?;
        self.saved = Some([q, k, x, a]);
        self.network.forward_from(plan, y, Some(b)).map(Outputs::only)
    }

    fn backward(&mut self, plan: &mut Plan, gradients: &Gradients) -> Result<()> {
        let dr = gradients.main;
        let [q, k, x, a] = self.saved.ok_or_else(|| Error::Internal("attention: backward before forward".into()))?;
        let [batch, context, dim] = sizes(plan, x)?;
        let d = self.network.backward(plan, dr)?;
        let (dq, dk) = (plan.like("attention.dq", q)?, plan.like("attention.dk", k)?);
        attention_pool::Backward { q, k, x, a, dy: d, dq, dk, rows: batch, length: context, features: plan.len(q) / batch, cols: dim }
            .record(plan, "attention")?;
        self.query.backward_params(plan, dq)?;
        self.keys.backward_params(plan, dk)
    }
}
