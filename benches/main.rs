//! Kernel microbenchmarks and whole training steps: medians with GFLOP/s and GB/s, beside a measured copy bandwidth.
//!
//! `cargo bench` runs all rows, `cargo bench -- matmul` those whose name contains the word.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use engine::config::Config;
use engine::error::{Error, Result};
use engine::gpu::{Gpu, Role};
use engine::kernels::matmul::{Activation, Matmul};
use engine::kernels::{Dropout, State, adamw, argmax, attention, cross_entropy, dropout, embedding, grad_norm, layer_norm, metrics};
use engine::plan::{Arena, LayoutOptions, Memory, Plan, Program, Tensor};
use engine::random::Random;
use engine::train::{Session, random_task};

/// Records one launch with its inputs; the plan starts with `x(name, shape)` for random inputs.
type Row = (&'static str, fn(&mut Plan) -> Result<()>);

fn x(plan: &mut Plan, name: &str, shape: &[usize]) -> Result<Tensor> {
    plan.persistent(Role::Dataset, name, shape)
}

const ROWS: [Row; 15] = [
    ("matmul 256x64x64 + bias", |p| matmul(p, 256, 64, 64, false, true)),
    ("matmul 256x256x64 + bias", |p| matmul(p, 256, 256, 64, false, true)),
    ("matmul 256x256x256 transposed A", |p| matmul(p, 256, 256, 256, true, false)),
    ("matmul 1024x1024x1024", |p| matmul(p, 1024, 1024, 1024, false, false)),
    ("layer_norm forward 2048x64", |p| {
        let (rows, cols) = (2048, 64);
        let (a, w, b) = (x(p, "x", &[rows, cols])?, x(p, "w", &[cols])?, x(p, "b", &[cols])?);
        let (y, stats) = (x(p, "y", &[rows, cols])?, x(p, "stats", &[rows, 2])?);
        layer_norm::Forward { x: a, w, b: Some(b), y, stats, rows, cols, eps: 1e-5 }.record(p, "bench")
    }),
    ("layer_norm backward_input 2048x64", |p| {
        let (rows, cols) = (2048, 64);
        let (a, w, stats) = (x(p, "x", &[rows, cols])?, x(p, "w", &[cols])?, x(p, "stats", &[rows, 2])?);
        let (dy, dx) = (x(p, "dy", &[rows, cols])?, x(p, "dx", &[rows, cols])?);
        let (derivative, residual) = (None, None);
        layer_norm::BackwardInput { x: a, w, stats, dy, dx, rows, cols, eps: 1e-5, center: true, derivative, residual }.record(p, "bench")
    }),
    ("attention forward 32x64, 4 heads of 16", |p| {
        let shape = attention::Shape { batch: 32, length: 64, heads: 4, head_dim: 16, causal: true, dropout: None };
        let (qkv, y, lse) = (x(p, "qkv", &[32, 64, 192])?, x(p, "y", &[32, 64, 64])?, x(p, "lse", &[32, 4, 64])?);
        attention::Forward { qkv, q: None, y, lse, shape }.record(p, "bench")
    }),
    ("attention backward 32x64, 4 heads of 16", |p| {
        let shape = attention::Shape { batch: 32, length: 64, heads: 4, head_dim: 16, causal: true, dropout: None };
        let (qkv, y, lse) = (x(p, "qkv", &[32, 64, 192])?, x(p, "y", &[32, 64, 64])?, x(p, "lse", &[32, 4, 64])?);
        let (dy, dqkv) = (x(p, "dy", &[32, 64, 64])?, x(p, "dqkv", &[32, 64, 192])?);
        attention::Backward { qkv, q: None, y, lse, dy, dqkv, shape }.record(p, "bench")
    }),
    ("embedding forward 2048x64", |p| {
        let (ids, table, positions) = (x(p, "ids", &[2048])?, x(p, "table", &[256, 64])?, x(p, "positions", &[8, 64])?);
        let y = x(p, "y", &[2048, 64])?;
        embedding::Forward { ids, table, positions, y, rows: 2048, cols: 64, length: 8 }.record(p, "bench")
    }),
    ("cross_entropy forward + gradient 2048x256", |p| {
        let (rows, cols, weight) = (2048, 256, cross_entropy::Weight::Linear);
        let (logits, targets) = (x(p, "x", &[rows, cols])?, x(p, "targets", &[rows])?);
        let (y, dx) = (x(p, "y", &[rows, 4])?, Some(x(p, "dx", &[rows, cols])?));
        cross_entropy::Forward { x: logits, targets, y, dx, rows, cols, weight, alpha: 0.1, scale: 1.0 }.record(p, "bench")
    }),
    ("dropout 1M", |p| {
        let (a, y) = (x(p, "x", &[1 << 20])?, x(p, "y", &[1 << 20])?);
        dropout::Apply { x: a, y, dropout: Dropout { rate: 0.1, stream: 1 } }.record(p, "bench")
    }),
    ("argmax 2048x256", |p| {
        let (a, y) = (x(p, "x", &[2048, 256])?, x(p, "y", &[2048])?);
        argmax::Forward { x: a, y, rows: 2048, cols: 256 }.record(p, "bench")
    }),
    ("metrics 2048x4", |p| {
        let (a, records) = (x(p, "x", &[2048, 4])?, x(p, "records", &[1, metrics::RECORD])?);
        metrics::Accumulate { x: a, records, rows: 2048, cols: 4 }.record(p, "bench")
    }),
    ("grad_norm 1M", |p| {
        let (a, y) = (x(p, "x", &[1 << 20])?, x(p, "y", &[grad_norm::PARTIALS])?);
        grad_norm::Partial { x: a, y }.record(p, "bench")
    }),
    ("adamw 1M", |p| {
        let n = [1 << 20];
        let (w, dw, m, v) = (x(p, "w", &n)?, x(p, "dw", &n)?, x(p, "m", &n)?, x(p, "v", &n)?);
        let (partials, records) = (x(p, "partials", &[grad_norm::PARTIALS])?, x(p, "records", &[1, metrics::RECORD])?);
        let count = grad_norm::partials(p.target, 1 << 20);
        let (beta1, beta2, eps, decay, decoupled) = (0.9, 0.999, 1e-8, 0.01, true);
        adamw::Update { partials, count, w, dw, m, v, records, beta1, beta2, eps, decay, decoupled }.record(p, "bench")
    }),
];

fn matmul(p: &mut Plan, m: usize, n: usize, k: usize, trans_a: bool, linear: bool) -> Result<()> {
    let (a, b, y) = (x(p, "a", &[m, k])?, x(p, "b", &[k, n])?, x(p, "y", &[m, n])?);
    let bias = if linear { Some(x(p, "bias", &[n])?) } else { None };
    Matmul { trans_a, trans_b: linear, bias, activation: Activation::Identity, ..Matmul::new(a, b, y, (m, n, k)) }.record(p, "bench")
}

/// Median seconds of one of `repeat` launches in a submission, over rounds.
fn time(mut launch: impl FnMut() -> Result<f64>) -> Result<f64> {
    launch()?;
    let mut times = (0..9).map(|_| launch()).collect::<Result<Vec<f64>>>()?;
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

fn kernel(gpu: &Arc<Gpu>, name: &str, record: fn(&mut Plan) -> Result<()>) -> Result<()> {
    let mut plan = Plan::new("bench", gpu.target);
    record(&mut plan)?;
    let memory = Memory::lay_out(&[&plan], LayoutOptions::default())?;
    let arena = Arc::new(Arena::new(gpu.clone(), &memory)?);
    let mut random = Random::new(1, 0, 0);
    for (index, buffer) in memory.buffers[..memory.buffers.len() - 1].iter().enumerate() {
        let integers = buffer.name == "ids" || buffer.name == "targets";
        let word = |_| if integers { random.bits() & 255 } else { (random.uniform() as f32).to_bits() };
        arena.write_buffer(index, &Vec::from_iter((0..buffer.bytes / 4).map(word)));
    }
    let (flops, bytes) = (plan.entries()[0].flops as f64, plan.entries()[0].bytes as f64);
    let state = plan.find(engine::kernels::STATE);
    let program = Program::new(plan, arena, memory.places[0].clone(), false)?;
    if let Some(state) = state {
        program.write(state, &[State { rows: u32::MAX, count: u32::MAX, ..State::default() }]);
    }
    let seconds = time(|| {
        let start = Instant::now();
        program.run(program.all())?;
        Ok(start.elapsed().as_secs_f64())
    })?;
    println!("{name:<42}{:>12.1}{:>10.2}{:>10.2}", seconds * 1e6, flops / seconds / 1e9, bytes / seconds / 1e9);
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
        "{:<42}{:>12.1}{:>10}{:>10.2}",
        "copy 64 MiB (ceiling of the bandwidth)",
        seconds * 1e6,
        "",
        2.0 * bytes as f64 / seconds / 1e9
    );
    Ok(())
}

fn step(gpu: &Arc<Gpu>, run: &str) -> Result<()> {
    let config = Config::load(Path::new(&format!("data/runs/{run}.toml")), &[])?;
    let mut task = random_task(&config, 4 * config.train.batch)?;
    task.settle(gpu.target, 8 << 30)?;
    let session = Session::training(&config, task.as_ref(), gpu)?;
    let flops: u64 = session.step()?.0.plan.entries().iter().map(|e| e.flops).sum();
    let bytes: u64 = session.step()?.0.plan.entries().iter().map(|e| e.bytes).sum();
    let batches = task.batches(0)?;
    let mut state = State::default();
    config.optimizer.fill(&mut state, 1000, 1e-6);
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
        "{name:<42}{:>12.1}{:>10.2}{:>10.2}{samples:>14.0} samples/s",
        seconds * 1e6,
        flops as f64 / seconds / 1e9,
        bytes as f64 / seconds / 1e9
    );
    Ok(())
}

fn main() -> Result<()> {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    let gpu = Arc::new(Gpu::open(std::env::var("ENGINE_DEVICE").ok().as_deref())?);
    println!("{}\n\n{:<42}{:>12}{:>10}{:>10}", gpu.describe(), "", "median µs", "GFLOP/s", "GB/s");
    if "copy".contains(&filter) {
        copy(&gpu)?;
    }
    for (name, record) in ROWS.into_iter().filter(|(name, _)| name.contains(&filter)) {
        kernel(&gpu, name, record)?;
    }
    let mut runs: Vec<String> = std::fs::read_dir("data/runs")
        .map_err(|e| Error::read(Path::new("data/runs"), &e))?
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
