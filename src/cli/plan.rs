//! `engine plan`: every dispatch of a training step.

use clap::Args;

use super::args::RunArgs;
use super::output::print;
use crate::error::Result;
use crate::gpu::Target;
use crate::problem::Problem;
use crate::tasks::Purpose;

/// Print the plan of a training step
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    run: RunArgs,
}

pub(super) fn run(args: PlanArgs) -> Result<()> {
    print(&Problem::open(&args.run.load()?, Purpose::Train)?.record_training(Target::default())?.0.dump())
}
