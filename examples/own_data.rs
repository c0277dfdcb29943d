//! Data of one's own: waves that are made on the fly, in the fields that the next-vector models ask for, and a scorecard of means.
//!
//! `cargo run --release --example own_data`

use std::ops::Range;

use engine::batch::{Batch, Field, Fields, Inputs};
use engine::config::{Config, Section, Settings};
use engine::error::Result;
use engine::gpu::Role;
use engine::losses::{Loss, VectorLossConfig};
use engine::models::VectorMlpConfig;
use engine::plan::Plan;
use engine::problem::Problem;
use engine::random::Random;
use engine::tasks::{Data, DataKind, Layout, Loading, Means, Purpose, Scorecard, Source};
use engine::train::{Options, train};
use serde::{Deserialize, Serialize};

const CONTEXT: usize = 4;
const DIM: usize = 8;

/// The table `[data]` of its run file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WavesConfig {
    /// Seed of the waves.
    seed: u64,
}

impl Section for WavesConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        Ok(())
    }
}

impl DataKind for WavesConfig {
    fn open(&self, settings: &Settings, _purpose: Purpose) -> Result<Box<dyn Source>> {
        Ok(Box::new(Waves { seed: self.seed, batch: settings.train.batch, steps: settings.train.steps_per_epoch }))
    }

    fn made_up(&self, settings: &Settings, _samples: usize, _integers_below: Option<usize>) -> Result<Box<dyn Data>> {
        Ok(Box::new(Waves { seed: self.seed, batch: settings.train.batch, steps: settings.train.steps_per_epoch }))
    }
}

#[derive(Debug, Clone)]
struct Waves {
    seed: u64,
    batch: usize,
    steps: u64,
}

impl Waves {
    /// A batch of waves of random phase: some points of each, and the point after them.
    fn draw(&self, number: u64, batch: usize) -> Batch {
        let mut random = Random::new(self.seed, 100, number);
        let (mut context, mut target) = (Vec::new(), Vec::new());
        for _ in 0..batch {
            let phase = random.uniform() * std::f64::consts::TAU;
            let point = |t: usize| (0..DIM).map(move |d| ((phase + 0.5 * t as f64 + d as f64).sin() as f32).to_bits());
            context.extend((0..CONTEXT).flat_map(point));
            target.extend(point(CONTEXT));
        }
        Batch { inputs: vec![("context", context), ("target", target)], rows: batch, count: batch, drawn: false }
    }
}

impl Source for Waves {
    fn fields(&self) -> Fields {
        Fields(vec![Field::floats("context", &[CONTEXT, DIM]), Field::floats("target", &[DIM]).answer()])
    }

    fn steps_per_epoch(&self) -> u64 {
        self.steps
    }

    fn record(&self, plan: &mut Plan, batch: usize, _layout: Layout) -> Result<Inputs> {
        let name = plan.name.clone();
        let context = plan.persistent(Role::Dataset, &format!("{name}.context"), &[batch, CONTEXT, DIM])?;
        let target = plan.persistent(Role::Dataset, &format!("{name}.target"), &[batch, DIM])?;
        Ok(Inputs::new(batch).with("context", context).with("target", target))
    }

    fn load(self: Box<Self>, _with: Loading<'_>) -> Result<(Box<dyn Data>, Vec<String>)> {
        Ok((self, vec!["data        waves, made on the fly".into()]))
    }
}

impl Data for Waves {
    fn source(&self) -> &dyn Source {
        self
    }

    fn batches(&mut self, step: u64, _layout: Layout, _own: Range<usize>) -> Result<Vec<Batch>> {
        Ok(vec![self.draw(step, self.batch)])
    }

    fn scorecard(&self, loss: &dyn Loss, _layout: Layout) -> Box<dyn Scorecard> {
        // Waves that training never sees: their numbers begin where those of the steps end.
        let data = self.clone();
        Box::new(Means::new(loss.columns(), move |batch| (0..4).map(|i| data.draw(u64::MAX - i, batch)).collect()))
    }
}

pub(crate) fn main() -> Result<()> {
    let text = "model = { hidden = 32 }\ndata = { seed = 7 }\nloss = { cosine = { weight = 1.0 } }\n\
                train = { epochs = 5, steps_per_epoch = 100 }\noptimizer = { learning_rate = 0.01 }";
    let config = Config::<VectorMlpConfig, WavesConfig, VectorLossConfig>::parse(text, "the example's run", &[])?;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = Options { out: folder.path().join("waves"), quiet: true, ..Options::default() };
    let report = train(Problem::open(&config, Purpose::Train)?, &options)?;
    println!("{}", report.table());
    let cosine = report.best.get("cosine").unwrap_or(0.0);
    assert!(cosine > 0.98, "the cosine ends at {cosine}");
    Ok(())
}
