//! `engine isa`: what the compiler of an AMD card makes of a run, and how long a step takes by that.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use serde_json::{Value, json};

use super::args::{JsonArg, KeyValue};
use crate::error::{Error, Failure, Result};
use crate::gpu::{CARD, CARDS, CardModel, Target, VIDEO_MEMORY};
use crate::host::Host;
use crate::isa::{Compiler, Prediction, environment, is_environment_of, predict};
use crate::metrics::{Heading, aligned};
use crate::problem::Problem;
use crate::registry::Config;
use crate::tasks::Purpose;

/// Compile a run's kernels for an AMD card that is not there, and predict its step
#[derive(Debug, Args)]
pub(super) struct IsaArgs {
    /// Run files; those shipped are in data/runs/
    #[arg(value_name = "RUN.toml", required = true)]
    runs: Vec<PathBuf>,
    /// Override a key, as in --set train.batch=64 (repeatable); `engine help keys` lists them
    #[arg(long = "set", value_name = "TABLE.KEY=VALUE", value_parser = KeyValue, hide_possible_values = true)]
    set: Vec<String>,
    /// Family of the card, as RADV names it
    #[arg(long, default_value = "navi23", value_parser = clap::builder::PossibleValuesParser::new(CARDS.iter().map(|c| c.family)))]
    card: String,
    /// Show every launch instead of those above 2 % of the step
    #[arg(long)]
    all: bool,
    /// Print the assembly of the variants of this kernel, as in matmul/tile
    #[arg(long, value_name = "KERNEL")]
    assembly: Option<String>,
    #[command(flatten)]
    json: JsonArg,
}

/// Seconds of a step of a run, as `engine isa` predicts them in a process of its own, for the card that the engine is tuned for; none if
/// Mesa's driver for it is not installed.
pub(super) fn predicted(program: &Path, run: &Path, set: &[String]) -> Option<f64> {
    let mut command = Command::new(program);
    command.arg("isa").arg(run).args(set.iter().flat_map(|set| ["--set", set])).arg("--json").envs(environment(CARD.family).ok()?);
    let output = command.output().ok().filter(|output| output.status.success())?;
    serde_json::from_slice::<serde_json::Value>(&output.stdout).ok()?["seconds"].as_f64()
}

pub(super) fn run(host: &Host, args: IsaArgs) -> Result<()> {
    let card = CARDS.iter().find(|c| c.family == args.card).unwrap_or(&CARD);
    if !is_environment_of(card.family) {
        // The driver reads its environment when it is loaded: another process has it from the start.
        let failed = |e: std::io::Error| Error::Io(Failure::new(format!("engine cannot start itself again: {e}"), e));
        let program = host.program().ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
        let status = Command::new(program).args(std::env::args_os().skip(1)).envs(environment(card.family)?).status().map_err(failed)?;
        // The other process has said what went wrong.
        std::process::exit(status.code().unwrap_or(70));
    }
    let compiler = Compiler::open()?;
    let mut told = Vec::with_capacity(args.runs.len());
    for run in &args.runs {
        let config = Config::load(run, &args.set)?;
        let mut problem = Problem::open(&config, Purpose::Train)?;
        problem.place(Target::default(), VIDEO_MEMORY)?;
        let prediction = predict(&problem.on_card()?, problem.micro_steps(), card, &compiler)?;
        let samples = config.train.samples() as f64;
        if let Some(kernel) = &args.assembly {
            let of: Vec<_> = prediction.variants.iter().filter(|v| v.name == *kernel).collect();
            if of.is_empty() {
                let run = run.display();
                return Err(Error::Config(format!("--assembly {kernel}: the plan of {run} has no such kernel. See engine isa without it")));
            }
            let texts: Vec<String> = of.iter().map(|v| format!("{} {}\n{}", v.name, v.consts, v.compiled.assembly)).collect();
            host.print(&texts.join("\n"))?;
        } else if args.json.json {
            told.push(json(run, &prediction, card, &compiler, samples));
        } else {
            let name = if args.runs.len() > 1 { format!("{}, for ", run.display()) } else { String::new() };
            host.print(&(name + &text(&prediction, card, &compiler, samples, args.all)))?;
        }
    }
    match &told[..] {
        [] => Ok(()),
        [one] => host.print_json(one),
        several => host.print_json(&several),
    }
}

fn json(run: &Path, p: &Prediction, card: &CardModel, compiler: &Compiler, samples: f64) -> Value {
    let variants = p.variants.iter().map(|v| {
        json!({
            "kernel": v.name, "consts": v.consts, "vgprs": v.compiled.vgprs, "spills": v.compiled.spills, "scratch": v.compiled.scratch,
            "lds": v.compiled.lds, "waves": v.compiled.waves, "wave": v.compiled.wave, "hot_vector": v.hot.vector, "hot_fma": v.hot.fma,
            "hot_lds": v.hot.lds, "hot_memory": v.hot.memory, "hot_waits": v.hot.waits,
        })
    });
    let variants: Vec<_> = variants.collect();
    json!({
        "run": run, "card": card.name, "compiler": compiler.name, "seconds": p.seconds, "roofline": p.roofline, "traffic": p.traffic,
        "samples_per_second": samples / p.seconds, "share_of_peak": p.flops / p.seconds / card.peak(),
        "variants": variants, "launches": p.launches,
    })
}

fn text(p: &Prediction, card: &CardModel, compiler: &Compiler, samples: f64, all: bool) -> String {
    let heads = |names: &[(&str, bool)]| names.iter().map(|(n, left)| (n.to_string(), *left)).collect::<Vec<Heading>>();
    let kernels = heads(&[
        ("kernel", true),
        ("VGPRs", false),
        ("spills", false),
        ("scratch", false),
        ("LDS", false),
        ("waves", false),
        ("hot loop", false),
        ("FMA", false),
        ("LDS acc.", false),
        ("memory", false),
        ("waits", false),
        ("consts", true),
    ]);
    let rows: Vec<Vec<String>> = p
        .variants
        .iter()
        .map(|v| {
            let (c, h) = (&v.compiled, &v.hot);
            vec![
                v.name.clone(),
                c.vgprs.to_string(),
                c.spills.to_string(),
                c.scratch.to_string(),
                c.lds.to_string(),
                format!("{} × {}", c.waves, c.wave),
                format!("{:.0}", h.vector),
                format!("{:.0} %", 100.0 * h.fma_share()),
                format!("{:.0}", h.lds),
                format!("{:.0}", h.memory),
                format!("{:.0}", h.waits),
                v.consts.clone(),
            ]
        })
        .collect();
    let mut out = format!("{}, as {} compiles for it\n\n{}\n", card.name, compiler.name, aligned(&kernels, &rows));
    let launches = heads(&[
        ("launch", false),
        ("kernel", true),
        ("time (µs)", false),
        ("share", false),
        ("bound", true),
        ("waves", false),
        ("roofline (µs)", false),
        ("layer", true),
    ]);
    let shown = p.launches.iter().filter(|l| all || l.share > 0.02).map(|l| {
        let bound = serde_json::to_value(l.bound).ok().and_then(|v| v.as_str().map(|s| s.replace('_', " "))).unwrap_or_default();
        vec![
            l.launch.to_string(),
            l.kernel.clone(),
            format!("{:.1}", 1e6 * l.seconds),
            format!("{:.1} %", 100.0 * l.share),
            if l.by_flops { format!("{bound} (by flops)") } else { bound },
            format!("{:.1}", l.waves),
            format!("{:.1}", 1e6 * l.roofline),
            l.label.clone(),
        ]
    });
    let shown: Vec<_> = shown.collect();
    if !shown.is_empty() {
        let _ = writeln!(out, "{}", aligned(&launches, &shown));
    }
    if !all {
        let _ = writeln!(out, "launches above 2 % of the step; --all shows every one of {}\n", p.launches.len());
    }
    let _ = writeln!(
        out,
        "predicted step {:.3} ms, {:.0} samples/s, {:.1} % of the card's {:.2} TFLOP/s; roofline {:.3} ms, {:.2} times as fast",
        1e3 * p.seconds,
        samples / p.seconds,
        100.0 * p.flops / p.seconds / card.peak(),
        card.peak() / 1e12,
        1e3 * p.roofline,
        p.seconds / p.roofline
    );
    out
}
