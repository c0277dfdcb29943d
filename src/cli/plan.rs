//! `engine plan`: every dispatch of a training step.

use clap::Args;

use super::args::{DeviceArg, RunArgs};
use crate::error::Result;
use crate::gpu::Target;
use crate::host::Host;
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

pub(super) fn run(host: &Host, args: PlanArgs) -> Result<()> {
    let target = match args.device.device {
        Some(wanted) => host.open(Some(&wanted))?.target,
        None => Target::default(),
    };
    let (plan, _) = Problem::open(&args.run.load()?, Purpose::Train)?.record_training(target)?;
    host.print(&Memory::of(plan, LayoutOptions::default())?.1.dump())
}
