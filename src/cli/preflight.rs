//! `engine preflight`: everything that can go wrong before a long run does, looked at in a minute.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::args::{DeviceArg, JsonArg, RunArgs, parse_bytes};
use super::output::bytes;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::kernels::metrics::StepRecord;
use crate::kernels::{State, key};
use crate::plan::Flat;
use crate::problem::Problem;
use crate::tasks::Purpose;
use crate::train::{default_budget, duration};

/// Look before a long run: the data with their norms, sizes, memory, and some steps with their time
#[derive(Debug, Args)]
pub(super) struct PreflightArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Memory budget, as in 8GiB [default: 8GiB, or what the card has free]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    budget: Option<u64>,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    json: JsonArg,
}

/// Steps that are tried; the first compiles.
const STEPS: u64 = 4;

pub(super) fn run(host: &Host, args: PreflightArgs) -> Result<()> {
    let config = args.run.load()?;
    let problem = Problem::open(&config, Purpose::Train)?;
    problem.data.expect_file()?;
    let gpu = Arc::new(host.open(args.device.device.as_deref())?);
    let (mut problem, notes) = problem.load()?;
    let budget = args.budget.unwrap_or_else(|| default_budget(&gpu));
    let needed = problem.place(gpu.target, budget)?.report.total_bytes;
    if needed > budget {
        return Err(Error::Config(format!(
            "the run needs {needed} bytes on {}, the budget is {budget}. `engine estimate` says where they go and which batch fits",
            gpu.describe()
        )));
    }
    let session = problem.training(&gpu)?;
    let parameters = session.step()?.0.plan.parameter_count();
    let before = session.arena.read_flat(Flat::Parameters)?;
    let (mut losses, mut norms, mut times) = (vec![], vec![], vec![]);
    for step in 0..STEPS {
        let mut state = State { seed: key(config.train.seed), slot: step as u32, ..State::default() };
        let total = config.train.epochs.saturating_mul(problem.data.steps_per_epoch());
        let rate = config.schedule.learning_rate(config.optimizer.learning_rate, step, total, config.train.epochs);
        config.optimizer.fill(&mut state, rate);
        let batches = problem.batches(step)?;
        let started = Instant::now();
        let index = session.submit_step(&batches, state, step, config.train.accumulate)?;
        gpu.wait(index)?;
        times.push(started.elapsed().as_secs_f64());
        let records = session.records()?;
        let record = StepRecord::of(&records, step as usize);
        losses.push(record.mean(0));
        norms.push(record.gradient_norm());
        if record.skipped() {
            return Err(Error::Data(format!(
                "step {} has a loss of {} and a gradient norm of {}: something is not finite. Look at the data with `engine inspect`, or lower \
                 optimizer.learning_rate",
                step + 1,
                record.mean(0),
                record.gradient_norm()
            )));
        }
    }
    let after = session.arena.read_flat(Flat::Parameters)?;
    let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
    if moved == 0 {
        return Err(Error::Config(format!("no weight moved in {STEPS} steps: raise optimizer.learning_rate, or shorten the warm-up")));
    }
    let baseline = problem.scorecard().baseline();
    times[1..].sort_by(f64::total_cmp);
    let step = times[1 + (times.len() - 1) / 2];
    let steps = problem.data.steps_per_epoch();
    let whole = step * steps as f64 * config.train.epochs as f64;
    if args.json.json {
        return host.print_json(&json!({
            "parameters": parameters, "bytes": needed, "budget": budget, "device": gpu.describe(), "steps_per_epoch": steps,
            "losses": losses, "gradient_norms": norms, "weights_moved": moved, "step_seconds": step, "run_seconds": whole, "notes": notes,
        }));
    }
    let mut out = format!("run file    {} is sound\n", args.run.run.display());
    notes.iter().for_each(|note| out += &format!("{note}\n"));
    let _ = writeln!(out, "model       {parameters} weights");
    let _ = writeln!(out, "batches     {} samples a step, {steps} steps an epoch, {} epochs", config.train.samples(), config.train.epochs);
    let _ = writeln!(out, "memory      {} of {} on {}", bytes(needed), bytes(budget), gpu.describe());
    let shown = |values: &[f64]| values.iter().map(|v| format!("{v:.5}")).collect::<Vec<_>>().join(", ");
    let _ = writeln!(out, "{STEPS} steps     loss {}; gradient norm {}; {moved} numbers moved", shown(&losses), shown(&norms));
    if let Some((name, metrics)) = baseline {
        let values = metrics.0.iter().map(|(metric, value)| format!("{metric} {value:.4}")).collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "to beat     {name}: {values}");
    }
    let _ = write!(out, "time        {:.1} ms a step, {} the whole run without its validations", 1e3 * step, duration(whole));
    host.print(&out)
}
