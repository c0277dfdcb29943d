//! A model of one's own, trained by `train()`: run file, checkpoints, resume and report come with it.
//!
//! The model predicts the next vector as a weighted mean of the context, pushed through one hidden layer: `cargo run --release --example
//! own_model`

use std::path::Path;

use engine::batch::{Inputs, Outputs};
use engine::config::{Config, Section};
use engine::error::Result;
use engine::kernels::matmul::Activation;
use engine::layers::{Fused, Layer, Linear};
use engine::losses::{Gradients, VectorLossConfig};
use engine::models::{Build, Model, ModelKind};
use engine::plan::Plan;
use engine::problem::Problem;
use engine::tasks::{Purpose, VectorsConfig};
use engine::train::{Options, train};
use serde::{Deserialize, Serialize};

/// The table `[model]` of its run file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bottleneck {
    /// Features of the hidden layer.
    hidden: usize,
}

impl Section for Bottleneck {
    fn validate(&self) -> std::result::Result<(), String> {
        if self.hidden > 0 { Ok(()) } else { Err("model.hidden must be at least 1".into()) }
    }
}

impl ModelKind for Bottleneck {
    fn build(&self, given: &Build<'_>) -> Result<Box<dyn Model>> {
        // Sizes come from the data, which say what a batch holds.
        let [context, dim] = given.fields.shape("the bottleneck", "context")?;
        Ok(Box::new(Layers {
            first: Linear::new("down", context * dim, self.hidden).activated(Activation::Gelu),
            second: Linear::new("up", self.hidden, dim),
        }))
    }
}

#[derive(Debug)]
struct Layers {
    first: Linear,
    second: Linear,
}

impl Model for Layers {
    fn forward(&mut self, plan: &mut Plan, inputs: &Inputs) -> Result<Outputs> {
        let h = self.first.forward(plan, inputs.get("the bottleneck", "context")?)?;
        self.second.forward(plan, h).map(Outputs::only)
    }

    fn backward(&mut self, plan: &mut Plan, gradients: &Gradients) -> Result<()> {
        self.second.backward_params(plan, gradients.main)?;
        // The derivative of the activation is fused into the product that goes back through it.
        let below = Fused { derivative: self.first.derivative()?, ..Fused::default() };
        let dz = self.second.backward_input(plan, gradients.main, below)?;
        self.first.backward(plan, dz).map(|_| ())
    }
}

const RUN: &str = "
[model]
hidden = 24
[data]
file = 'data/samples/wikitext_minilm_small.npz'
[loss]
cosine = { weight = 1.0 }
[train]
epochs = 2
[validation]
select = 'cosine'
";

pub(crate) fn main() -> Result<()> {
    let config = Config::<Bottleneck, VectorsConfig, VectorLossConfig>::parse(RUN, "the example's run", &[])?;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("bottleneck");
    let options = |steps, resume| Options { out: out.clone(), steps, resume, quiet: true, ..Options::default() };
    // Cut short, and gone on with: the weights are those of a run in one piece.
    train(Problem::open(&config, Purpose::Train)?, &options(Some(5), false))?;
    let report = train(Problem::open(&config, Purpose::Train)?, &options(None, true))?;
    println!("{}", report.table());
    assert!(Path::new(&out).join("model.safetensors").exists() && report.steps > 5);
    Ok(())
}
