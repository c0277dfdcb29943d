//! `engine export`: the weights of a run alone, for PyTorch.

use std::path::PathBuf;

use clap::Args;

use super::args::{WeightsArgs, expect_apart, expect_others, run_config, weights_of};
use crate::error::Result;
use crate::gpu::Target;
use crate::host::Host;
use crate::problem::Problem;
use crate::tasks::Purpose;
use crate::train;

/// Write the weights of a run alone, for PyTorch
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    weights: WeightsArgs,
    /// File to write
    #[arg(value_name = "OUT.safetensors")]
    out: PathBuf,
}

/// Weights of a run alone, under their PyTorch names.
pub(super) fn run(host: &Host, args: ExportArgs) -> Result<()> {
    let ExportArgs { weights: from, out } = args;
    let mut problem = Problem::open(&run_config(&from.run)?, Purpose::Train)?;
    let (plan, _) = problem.record_evaluation(Target::default())?;
    expect_apart(&out, &[], &from.run)?;
    let mut from = weights_of(host, &from)?;
    expect_others(&out, &[&from.path])?;
    problem.use_saved_buffers(from.buffers(problem.buffers())?);
    let weights = from.load(plan.parameters())?;
    train::export_weights(&out, plan.parameters(), &weights, problem.buffers())?;
    let buffers: Vec<&str> = problem.buffers().iter().map(|b| b.name.as_str()).collect();
    let (also, strict) = match &buffers[..] {
        [] => (String::new(), ""),
        names => (format!(", and {}", names.join(", ")), ", strict=False"),
    };
    host.print(&format!(
        "{}: {} weights in {} tensors{also}. In PyTorch: model.load_state_dict(safetensors.torch.load_file(\"{}\"){strict})",
        out.display(),
        plan.parameter_count(),
        plan.parameters().len(),
        out.display()
    ))
}
