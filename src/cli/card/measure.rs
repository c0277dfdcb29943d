//! What no other command measures: limits of a device, products, copies, and the memory of a training session.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use crate::cli::profile::{problem_with_data, timed_step};
use crate::error::{Error, Result};
use crate::gpu::{CardModel, Gpu, Role};
use crate::kernels::matmul::Matmul;
use crate::plan::{Plan, Program};
use crate::ranks::Ranks;
use crate::registry::Config;

/// What is measured, as `WHAT` or `WHAT:OF`.
pub(super) fn measure(what: &str, gpu: &Arc<Gpu>) -> Result<Value> {
    match what.split_once(':').unwrap_or((what, "")) {
        ("limits", _) => Ok(limits(gpu)),
        ("copies", _) => copies(gpu),
        ("product", n) => product(gpu, n.parse().map_err(|e| Error::Config(format!("--measure {what}: {e}")))?),
        ("memory", run) => memory(gpu, Path::new(run)),
        _ => Err(Error::Config(format!("--measure {what}: there are limits, copies, product:N and memory:RUN.toml"))),
    }
}

fn limits(gpu: &Gpu) -> Value {
    let (s, t) = (&gpu.summary, &gpu.target);
    json!({
        "name": s.name, "kind": s.kind, "backend": s.backend, "driver": s.driver,
        "system": format!("{}, {}", std::env::consts::OS, std::env::consts::ARCH),
        "largest_binding_bytes": t.max_binding, "workgroup_memory_bytes": t.workgroup_memory, "workgroup_invocations": t.workgroup_invocations,
        "workgroups": t.max_groups, "storage_buffers": t.storage_buffers, "uniform_buffers": t.uniform_buffers,
        "immediates_bytes": t.immediate_bytes, "subgroup": [s.subgroup.0, s.subgroup.1], "f16": t.half, "timestamps": gpu.has_timestamps(),
        "reads_images": gpu.reads_images, "free_memory_bytes": gpu.free_memory(), "memory_budget_bytes": gpu.budget(),
    })
}

/// Bytes per second of copies between two buffers, read and write counted; several in a submission, so that starting them does not count.
fn copies(gpu: &Gpu) -> Result<Value> {
    const BYTES: u64 = 64 << 20;
    const COPIES: u32 = 8;
    let (a, b) = (gpu.buffer(Role::Workspace, "from", BYTES)?, gpu.buffer(Role::Workspace, "to", BYTES)?);
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let started = Instant::now();
        let mut encoder = gpu.encoder();
        (0..COPIES).for_each(|_| encoder.copy_buffer_to_buffer(&a, 0, &b, 0, BYTES));
        gpu.wait(gpu.submit(encoder)?)?;
        best = best.min(started.elapsed().as_secs_f64() / f64::from(COPIES));
    }
    let rate = 2.0 * BYTES as f64 / best;
    Ok(
        json!({ "bytes": BYTES, "seconds": best, "bytes_per_second": rate, "of_peak": CardModel::of(&gpu.summary.name).map(|card| rate / card.memory) }),
    )
}

/// Product of two n × n matrices.
fn product(gpu: &Arc<Gpu>, n: usize) -> Result<Value> {
    let mut plan = Plan::training("product", gpu.target);
    let mut matrix = |name| plan.persistent(Role::Workspace, name, &[n, n]);
    let [a, b, y] = [matrix("a")?, matrix("b")?, matrix("y")?];
    Matmul::new(a, b, y, (n, n, n)).record(&mut plan, "product")?;
    let (program, _) = Program::alone(plan, gpu)?;
    // Zeros would take less power, and with it a higher clock.
    let values: Vec<f32> = (0..n * n).map(|i| (i as u32).wrapping_mul(2_654_435_761) as f32 / 2f32.powi(31) - 1.0).collect();
    [a, b].into_iter().for_each(|matrix| program.write(matrix, &values));
    let rounds = if n < 4096 { 15 } else { 3 };
    let timings = program.profile(rounds)?;
    let (seconds, flops) = (timings.iter().map(|t| t.seconds).sum::<f64>(), 2.0 * (n as f64).powi(3));
    let kernel = program.plan.entries().iter().map(|e| e.shader.name.as_str()).collect::<Vec<_>>().join(" + ");
    let rate = flops / seconds;
    Ok(
        json!({ "n": n, "kernel": kernel, "seconds": seconds, "flops_per_second": rate, "of_peak": CardModel::of(&gpu.summary.name).map(|card| rate / card.peak()) }),
    )
}

/// Memory of a run that trains up to a hundred steps: the estimate, the engine's ledger, wgpu's allocator and the driver.
fn memory(gpu: &Arc<Gpu>, run: &Path) -> Result<Value> {
    let mut problem = problem_with_data(&Config::load(run, &[])?, Ranks::default())?;
    let free = gpu.free_memory();
    let estimate = problem.place(gpu.target, gpu.budget())?.memory.report.total_bytes;
    // Two steps, then twelve rounds of eight, or of one where a step is slow.
    let (session, seconds) = timed_step(&mut problem, gpu.target, gpu, 13)?;
    let allocated: u64 = gpu.allocator_report().iter().map(|(_, bytes)| bytes).sum();
    let taken = free.zip(gpu.free_memory()).map(|(before, now)| before.saturating_sub(now));
    let finite = session.records()?.iter().all(|value| value.is_finite());
    Ok(json!({
        "estimate_bytes": estimate, "ledger_bytes": gpu.ledger().total(), "allocator_bytes": (allocated > 0).then_some(allocated),
        "driver_bytes": taken, "step_seconds": seconds, "finite": finite,
    }))
}
