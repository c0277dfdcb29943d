//! `engine compare`: runs side by side.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::args::{DeviceArg, JsonArg, expect_apart};
use super::output::note_left_out;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::inference::measure;
use crate::problem::Problem;
use crate::registry::Config;
use crate::runs::{compare, members};
use crate::tasks::Purpose;

/// Runs side by side: parameters, best epoch, scores, time, status
#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    /// Run folders, or folders of runs such as that of a sweep
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Columns to show, as in --columns "rank,model,parameters,best,best epoch,device,status"
    #[arg(long, value_delimiter = ',')]
    columns: Vec<String>,
    /// Measure what a prediction costs on this machine's device: time of 1 and of 64 samples, rate, memory
    #[arg(long)]
    inference: bool,
    #[command(flatten)]
    device: DeviceArg,
    /// Print Markdown
    #[arg(long)]
    markdown: bool,
    /// Draw the validation curves
    #[arg(long, value_name = "FILE.svg")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    json: JsonArg,
}

pub(super) fn run(host: &Host, args: CompareArgs) -> Result<()> {
    let runs = members(&args.runs);
    if let Some(path) = &args.svg {
        runs.iter().try_for_each(|run| expect_apart(path, &[], run))?;
    }
    if args.device.device.is_some() && !args.inference {
        return Err(Error::Config("--device is where --inference measures: give both".into()));
    }
    let mut comparison = compare(&runs, args.svg.as_deref())?;
    comparison.choose(&args.columns)?;
    note_left_out(host, &comparison.left_out);
    if args.inference {
        let gpu = Arc::new(host.open(args.device.device.as_deref())?);
        for row in &mut comparison.rows {
            let problem = Problem::open(&Config::of_run(Path::new(&row.run))?, Purpose::Generate)?;
            row.inference = Some(measure(&problem, &gpu)?);
        }
    }
    match (args.json.json, args.markdown) {
        (true, _) => host.print_json(&comparison),
        (_, true) => host.print(&comparison.markdown()),
        _ => host.print(&comparison.table()),
    }
}
