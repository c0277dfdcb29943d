//! `engine report`: runs as one HTML file.

use std::path::PathBuf;

use clap::Args;

use super::args::expect_apart;
use super::output::note_left_out;
use crate::error::Result;
use crate::host::Host;
use crate::runs::{html_report, members};

/// Write runs as one HTML file: curves, tables, settings, notes and pictures, for a browser without a network
#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// Run folders, or folders of runs such as that of a sweep
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// File to write
    #[arg(long, value_name = "FILE.html", default_value = "report.html")]
    out: PathBuf,
}

pub(super) fn run(host: &Host, args: ReportArgs) -> Result<()> {
    let runs = members(&args.runs);
    runs.iter().try_for_each(|run| expect_apart(&args.out, &[], run))?;
    note_left_out(host, &html_report(&runs, &args.out)?);
    host.print(&format!("{} is written: open it in a browser", args.out.display()))
}
