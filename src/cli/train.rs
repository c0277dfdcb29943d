//! `engine train`: a run into a folder of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use clap::Args;

use super::args::{DeviceArg, JsonArg, RunArgs, parse_bytes};
use super::output::{print, print_json};
use crate::error::{Error, Result};
use crate::problem::Problem;
use crate::tasks::Purpose;
use crate::train::{Options, train};

/// Train a run into a folder of its own
#[derive(Debug, Args)]
pub(super) struct TrainArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Run folder [default: runs/ and the name of the run file]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on from the newest valid checkpoint of the folder
    #[arg(long)]
    resume: bool,
    /// Start from these weights (safetensors with PyTorch names)
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,
    /// Memory budget, as in 8GiB [default: 8GiB, or what the card has free]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    budget: Option<u64>,
    #[command(flatten)]
    device: DeviceArg,
    /// End after this many steps; the schedule stays that of the run
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    #[command(flatten)]
    json: JsonArg,
}

pub(super) fn run(args: TrainArgs) -> Result<()> {
    let TrainArgs { run, out, resume, init, budget, device, steps, json } = args;
    let problem = Problem::open(&run.load()?, Purpose::Train)?;
    let name = run.run.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let out = out.unwrap_or_else(|| PathBuf::from("runs").join(name));
    let options = Options { out, resume, init, budget, device: device.device, steps, quiet: json.json, stop: stop_on_signals()? };
    let report = train(problem, &options)?;
    if json.json { print_json(&report) } else { print(&report.table()) }
}

/// A number that becomes that of the first SIGINT, SIGTERM or, where there is one, SIGHUP; a second one ends the process at once.
fn stop_on_signals() -> Result<Arc<AtomicUsize>> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let (stop, armed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut signals = vec![SIGINT, SIGTERM];
    #[cfg(unix)]
    signals.push(signal_hook::consts::SIGHUP);
    for signal in signals {
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, armed.clone())
            .and_then(|_| signal_hook::flag::register(signal, armed.clone()))
            .and_then(|_| signal_hook::flag::register_usize(signal, stop.clone(), signal as usize))
            .map_err(|e| Error::Internal(format!("signal handler: {e}")))?;
    }
    Ok(stop)
}
