//! `engine export`: the weights of a run alone, for PyTorch.

use std::any::Any;
use std::path::{Path, PathBuf};

use clap::Args;

use super::args::{RunFolderArgs, expect_apart, expect_others, weights_of};
use crate::error::{Error, Result};
use crate::gpu::Target;
use crate::host::Host;
use crate::models::HuggingFace;
use crate::problem::Problem;
use crate::registry::Config;
use crate::tasks::{Purpose, TextConfig};
use crate::train;

/// Write the weights of a run alone, for PyTorch
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// Run folder, unless --run names it, and the file to write; of a gpt, a name without an ending is a folder for transformers
    #[arg(value_name = "DIR OUT", num_args = 1..=2, required = true)]
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
    let config = Config::of_run(from.folder()?)?;
    let mut problem = Problem::open(&config, Purpose::Train)?;
    if let Some(of) = problem.hugging_face().filter(|_| out.extension().is_none()) {
        return folder(host, &config, &problem, &of, &from, &out);
    }
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

/// Writes a folder that transformers opens: configuration, weights, and the tokenizer where there is one.
fn folder(host: &Host, config: &Config, problem: &Problem, of: &HuggingFace, from: &RunFolderArgs, out: &Path) -> Result<()> {
    let (plan, _) = problem.record_evaluation(Target::default())?;
    let run = from.folder()?;
    let mut weights = weights_of(host, from)?;
    let tokenizer = match (config.data.kind() as &dyn Any).downcast_ref::<TextConfig>() {
        Some(text) => text.trained_tokenizer(&weights.buffers(problem.buffers())?)?,
        None => None,
    };
    let mut files: Vec<(&str, Vec<u8>)> = train::folder_of(of, plan.parameters(), &weights.load(plan.parameters())?)?.into();
    if let Some(tokenizer) = &tokenizer {
        let about = serde_json::json!({ "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": decoded(problem)? });
        files.push(("tokenizer.json", tokenizer.json().into_bytes()));
        files.push(("tokenizer_config.json", about.to_string().into_bytes()));
    }
    if out.is_dir() {
        files.iter().try_for_each(|(name, _)| expect_apart(&out.join(name), &[], run))?;
    } else {
        expect_apart(out, &[], run)?;
        std::fs::create_dir(out).map_err(|e| Error::create(out, e))?;
    }
    files.iter().try_for_each(|(name, bytes)| crate::files::write(&out.join(name), bytes))?;
    let also = if tokenizer.is_some() { ", and its tokenizer" } else { "" };
    host.print(&format!(
        "{}: {} weights{also}. In Python: transformers.AutoModelForCausalLM.from_pretrained(\"{}\")",
        out.display(),
        plan.parameter_count(),
        out.display()
    ))
}

/// Number of positions that the model sees.
fn decoded(problem: &Problem) -> Result<usize> {
    let [context] = problem.source().fields().shape("engine export", "tokens")?;
    Ok(context)
}
