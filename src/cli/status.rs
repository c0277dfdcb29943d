//! `engine status`: how far runs are.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::args::JsonArg;
use super::live::{has_terminal, watch};
use super::output::note_left_out;
use crate::error::Result;
use crate::host::Host;
use crate::runs::{members, readable, status, status_table};

/// How far runs are: epoch, rate, time left, best so far, nearest rule, process
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Run folders, or folders of runs such as that of a sweep
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Draw curves and progress in the terminal until q; where there is none, print again every two seconds while one is live
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    json: JsonArg,
}

pub(super) fn run(host: &Host, args: StatusArgs) -> Result<()> {
    if args.watch && !args.json.json && host.prints_to_terminal() && has_terminal(host) {
        // What is no run is refused before the terminal is taken.
        readable(&members(&args.runs), status)?;
        return watch(host, &args.runs);
    }
    loop {
        // A sweep that is under way gets more of them.
        let (statuses, left_out) = readable(&members(&args.runs), status)?;
        note_left_out(host, &left_out);
        if args.json.json { host.print_json(&statuses) } else { host.print(&status_table(&statuses)) }?;
        if !args.watch || host.closed() || statuses.iter().all(|s| s.state != "live") {
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs(2));
    }
}
