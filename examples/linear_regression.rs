//! A plan of one's own: linear regression, y = W x + b, without a model, a data set or the training loop.
//!
//! `cargo run --release --example linear_regression`

use std::sync::Arc;

use engine::batch::{Inputs, Outputs};
use engine::error::{Error, Result};
use engine::gpu::{Gpu, Role};
use engine::kernels::metrics::{Accumulate, RECORD, StepRecord};
use engine::kernels::vector_loss::On;
use engine::kernels::{State, state};
use engine::layers::{Layer, Linear};
use engine::losses::{LossKind, MseTerm, VectorLossConfig};
use engine::models::initial_weights;
use engine::optim::OptimizerConfig;
use engine::plan::{Flat, Passes, Plan, Program, Section};
use engine::random::Random;

const SAMPLES: usize = 64;

pub(crate) fn main() -> Result<()> {
    let gpu = Arc::new(Gpu::open(None)?);

    // Record: inputs, layer, loss, sums for the host, gradients, update.
    let mut plan = Plan::training("regression", gpu.target);
    let state = state(&mut plan)?;
    let x = plan.persistent(Role::Dataset, "x", &[SAMPLES, 3])?;
    let t = plan.persistent(Role::Dataset, "t", &[SAMPLES, 1])?;
    let mut layer = Linear::new("linear", 3, 1);
    let y = layer.forward(&mut plan, x)?;
    let loss = VectorLossConfig { mse: Some(MseTerm { weight: 1.0, on: On::Raw }), ..VectorLossConfig::default() }.build();
    let recorded = loss.record(&mut plan, &Outputs::only(y), &Inputs::new(SAMPLES).with("target", t), true)?;
    let records = plan.persistent(Role::Workspace, "records", &[2, RECORD])?;
    let cols = loss.columns().names.len();
    Accumulate { x: recorded.rows, records, rows: SAMPLES, cols }.record(&mut plan, "metrics")?;
    let gradients = recorded.gradients.ok_or_else(|| Error::Internal("a training plan has gradients".into()))?;
    plan.within(Section::Backward, |plan| layer.backward(plan, gradients.main))?;
    let optimizer = OptimizerConfig { learning_rate: 0.05, weight_decay: 0.0, clip_norm: 0.0, ..OptimizerConfig::default() };
    let passes = Passes { update: Some(|plan: &mut Plan| optimizer.record(plan, records)), ..Passes::default() };
    let plan = passes.finish(plan)?;

    // Place it on the device.
    let (program, memory) = Program::alone(plan, &gpu)?;
    println!("{}: {} dispatches, {} bytes", gpu.describe(), program.plan.entries().len(), memory.report.total_bytes);
    program.arena().write_flat(Flat::Parameters, &initial_weights(program.plan.parameters(), 1))?;

    // Replay: y = 2 x₀ − x₁ + 0.5 x₂ + 3.
    let mut random = Random::new(1, 100, 0);
    let inputs: Vec<f32> = (0..SAMPLES * 3).map(|_| random.normal() as f32).collect();
    let targets: Vec<f32> = inputs.chunks(3).map(|x| 2.0 * x[0] - x[1] + 0.5 * x[2] + 3.0).collect();
    program.write(x, &inputs);
    program.write(t, &targets);
    let mut error = f64::INFINITY;
    for step in 0..400 {
        let mut now = State { slot: (step % 2) as u32, rows: SAMPLES as u32, count: SAMPLES as u32, scale: 1.0, ..State::default() };
        optimizer.fill(&mut now, optimizer.learning_rate);
        program.write(state, &[now]);
        program.run(program.all())?;
        let record: Vec<f32> = program.read(records)?;
        error = StepRecord::of(&record, step % 2).mean(0);
        if step % 100 == 99 {
            println!("step {:3}: mean squared error {error:.2e}", step + 1);
        }
    }
    let weights = program.arena().read_flat(Flat::Parameters)?;
    let bias = program.plan.parameters()[1].offset;
    println!("weights {:.3?}, bias {:.3}", &weights[..3], weights[bias]);
    assert!(error < 1e-3, "the regression ends at {error}");
    Ok(())
}
