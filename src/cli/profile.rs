//! `engine profile`: the time of every kernel of a training step.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::args::{DeviceArg, JsonArg, RunArgs};
use super::output::{print, print_json};
use crate::error::Result;
use crate::gpu::{Gpu, Target};
use crate::kernels::State;
use crate::plan::{Entry, Program};
use crate::problem::{Loaded, Problem};
use crate::registry::Config;
use crate::session::Session;
use crate::tasks::{DataKind, Purpose};
use crate::train::default_budget;

/// Time every kernel of a training step
#[derive(Debug, Args)]
pub(super) struct ProfileArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Repetitions; medians are shown
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// List every dispatch instead of sums by kernel
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    json: JsonArg,
}

/// The problem of a run with its data; made-up data of its sizes where its file is not there.
pub(super) fn problem_with_data(config: &Config) -> Result<Loaded> {
    if config.data.files().first().is_some_and(|(_, file)| !file.exists()) {
        return Loaded::made_up(config, (4 * config.train.samples()).max(512));
    }
    Ok(Problem::open(config, Purpose::Train)?.load()?.0)
}

/// A training program of the run, warmed up, and the median seconds of its steps on real data over so many rounds, the first not counted.
pub(super) fn timed_step(problem: &mut Loaded, target: Target, gpu: &Arc<Gpu>, rounds: usize) -> Result<(Session, f64)> {
    let session = problem.training_for(target, gpu)?;
    let count = problem.data.steps_per_epoch().min(8);
    let batches = (0..count).map(|step| problem.batches(step)).collect::<Result<Vec<_>>>()?;
    let mut state = State { seed: 1, ..State::default() };
    problem.settings.optimizer.fill(&mut state, 1000, 1e-6);
    let mut times = Vec::new();
    let started = Instant::now();
    let mut step = 0;
    for round in 0..rounds {
        let start = Instant::now();
        let mut last = None;
        // A round of a slow step is one step.
        let steps = if round == 0 {
            2
        } else if times.first().is_some_and(|t| *t > 0.3) {
            1
        } else {
            8
        };
        for _ in 0..steps {
            last = Some(session.submit_step(&batches[step as usize % batches.len()], state, step, problem.settings.train.accumulate)?);
            step += 1;
        }
        if let Some(index) = last {
            gpu.wait(index)?;
        }
        times.push(start.elapsed().as_secs_f64() / f64::from(steps));
        if round > 3 && started.elapsed().as_secs_f64() > 15.0 {
            break;
        }
    }
    let mut rest = times.split_off(1);
    rest.sort_by(f64::total_cmp);
    let median = rest[rest.len() / 2];
    Ok((session, median))
}

pub(super) fn run(args: ProfileArgs) -> Result<()> {
    let ProfileArgs { run, rounds, all, device, json: JsonArg { json } } = args;
    let gpu = Arc::new(Gpu::open(device.device.as_deref())?);
    let mut problem = problem_with_data(&run.load()?)?;
    problem.place(gpu.target, default_budget(&gpu))?;
    let (session, step) = timed_step(&mut problem, gpu.target, &gpu, 12)?;
    let program: &Program = &session.step()?.0;
    let timings = program.profile(rounds as usize)?;
    let total: f64 = timings.iter().map(|t| t.seconds).sum();
    #[derive(Default)]
    struct Row {
        calls: usize,
        seconds: f64,
        flops: u64,
        bytes: u64,
    }
    let mut rows: Vec<(String, Row)> = Vec::new();
    for (number, timing) in timings.iter().enumerate() {
        let entries = &program.plan.entries()[timing.entries.clone()];
        let joined = |of: fn(&Entry) -> &str| entries.iter().map(of).collect::<Vec<_>>().join(" + ");
        let kernels = joined(|e| &e.shader.name);
        let name = if all { format!("{number:3} {kernels} {}", joined(|e| &e.label)) } else { kernels };
        let at = rows.iter().position(|(n, _)| *n == name).unwrap_or_else(|| {
            rows.push((name, Row::default()));
            rows.len() - 1
        });
        let row = &mut rows[at].1;
        row.calls += 1;
        row.seconds += timing.seconds;
        row.flops += entries.iter().map(|e| e.flops).sum::<u64>();
        row.bytes += program.plan.touched(timing.entries.clone());
    }
    if !all {
        rows.sort_by(|a, b| b.1.seconds.total_cmp(&a.1.seconds));
    }
    if json {
        let list: Vec<_> = rows
            .iter()
            .map(|(name, r)| json!({ "kernel": name, "calls": r.calls, "seconds": r.seconds, "flops": r.flops, "bytes": r.bytes, "share": r.seconds / total }))
            .collect();
        return print_json(&json!({ "device": gpu.describe(), "step_seconds": step, "kernel_seconds": total, "kernels": list }));
    }
    let width = rows.iter().map(|(n, _)| n.len()).max().unwrap_or(0);
    let mut out = format!(
        "{}\n\n{:width$}{:>7}{:>12}{:>9}{:>12}{:>12}{:>10}{:>9}\n",
        gpu.describe(),
        "kernel",
        "calls",
        "time (µs)",
        "share",
        "MFLOP",
        "MB",
        "GFLOP/s",
        "GB/s"
    );
    for (name, r) in &rows {
        let _ = writeln!(
            out,
            "{name:width$}{:>7}{:>12.1}{:>7.1} %{:>12.3}{:>12.3}{:>10.2}{:>9.2}",
            r.calls,
            r.seconds * 1e6,
            100.0 * r.seconds / total,
            r.flops as f64 / 1e6,
            r.bytes as f64 / 1e6,
            r.flops as f64 / r.seconds.max(1e-12) / 1e9,
            r.bytes as f64 / r.seconds.max(1e-12) / 1e9
        );
    }
    let _ = write!(
        out,
        "\n{:.0} µs in {} dispatches, each timed alone (median of {rounds}); a whole step as trained takes {:.0} µs (median), {:.0} steps/s",
        total * 1e6,
        timings.len(),
        step * 1e6,
        1.0 / step
    );
    print(&out)
}
