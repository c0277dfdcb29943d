//! `engine plan`: every dispatch of a training step.

use clap::Args;

use super::args::{DeviceArg, RunArgs};
use super::output::print;
use crate::error::Result;
use crate::gpu::{Gpu, Target};
use crate::plan::{LayoutOptions, Memory};
use crate::problem::Problem;
use crate::tasks::Purpose;

/// Print the plan of a training step: on an RX 6600, or on a device of this machine with the copies that it needs
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    device: DeviceArg,
}

pub(super) fn run(args: PlanArgs) -> Result<()> {
    let target = match args.device.device {
        Some(wanted) => Gpu::open(Some(&wanted))?.target,
        None => Target::default(),
    };
    let (plan, _) = Problem::open(&args.run.load()?, Purpose::Train)?.record_training(target)?;
    let memory = Memory::lay_out(&[&plan], LayoutOptions::default())?;
    print(&memory.plans[0].dump(&plan))
}
