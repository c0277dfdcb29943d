//! Kernel microbenchmarks and whole training steps: medians with GFLOP/s and GB/s, beside a measured copy bandwidth.
//!
//! `cargo bench` runs all rows, `cargo bench -- matmul` those whose name contains the word. What is timed of a kernel family stands with
//! its cases in kernels-tests.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use engine::error::{Error, Result};
use engine::gpu::{Gpu, Role};
use engine::harness::{FAMILIES, Family};
use engine::kernels::State;
use engine::problem::Loaded;
use engine::registry::Config;

/// Median seconds of one of `repeat` launches in a submission, over rounds.
fn time(mut launch: impl FnMut() -> Result<f64>) -> Result<f64> {
    launch()?;
    let mut times = (0..9).map(|_| launch()).collect::<Result<Vec<f64>>>()?;
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Every launch of a family's cases to time.
fn family(gpu: &Arc<Gpu>, family: &Family, filter: &str) -> Result<()> {
    for spec in family.bench_specs() {
        let case = family.case(&spec, gpu.target)?;
        if !family.name.contains(filter) && !filter.contains(family.name) {
            continue;
        }
        for (entry, seconds) in case.profile(gpu, 15)? {
            let name = format!("{} {:?}", entry.shader.name, spec.dims);
            let (flops, bytes) = (entry.flops as f64, 4.0 * entry.extents.iter().map(|extent| extent.elements.len()).sum::<usize>() as f64);
            println!("{name:<48}{:>12.1}{:>10.2}{:>10.2}", seconds * 1e6, flops / seconds / 1e9, bytes / seconds / 1e9);
        }
    }
    Ok(())
}

/// Bytes per second of copies between two buffers, read and write counted.
fn copy(gpu: &Arc<Gpu>) -> Result<()> {
    let bytes = 64u64 << 20;
    let (a, b) = (gpu.buffer(Role::Workspace, "from", bytes)?, gpu.buffer(Role::Workspace, "to", bytes)?);
    let seconds = time(|| {
        let start = Instant::now();
        let mut encoder = gpu.encoder();
        encoder.copy_buffer_to_buffer(&a, 0, &b, 0, bytes);
        let index = gpu.submit(encoder)?;
        gpu.wait(index)?;
        Ok(start.elapsed().as_secs_f64())
    })?;
    println!(
        "{:<48}{:>12.1}{:>10}{:>10.2}",
        "copy 64 MiB (ceiling of the bandwidth)",
        seconds * 1e6,
        "",
        2.0 * bytes as f64 / seconds / 1e9
    );
    Ok(())
}

fn step(gpu: &Arc<Gpu>, run: &str) -> Result<()> {
    let config = Config::load(Path::new(&format!("data/runs/{run}.toml")), &[])?;
    let mut problem = Loaded::made_up(&config, 4 * config.train.batch)?;
    let placed = problem.place(gpu.target, 8 << 30)?;
    let session = problem.training_in(placed, gpu)?;
    let plan = &session.step()?.0.plan;
    let flops: u64 = plan.entries().iter().map(|e| e.flops).sum();
    let bytes: u64 = plan.launches().map(|launch| plan.touched(launch)).sum();
    let batches = problem.batches(0)?;
    let mut state = State::default();
    config.optimizer.fill(&mut state, 1e-6);
    let count = if flops > 1_000_000_000 { 1 } else { 16 };
    let seconds = time(|| {
        let start = Instant::now();
        let mut last = None;
        for step in 0..count {
            last = Some(session.submit_step(&batches, state, step, config.train.accumulate)?);
        }
        if let Some(index) = last {
            gpu.wait(index)?;
        }
        Ok(start.elapsed().as_secs_f64() / count as f64)
    })?;
    let name = format!("train_step {run}, batch {}", config.train.batch);
    let samples = (config.train.batch * config.train.accumulate) as f64 / seconds;
    println!(
        "{name:<48}{:>12.1}{:>10.2}{:>10.2}{samples:>14.0} samples/s",
        seconds * 1e6,
        flops as f64 / seconds / 1e9,
        bytes as f64 / seconds / 1e9
    );
    Ok(())
}

fn main() -> Result<()> {
    for (name, value) in engine::gpu::environment() {
        // SAFETY: no other thread has been started.
        unsafe { std::env::set_var(name, value) };
    }
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    let gpu = Arc::new(Gpu::open(std::env::var("ENGINE_DEVICE").ok().as_deref())?);
    println!("{}\n\n{:<48}{:>12}{:>10}{:>10}", gpu.describe(), "", "median µs", "GFLOP/s", "GB/s");
    if "copy".contains(&filter) {
        copy(&gpu)?;
    }
    for row in FAMILIES {
        family(&gpu, row, &filter)?;
    }
    let mut runs: Vec<String> = std::fs::read_dir("data/runs")
        .map_err(|e| Error::read(Path::new("data/runs"), e))?
        .filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_string_lossy().into_owned()))
        .collect();
    runs.sort();
    for run in runs {
        if "train_step".contains(&filter) || (!filter.is_empty() && run.contains(&filter)) {
            step(&gpu, &run)?;
        }
    }
    Ok(())
}
