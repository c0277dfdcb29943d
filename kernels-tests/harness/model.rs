//! The oracle for whole models: the recorded forward pass of a training plan, run in f64 on the tape, gives the gradient of the loss by
//! every weight. No model needs a reference of its own.

use std::collections::HashMap;
use std::sync::Arc;

use super::Checked;
use super::reference::{Values, evaluate};
use super::scalar::{Scalar, Var};
use crate::config::Config;
use crate::datasets::Split;
use crate::datasets::integer_sequences::{CONTEXT, sample};
use crate::gpu::Gpu;
use crate::kernels::State;
use crate::kernels::metrics::SUMS;
use crate::models::initial_weights;
use crate::plan::{Flat, Section};
use crate::train::Session;

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

/// Checks the gradient of a run's model with its initial weights on four sequences of its data.
///
/// # Errors
/// With what the device or the plan cannot do.
pub fn check_model(gpu: &Arc<Gpu>, config: &Config) -> Checked<ModelOutcome> {
    let mut config = config.clone();
    (config.train.batch, config.train.accumulate) = (4, 1);
    let session = Session::training(&config, gpu)?;
    let (program, tensors) = session.step()?;
    let plan = &program.plan;
    let sequences: Vec<_> = (0..4).map(|i| sample(config.data.seed, Split::Test, i, [1.0 / 3.0; 3])).collect();
    let tokens: Vec<u32> = sequences.iter().flat_map(|s| s[..CONTEXT].iter().map(|v| u32::from(*v))).collect();
    let targets: Vec<u32> = sequences.iter().flat_map(|s| s[1..].iter().map(|v| u32::from(*v))).collect();
    let state = State { seed: 1, tick: 5, rows: tokens.len() as u32, ..State::default() };
    program.write(tensors.tokens, &tokens);
    program.write(tensors.targets, &targets);
    program.write(tensors.state, &[state]);
    program.run(program.gradients())?;
    let got = session.arena.read_flat(Flat::Gradients)?;
    let records: Vec<f32> = program.read(tensors.records)?;

    Var::reset();
    let flat = initial_weights(plan.parameters(), config.train.seed);
    let mut values: Values<Var> = Values { floats: HashMap::new(), ints: HashMap::new(), state };
    for p in plan.parameters() {
        let tensor = plan.find(&p.name).ok_or_else(|| format!("no tensor {}", p.name))?;
        let leaves = flat[p.offset..p.offset + p.len()].iter().map(|v| Var::leaf(f64::from(*v))).collect();
        values.floats.insert(tensor, leaves);
    }
    values.fill_parts(plan);
    let leaves = values.floats.clone();
    values.floats.insert(tensors.records, vec![Var::constant(0.0); plan.len(tensors.records)]);
    values.ints.insert(tensors.tokens, tokens);
    values.ints.insert(tensors.targets, targets);
    for entry in plan.entries().iter().filter(|e| e.section == Section::Forward) {
        evaluate(plan, entry, &mut values)?;
    }
    let rows = plan.find("loss.rows").ok_or("the plan has no loss")?;
    let losses: Vec<Var> = values.floats[&rows].iter().step_by(4).copied().collect();
    let scale = 1.0 / losses.len() as f64;
    let gradients = Var::backward(&losses.iter().map(|l| (*l, scale)).collect::<Vec<_>>());
    let (mut error, mut norm, mut worst, mut dead) = (0.0, 0.0, (0.0, String::new()), vec![]);
    for p in plan.parameters() {
        let want = leaves[&plan.find(&p.name).ok_or("a parameter")?].iter().map(|leaf| gradients.of(*leaf).0);
        let (e, n) = want.zip(&got[p.offset..]).fold((0.0, 0.0), |(e, n), (w, g)| (e + (w - f64::from(*g)).powi(2), n + w * w));
        if n == 0.0 {
            dead.push(p.name.clone());
        } else if e / n > worst.0 {
            worst = (e / n, p.name.clone());
        }
        (error, norm) = (error + e, norm + n);
    }
    let reference = losses.iter().map(|l| l.value()).sum::<f64>() * scale;
    let loss = (f64::from(records[SUMS]) / f64::from(records[0]), reference);
    Ok(ModelOutcome { weights: plan.parameter_count(), nmse: error / norm, worst, loss, dead })
}
