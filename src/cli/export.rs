//! `engine export`: the weights of a run alone, for PyTorch.

use std::path::PathBuf;

use clap::Args;

use super::args::{RunFolderArgs, expect_apart, expect_others, weights_of};
use crate::error::{Error, Result};
use crate::gpu::Target;
use crate::host::Host;
use crate::problem::Problem;
use crate::registry::Config;
use crate::tasks::Purpose;
use crate::train;

/// Write the weights of a run alone, for PyTorch
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// Run folder, unless --run names it, and the file to write
    #[arg(value_name = "DIR OUT.safetensors", num_args = 1..=2, required = true)]
    paths: Vec<PathBuf>,
    /// Run folder
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Weights: the best so far, those of the newest checkpoint, or a file of them
    #[arg(long, value_name = "best|last|FILE", default_value = "best")]
    checkpoint: String,
}

/// Writes the weights of a run, without anything else, under their PyTorch names.
pub(super) fn run(host: &Host, args: ExportArgs) -> Result<()> {
    let ExportArgs { paths, run, checkpoint } = args;
    let (run, out) = match (&paths[..], run) {
        ([folder, out], None) => (folder.clone(), out.clone()),
        ([out], Some(run)) => (run, out.clone()),
        _ => {
            return Err(Error::Config(
                "name the run folder and the file to write, as in `engine export runs/lvm_mlp OUT.safetensors`".into(),
            ));
        }
    };
    let from = RunFolderArgs::named(run, checkpoint);
    let mut problem = Problem::open(&Config::of_run(from.folder()?)?, Purpose::Train)?;
    let (plan, _) = problem.record_evaluation(Target::default())?;
    expect_apart(&out, &[], from.folder()?)?;
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
