//! The oracle for whole models: the recorded forward pass of a training plan, run in f64 on the tape, gives the gradient of the loss by
//! every weight. No model needs a reference of its own.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::reference::{Values, evaluate};
use super::scalar::{Scalar, Var};
use crate::config::Precision;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::kernels::State;
use crate::kernels::metrics::StepRecord;
use crate::models::initial_weights;
use crate::plan::{Flat, Init, Parameter, Section, Storage};
use crate::problem::Loaded;
use crate::registry::Config;

/// Whole-model gradient against the oracle.
#[derive(Debug, Clone)]
pub struct ModelOutcome {
    /// Weights compared.
    pub weights: usize,
    /// Σ (device − oracle)² / Σ oracle² over all weights.
    pub nmse: f64,
    /// Largest such ratio of one tensor, and its name.
    pub worst: (f64, String),
    /// Loss on the device and of the oracle.
    pub loss: (f64, f64),
    /// Tensors whose gradient is zero throughout.
    pub dead: Vec<String>,
}

/// Multiplications of a forward pass that the tape holds in about 4 GiB.
const TAPE: u64 = 120_000_000;

/// Checks the gradient of a run's model with its initial weights on a batch of four: sequences of its data, or random samples.
///
/// None where the tape cannot hold the model.
///
/// # Errors
/// With what the device or the plan cannot do.
pub fn check_model(gpu: &Arc<Gpu>, config: &Config) -> Result<Option<ModelOutcome>> {
    let mut config = config.clone();
    // Kernels are checked in 32 bits, whatever the run stores.
    (config.train.batch, config.train.accumulate, config.train.precision) = (4, 1, Precision::F32);
    let mut problem = Loaded::made_up(&config, 64)?;
    let (plan, _) = problem.record_training(gpu.target)?;
    let products = plan.entries().iter().filter(|e| e.section == Section::Forward).map(|e| e.flops / 2).sum::<u64>();
    if products > TAPE {
        return Ok(None);
    }
    let session = problem.training(gpu)?;
    let (program, io) = session.step()?;
    let plan = &program.plan;
    let batch = problem.batches(0)?.remove(0);
    let drawn = f32::from(u8::from(batch.drawn));
    let state =
        State { seed: 1, tick: 5, scale: 1.0, rows: batch.rows as u32, count: io.feed.count(&batch) as u32, drawn, ..State::default() };
    // Where B is 0, as it begins, A has no gradient.
    let begun = |p: &Parameter| match plan.adapters().iter().any(|adapter| adapter.b == p.name) {
        true => Parameter { init: Init::Normal(0.1), ..p.clone() },
        false => p.clone(),
    };
    let flat = initial_weights(&plan.parameters().iter().map(begun).collect::<Vec<_>>(), config.train.seed);
    session.arena.write_flat(Flat::Parameters, &flat)?;
    session.write(program, &io.feed, &batch, state)?;
    program.run(program.gradients())?;
    let got = session.arena.read_flat(Flat::Gradients)?;
    let records = session.records()?;

    Var::reset();
    let mut values: Values<Var> = Values { floats: HashMap::new(), ints: HashMap::new(), state, set: HashSet::new() };
    for p in plan.parameters() {
        let tensor = plan.find(&p.name).ok_or_else(|| Error::Internal(format!("no tensor {}", p.name)))?;
        let leaves = flat[p.offset..p.offset + p.len()].iter().map(|v| Var::leaf(f64::from(*v))).collect();
        values.floats.insert(tensor, leaves);
    }
    let leaves = values.floats.clone();
    let frozen = initial_weights(plan.frozen(), config.train.seed);
    for p in plan.frozen() {
        let tensor = plan.find(&p.name).ok_or_else(|| Error::Internal(format!("no tensor {}", p.name)))?;
        values.floats.insert(tensor, frozen[p.offset..p.offset + p.len()].iter().map(|v| Var::constant(f64::from(*v))).collect());
    }
    values.fill_parts(plan);
    // Everything that the host wrote, as it lies on the device.
    for (tensor, _) in plan.tensors().filter(|(t, info)| matches!(info.storage, Storage::Persistent(_)) && *t != io.feed.state) {
        let words: Vec<u32> = program.read(tensor)?;
        values.floats.insert(tensor, words.iter().map(|w| Var::constant(f64::from(f32::from_bits(*w)))).collect());
        values.ints.insert(tensor, words);
    }
    values.floats.insert(io.records, vec![Var::constant(0.0); plan.len(io.records)]);
    for entry in plan.entries().iter().filter(|e| e.section == Section::Forward) {
        evaluate(plan, entry, &mut values)?;
    }
    let rows = plan.find("loss.rows").ok_or_else(|| Error::Internal("the plan has no loss".into()))?;
    let losses: Vec<Var> = values.floats[&rows].iter().step_by(plan.shape(rows)[1]).copied().collect();
    let scale = 1.0 / io.feed.count(&batch) as f64;
    let gradients = Var::backward(&losses.iter().map(|l| (*l, scale)).collect::<Vec<_>>());
    let (mut error, mut norm, mut worst, mut dead) = (0.0, 0.0, (0.0, String::new()), vec![]);
    for p in plan.parameters() {
        let want = leaves[&plan.find(&p.name).ok_or_else(|| Error::Internal(format!("no tensor {}", p.name)))?]
            .iter()
            .map(|leaf| gradients.of(*leaf).0);
        let (e, n) = want.zip(&got[p.offset..]).fold((0.0, 0.0), |(e, n), (w, g)| (e + (w - f64::from(*g)).powi(2), n + w * w));
        if n == 0.0 {
            dead.push(p.name.clone());
        } else if e / n > worst.0 {
            worst = (e / n, p.name.clone());
        }
        (error, norm) = (error + e, norm + n);
    }
    let reference = losses.iter().map(|l| l.value()).sum::<f64>() * scale;
    let loss = (StepRecord::of(&records, 0).mean(0), reference);
    Ok(Some(ModelOutcome { weights: plan.parameter_count(), nmse: error / norm, worst, loss, dead }))
}
