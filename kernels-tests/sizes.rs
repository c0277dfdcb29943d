//! Sums that are longer than a software driver loops, and that the check of a run at its own batch would see one that is cut off.

use std::sync::Arc;

use engine::gpu::{Gpu, Role};
use engine::harness::batch::{ALLOWED, check_batch};
use engine::kernels::grad_norm;
use engine::plan::{Arena, LayoutOptions, Memory, Plan, Program};
use engine::random::Random;

use crate::models::config;
use crate::program::gpu;
use crate::runner::{all, note, tests};

tests![the_gradient_norm_is_right_at_any_size, a_step_at_a_large_batch_agrees_with_f64, a_sum_that_is_cut_off_is_seen,];

/// Σ x² of n elements on the device.
fn norm_squared(gpu: &Arc<Gpu>, values: &[f32]) -> f64 {
    let mut plan = Plan::new("norm", gpu.target);
    let x = plan.persistent(Role::Gradients, "x", &[values.len()]).unwrap();
    let y = plan.persistent(Role::Workspace, "y", &[grad_norm::PARTIALS]).unwrap();
    grad_norm::Partial { x, y }.record(&mut plan, "norm").unwrap();
    let (memory, lowered) = Memory::of(plan, LayoutOptions::default()).unwrap();
    let arena = Arc::new(Arena::new(gpu.clone(), &memory).unwrap());
    let program = Program::new(lowered, arena).unwrap();
    program.upload(x, 0, values).unwrap();
    program.run(program.all()).unwrap();
    let partials: Vec<f32> = program.read(y).unwrap();
    partials[..grad_norm::partials(gpu.target, values.len())].iter().map(|v| f64::from(*v)).sum()
}

fn the_gradient_norm_is_right_at_any_size() {
    let gpu = gpu();
    // The largest needs a binding of 400 MB, which lavapipe of Mesa 22 does not have.
    for n in [1_000_000, 4_200_000, 26_000_000, 100_000_000] {
        if n as u64 * 4 > gpu.target.max_binding {
            note!("{n} weights: one buffer may have {} bytes here", gpu.target.max_binding);
            continue;
        }
        let mut random = Random::new(1, 2, 3);
        let draws: Vec<f32> = (0..65_537).map(|_| random.normal() as f32).collect();
        let values: Vec<f32> = (0..n).map(|i| draws[i % draws.len()]).collect();
        let want = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        let got = norm_squared(&gpu, &values).sqrt();
        note!("{n} weights: norm {got}, f64 {want}: {:.1e} of it", (got - want).abs() / want);
        assert!((got - want).abs() <= 1e-5 * want, "{n} weights: norm {got}, f64 {want}");
        // What is not finite is seen wherever it stands.
        let mut broken = values;
        broken[n - 1] = f32::NAN;
        assert!(!norm_squared(&gpu, &broken).is_finite(), "{n} weights: a NaN at the end passes");
    }
}

/// 131,072 rows: more than Mesa's software drivers loop.
const LONG: [&str; 2] = ["train.batch=16384", "validation.sequences=8"];

fn a_step_at_a_large_batch_agrees_with_f64() {
    for set in [&LONG[..], &["train.batch=100"]].into_iter().take(if all() { 2 } else { 1 }) {
        let outcome = check_batch(&gpu(), &config("integer_sequences", set)).unwrap();
        assert!(outcome.worst.0 <= ALLOWED, "{outcome:?}");
        assert!(outcome.dispatches.1 * 3 > outcome.dispatches.0 * 2, "{outcome:?}");
    }
    // The kernels of the others are many, and those of the first two are of all kinds.
    let runs = [
        ("lvm_lstm_unified", &["data.dim=64", "model.hidden=20"][..]),
        ("linkage_vae", &["train.batch=8"]),
        ("integer_sequences_d64", &["train.batch=64"]),
        ("lvm_transformer_infonce", &["data.dim=32", "model.width=64", "model.heads=4", "model.layers=1", "model.feed_forward=16"]),
        ("mechanism_small", &["train.batch=32", "model.d_model=32"]),
    ];
    for (name, set) in runs.into_iter().take(if all() { runs.len() } else { 2 }) {
        let outcome = check_batch(&gpu(), &config(name, set)).unwrap();
        assert!(outcome.worst.0 <= ALLOWED, "{name}: {outcome:?}");
    }
}

/// The same step recorded as if loops had no limit: the driver cuts the sums off, and the check sees it.
fn a_sum_that_is_cut_off_is_seen() {
    let mut unlimited = Gpu::open(std::env::var("ENGINE_DEVICE").ok().as_deref()).unwrap();
    if !unlimited.summary.driver.contains("llvmpipe") {
        note!("{} does not cut loops off", unlimited.describe());
        return;
    }
    unlimited.target.loop_iterations = u64::MAX;
    let outcome = check_batch(&Arc::new(unlimited), &config("integer_sequences", &LONG)).unwrap();
    assert!(outcome.worst.0 > 1e-3, "{outcome:?}");
}
