//! `engine preflight`: everything that can go wrong before a long run does, looked at in a minute.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::args::{DeviceArg, JsonArg, RunArgs, parse_bytes};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, TimeLimit};
use crate::host::Host;
use crate::kernels::metrics::StepRecord;
use crate::kernels::{State, key};
use crate::metrics::{bytes, duration};
use crate::plan::Flat;
use crate::problem::{Loaded, Problem};
use crate::registry::Config;
use crate::session::Session;
use crate::tasks::{DataKind, Level, Purpose, Verdict};
use crate::train::{Origin, expect_rules};

/// Look before a long run: the data with their norms, sizes, memory, and some steps with their time
#[derive(Debug, Args)]
pub(super) struct PreflightArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Memory budget, as in 8GiB [default: 8GiB, or what the card has free]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    budget: Option<u64>,
    /// Folder of an earlier run: every setting that differs from its is listed
    #[arg(long, value_name = "RUN")]
    like: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    json: JsonArg,
}

/// Checks of the learning rate, and of differences to an earlier run.
fn of_configuration(config: &Config, like: Option<&Path>) -> Result<Vec<Verdict>> {
    let rate = config.optimizer.learning_rate;
    let what = format!("optimizer.learning_rate = {rate:e}; 1e-5 to 1e-2 is usual of Adam");
    let then = "A step of Adam moves a weight by about the learning rate: above that range runs diverge, below they stand still";
    let mut verdicts = vec![Verdict::of(rate, [1e-5, 1e-2], [1e-7, 0.1], &what, then)];
    if let Some(folder) = like {
        let name = folder.display();
        let origin =
            Origin { config: config.to_toml()?, canonical: Some(|text| Config::parse_saved(text, "")?.to_toml()), ..Origin::default() };
        let lines = origin.all_differences(&Config::started(folder)?.to_toml()?, ["then", "now"]);
        verdicts.push(match &lines[..] {
            [] => Verdict { level: Level::Fine, what: format!("every setting is that of {name}") },
            _ => Verdict {
                level: Level::Look,
                what: format!("settings differ from those of {name}:\n          {}", lines.join("\n          ")),
            },
        });
    }
    Ok(verdicts)
}

/// Number of steps that are tried; the first one compiles.
const STEPS: u64 = 4;

pub(super) fn run(host: &Host, args: PreflightArgs) -> Result<()> {
    let mut config = args.run.load()?;
    config.data.resize()?;
    let problem = Problem::open(&config, Purpose::Train)?;
    problem.source().expect_file()?;
    expect_rules(&problem)?;
    let gpu = Arc::new(host.open(args.device.device.as_deref())?);
    let (mut problem, notes) = problem.load()?;
    let budget = args.budget.unwrap_or_else(|| gpu.budget());
    let placed = problem.place(gpu.target, budget)?;
    let needed = placed.memory.report.total_bytes;
    if needed > budget {
        let message = format!(
            "the run needs {needed} bytes on {}, the budget is {budget}. `engine estimate` says where they go and which batch fits",
            gpu.describe()
        );
        return Err(Error::OverBudget { needed, budget, message });
    }
    let session = problem.training_in(placed, &gpu)?;
    let parameters = session.step()?.0.plan.parameter_count();
    let before = session.arena.read_flat(Flat::Parameters)?;
    let FirstSteps { losses, norms, mut times } = first_steps(&config, &mut problem, &session, &gpu)?;
    let after = session.arena.read_flat(Flat::Parameters)?;
    let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
    if moved == 0 {
        return Err(Error::Config(format!("no weight moved in {STEPS} steps: raise optimizer.learning_rate, or shorten the warm-up")));
    }
    // Of the weights that a run starts with.
    session.arena.write_flat(Flat::Parameters, &before)?;
    let scorecard = problem.scorecard();
    let of_data = scorecard.verdicts(&session)?;
    let verdicts = [of_data.clone(), of_configuration(&config, args.like.as_deref())?].concat();
    let looks = verdicts.iter().filter(|verdict| verdict.level == Level::Look).count();
    let wrong: Vec<&Verdict> = verdicts.iter().filter(|verdict| verdict.level == Level::Wrong).collect();
    let baselines = scorecard.baselines();
    times[1..].sort_by(f64::total_cmp);
    let step = times[1 + (times.len() - 1) / 2];
    let steps = problem.source().steps_per_epoch();
    let whole = step * steps as f64 * config.train.epochs as f64;
    if args.json.json {
        host.print_json(&json!({
            "verdicts": verdicts,
            "parameters": parameters, "bytes": needed, "budget": budget, "device": gpu.describe(), "steps_per_epoch": steps,
            "losses": losses, "gradient_norms": norms, "time_limit": gpu.summary.time_limit,
            "weights_moved": moved, "step_seconds": step, "run_seconds": whole, "notes": notes,
        }))?;
        return refuse(&wrong, &of_data);
    }
    let run = args.run.run.display();
    let mut out = match (wrong.len(), looks) {
        (0, 0) => format!("run file    {run} is sound\n"),
        (0, _) => format!("run file    {run} can be run; {looks} of what follows is worth a look\n"),
        (n, _) => format!("run file    {run} is NOT sound: {n} of what follows would make the run be in vain\n"),
    };
    notes.iter().for_each(|note| out += &format!("{note}\n"));
    let _ = writeln!(out, "model       {parameters} weights");
    let _ = writeln!(out, "batches     {} samples a step, {steps} steps an epoch, {} epochs", config.train.samples(), config.train.epochs);
    let note = if args.budget.is_none() { gpu.budget_note() } else { "" };
    let _ = writeln!(out, "memory      {} of {}{note}; on {}", bytes(needed), bytes(budget), gpu.describe());
    if let Some(TimeLimit { seconds, from }) = &gpu.summary.time_limit {
        let _ = writeln!(out, "time limit  {seconds} s a submission, by {from}; those of a step take a quarter of a second at most");
    }
    let shown = |values: &[f64]| values.iter().map(|v| format!("{v:.5}")).collect::<Vec<_>>().join(", ");
    let _ = writeln!(out, "{STEPS} steps     loss {}; gradient norm {}; {moved} numbers moved", shown(&losses), shown(&norms));
    for (name, metrics) in baselines {
        let values = metrics.0.iter().map(|(metric, value)| format!("{metric} {value:.4}")).collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "to beat     {name}: {values}");
    }
    let _ = writeln!(out, "time        {:.1} ms a step, {} the whole run without its validations", 1e3 * step, duration(whole));
    for Verdict { level, what } in &verdicts {
        let mark = match level {
            Level::Fine => "fine",
            Level::Look => "LOOK",
            Level::Wrong => "WRONG",
        };
        let _ = writeln!(out, "{mark:<8}  {what}");
    }
    host.print(&out)?;
    refuse(&wrong, &of_data)
}

/// Losses, gradient norms and times in seconds of the first steps.
#[derive(Default)]
struct FirstSteps {
    losses: Vec<f64>,
    norms: Vec<f64>,
    times: Vec<f64>,
}

fn first_steps(config: &Config, problem: &mut Loaded, session: &Session, gpu: &Gpu) -> Result<FirstSteps> {
    let mut first = FirstSteps::default();
    for step in 0..STEPS {
        let mut state = State { seed: key(config.train.seed), slot: step as u32, ..State::default() };
        let total = config.train.epochs.saturating_mul(problem.source().steps_per_epoch());
        let rate = config.schedule.learning_rate(config.optimizer.learning_rate, step, total, config.train.epochs);
        config.optimizer.fill(&mut state, rate);
        let batches = problem.batches(step)?;
        let started = Instant::now();
        let index = session.submit_step(&batches, state, step, config.train.accumulate)?;
        gpu.wait(index)?;
        first.times.push(started.elapsed().as_secs_f64());
        let records = session.records()?;
        let record = StepRecord::of(&records, step as usize);
        first.losses.push(record.mean(0));
        first.norms.push(record.gradient_norm());
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
    Ok(first)
}

/// Fails if a check has found something wrong with the data or the configuration.
fn refuse(wrong: &[&Verdict], of_data: &[Verdict]) -> Result<()> {
    match wrong.first() {
        None => Ok(()),
        Some(first) => {
            let text = format!("preflight: {}", first.what);
            Err(if of_data.contains(first) { Error::Data(text) } else { Error::Config(text) })
        }
    }
}
