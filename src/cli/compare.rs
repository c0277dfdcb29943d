//! `engine compare`: runs side by side.

use std::path::PathBuf;

use clap::Args;

use super::args::{JsonArg, expect_apart};
use super::output::{print, print_json};
use crate::error::Result;
use crate::train::compare;

/// Runs side by side: parameters, best epoch, scores, time, status
#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    /// Run folders
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Print Markdown
    #[arg(long)]
    markdown: bool,
    /// Draw the validation curves
    #[arg(long, value_name = "FILE.svg")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    json: JsonArg,
}

pub(super) fn run(args: CompareArgs) -> Result<()> {
    if let Some(path) = &args.svg {
        args.runs.iter().try_for_each(|run| expect_apart(path, &[], run))?;
    }
    let comparison = compare(&args.runs, args.svg.as_deref())?;
    match (args.json.json, args.markdown) {
        (true, _) => print_json(&comparison),
        (_, true) => print(&comparison.markdown()),
        _ => print(&comparison.table()),
    }
}
