//! `engine profile`: the time of every kernel of a training step.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::args::{DeviceArg, JsonArg, RunArgs};
use super::devices::device_of;
use super::train::expect_same_configuration;
use crate::error::Result;
use crate::gpu::{CARD, Gpu, LAUNCH, Target};
use crate::host::Host;
use crate::kernels::State;
use crate::metrics::bytes;
use crate::plan::{Entry, Exchange, Part, Program, Timing};
use crate::problem::{Loaded, Problem};
use crate::ranks::Ranks;
use crate::registry::Config;
use crate::session::Session;
use crate::tasks::DataKind;

/// Time every kernel of a training step, and under mpirun the exchange of its gradients
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

/// The problem of a run with its data, or with made-up data of the same sizes if its file does not exist.
pub(super) fn problem_with_data(config: &Config, ranks: Ranks) -> Result<Loaded> {
    let missing = config.data.files().first().is_some_and(|(_, file)| !file.exists());
    if ranks.gather(missing.into()).contains(&1) {
        return Loaded::for_ranks(config, ranks, |part| Loaded::made_up(part, (4 * part.train.samples()).max(512)));
    }
    Ok(Problem::open_for(config, ranks)?.load()?.0)
}

/// Creates a training session, and measures the median seconds of a step on real data over this number of rounds, the first not counted.
pub(super) fn timed_step(problem: &mut Loaded, target: Target, gpu: &Arc<Gpu>, rounds: usize) -> Result<(Session, f64)> {
    let session = problem.training_in(problem.placed_for(target)?, gpu)?;
    let (median, _) = median_step(problem, &session, rounds, Ranks::default(), None)?;
    Ok((session, median))
}

/// Measures the median seconds of a training step on real data, and gives the number of steps; the first round does not count. Of several
/// processes, each computes its part of the step; with an exchange, their gradients are summed.
fn median_step(
    problem: &mut Loaded,
    session: &Session,
    rounds: usize,
    ranks: Ranks,
    mut exchange: Option<&mut Exchange>,
) -> Result<(f64, u32)> {
    let accumulate = problem.settings.train.accumulate;
    let own = ranks.micro_steps(accumulate);
    let count = problem.source().steps_per_epoch().min(8);
    let batches = (0..count).map(|step| problem.batches_of(step, own.clone())).collect::<Result<Vec<_>>>()?;
    let gpu = &session.arena.gpu;
    let mut state = State { seed: 1, ..State::default() };
    problem.settings.optimizer.fill(&mut state, 1e-6);
    let mut times = Vec::new();
    let started = Instant::now();
    let (mut step, mut counted) = (0, 0);
    for round in 0..rounds {
        // All ranks take the same steps.
        let all_of = |flag: bool| ranks.gather(u64::from(flag)).contains(&1);
        let slow = all_of(times.first().is_some_and(|t| *t > 0.3));
        let start = Instant::now();
        let mut last = None;
        // A round of a slow step is one step.
        let steps = match (round, slow) {
            (0, _) => 2,
            (_, true) => 1,
            (_, false) => 8,
        };
        for _ in 0..steps {
            let batches = &batches[step as usize % batches.len()];
            last = match &mut exchange {
                Some(exchange) => Some(session.submit_shared_step(batches, state, step, own.clone(), exchange)?),
                None => match &batches[own.start.min(batches.len())..own.end.min(batches.len())] {
                    [] => None,
                    own => Some(session.submit_step(own, state, step, accumulate)?),
                },
            };
            step += 1;
        }
        if let Some(index) = last {
            gpu.wait(index)?;
        }
        times.push(start.elapsed().as_secs_f64() / f64::from(steps));
        if round > 0 {
            counted += steps;
        } else if let Some(exchange) = &mut exchange {
            exchange.forget();
        }
        if round > 3 && all_of(started.elapsed().as_secs_f64() > 15.0) {
            break;
        }
    }
    let mut rest = times.split_off(1);
    rest.sort_by(f64::total_cmp);
    Ok((rest[rest.len() / 2], counted))
}

/// A slice of the gradient that the ranks exchange, and the seconds that the host spends on it in a step.
#[derive(Debug, Serialize)]
struct SliceTime {
    /// Number of launches in the step before the slice leaves the device.
    after_launch: usize,
    bytes: u64,
    /// Seconds until the slice is on the host.
    ready_seconds: f64,
    /// Seconds of the sum among the ranks.
    sum_seconds: f64,
    /// Seconds of the copy back to the device.
    return_seconds: f64,
}

/// Time of a step of all ranks, and the part of the exchange that overlaps with other work.
#[derive(Debug, Serialize)]
struct Overlap {
    ranks: usize,
    /// Seconds of a step with the exchange.
    step_seconds: f64,
    /// Seconds of sums and copies back.
    exchange_seconds: f64,
    /// Seconds of these by which a step with the exchange is not longer than one without it.
    hidden_seconds: f64,
    slices: Vec<SliceTime>,
}

impl Overlap {
    /// Measures steps with and without the exchange in turn, twice each, and takes the shorter medians; `alone` is the time without it.
    fn measure(problem: &mut Loaded, session: &Session, alone: &mut f64, ranks: Ranks) -> Result<Overlap> {
        let mut exchange = session.exchange(ranks)?;
        let (first, _) = median_step(problem, session, 12, ranks, Some(&mut exchange))?;
        *alone = alone.min(median_step(problem, session, 12, ranks, None)?.0);
        let (second, steps) = median_step(problem, session, 12, ranks, Some(&mut exchange))?;
        let step_seconds = first.min(second);
        let each = |time: Duration| time.as_secs_f64() / f64::from(steps);
        let spent = exchange.spent();
        let exchange_seconds = each(spent.summed + spent.returned);
        let slice = |part: &Part| SliceTime {
            after_launch: part.after(),
            bytes: part.bytes(),
            ready_seconds: each(part.spent.ready),
            sum_seconds: each(part.spent.summed),
            return_seconds: each(part.spent.returned),
        };
        Ok(Overlap {
            ranks: ranks.count,
            step_seconds,
            exchange_seconds,
            hidden_seconds: (exchange_seconds - (step_seconds - *alone).max(0.0)).max(0.0),
            slices: exchange.parts.iter().map(slice).collect(),
        })
    }

    fn table(&self, alone: f64, launches: usize) -> String {
        let mut out = format!(
            "\n\nexchange of {} ranks (mean of a step)\n{:>5}{:>16}{:>12}{:>13}{:>12}{:>12}\n",
            self.ranks, "slice", "after launch", "size", "ready (µs)", "sum (µs)", "back (µs)"
        );
        for (number, slice) in self.slices.iter().enumerate() {
            let _ = writeln!(
                out,
                "{:>5}{:>16}{:>12}{:>13.1}{:>12.1}{:>12.1}",
                number + 1,
                format!("{} of {launches}", slice.after_launch),
                bytes(slice.bytes),
                slice.ready_seconds * 1e6,
                slice.sum_seconds * 1e6,
                slice.return_seconds * 1e6
            );
        }
        let _ = write!(
            out,
            "\na step of all ranks takes {:.0} µs, and {:.0} µs without the exchange. Sums and ways back take {:.0} µs, of which {:.0} % pass beside other work",
            self.step_seconds * 1e6,
            alone * 1e6,
            self.exchange_seconds * 1e6,
            100.0 * self.hidden_seconds / self.exchange_seconds.max(1e-12)
        );
        out
    }
}

pub(super) fn run(host: &Host, args: ProfileArgs, ranks: Ranks) -> Result<()> {
    let ProfileArgs { run, rounds, all, device, json: JsonArg { json } } = args;
    let config = run.load()?;
    expect_same_configuration(&config, ranks)?;
    let gpu = Arc::new(host.open(device_of(ranks, device.device)?.as_deref())?);
    let mut problem = problem_with_data(&config, ranks)?;
    let placed = problem.place(gpu.target, ranks.least(gpu.budget()))?;
    let session = problem.training_in(placed, &gpu)?;
    let (mut step, _) = median_step(&mut problem, &session, 12, ranks, None)?;
    let overlap = ranks.shared().then(|| Overlap::measure(&mut problem, &session, &mut step, ranks)).transpose()?;
    if !ranks.leads() {
        // Nobody computes beside the first, whose kernels are timed now.
        ranks.meet();
        return Ok(());
    }
    let program: &Program = &session.step()?.0;
    let timings = program.profile(rounds as usize)?;
    ranks.meet();
    let total: f64 = timings.iter().map(|t| t.seconds).sum();
    let rows = rows_of(program, &timings, all);
    if json {
        let (least, of_kernels) = least_on_card(&problem)?;
        let list: Vec<_> = rows
            .iter()
            .map(|(name, r)| {
                json!({
                    "kernel": name, "calls": r.calls, "seconds": r.seconds, "flops": r.flops, "bytes": r.bytes, "share": r.seconds / total,
                    "roofline_seconds": of_kernels.get(name),
                })
            })
            .collect();
        return host.print_json(&json!({
            "device": gpu.describe(), "step_seconds": step, "roofline_seconds": least, "kernel_seconds": total, "kernels": list, "exchange": overlap,
        }));
    }
    let mut out = format!("{}\n\n{}", gpu.describe(), table_of(&rows, total));
    let _ = write!(
        out,
        "\n{:.0} µs in {} dispatches, each timed alone (median of {rounds}); a whole step as trained takes {:.0} µs (median), {:.0} steps/s",
        total * 1e6,
        timings.len(),
        step * 1e6,
        1.0 / step
    );
    if let Some(overlap) = overlap {
        out += &overlap.table(step, program.plan.launches().count());
    }
    host.print(&out)
}

/// Seconds that a step takes an RX 6600 at least, and its launches by kernel, each once. The card has kernels of its own, so some of
/// another device are not among them.
fn least_on_card(problem: &Loaded) -> Result<(f64, HashMap<String, f64>)> {
    let card = problem.on_card()?;
    let cost = card.cost(&CARD, problem.micro_steps());
    let mut kernels: HashMap<String, f64> = HashMap::new();
    for (launch, least) in card.plan.launches().zip(&cost.launches) {
        *kernels.entry(joined(&card.plan.entries()[launch], |e| &e.shader.name)).or_default() += least.seconds + LAUNCH;
    }
    Ok((cost.seconds, kernels))
}

/// Names of the entries of a launch.
fn joined(entries: &[Entry], name: fn(&Entry) -> &str) -> String {
    entries.iter().map(name).collect::<Vec<_>>().join(" + ")
}

/// Sums over launches of one kind.
#[derive(Default)]
struct Row {
    calls: usize,
    seconds: f64,
    flops: u64,
    bytes: u64,
}

/// Launches summed by kernel, the slowest first; with `all`, each launch by itself, in their order.
fn rows_of(program: &Program, timings: &[Timing], all: bool) -> Vec<(String, Row)> {
    let mut rows: Vec<(String, Row)> = Vec::new();
    for (number, timing) in timings.iter().enumerate() {
        let entries = &program.plan.entries()[timing.entries.clone()];
        let kernels = joined(entries, |e| &e.shader.name);
        let name = if all { format!("{number:3} {kernels} {}", joined(entries, |e| &e.label)) } else { kernels };
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
    rows
}

fn table_of(rows: &[(String, Row)], total: f64) -> String {
    let width = rows.iter().map(|(n, _)| n.len()).max().unwrap_or(0);
    let mut out = format!(
        "{:width$}{:>7}{:>12}{:>9}{:>12}{:>12}{:>10}{:>9}\n",
        "kernel", "calls", "time (µs)", "share", "MFLOP", "MB", "GFLOP/s", "GB/s"
    );
    for (name, r) in rows {
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
    out
}
