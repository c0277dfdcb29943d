//! `engine export`: a trained model for other programs, and a training run for a browser.

use std::any::Any;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::args::{KeyValue, RunFolderArgs, expect_apart, expect_others, weights_of};
use crate::error::{Error, Result, argument};
use crate::export::{self, Exported, WebPrediction, WebRun};
use crate::files;
use crate::gpu::Target;
use crate::host::Host;
use crate::metrics::bytes;
use crate::models::HuggingFace;
use crate::problem::Problem;
use crate::registry::Config;
use crate::tasks::{Purpose, TextConfig};
use crate::train::{self, Weights};

/// Write a trained model for other programs: weights alone, an ONNX file, or a torch module; or a training run for a browser
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// Run folder, unless --run names it, and the file to write: OUT.safetensors has the weights, OUT.onnx the model as ONNX, OUT.py the
    /// model as a torch module with its weights beside it in OUT.safetensors; of a language model, OUT without an ending is a folder for
    /// transformers
    #[arg(value_name = "DIR OUT", num_args = 1..=2, required_unless_present_all = ["web", "run"])]
    paths: Vec<PathBuf>,
    /// Run folder
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Weights: the best so far, those of the newest checkpoint, or a file of them
    #[arg(long, value_name = "best|last|FILE", default_value = "best")]
    checkpoint: String,
    /// Store the weights of an ONNX file as 16-bit floats; it computes with 32 bits
    #[arg(long)]
    f16: bool,
    /// Give an .onnx file of a model of tokens the keys and values of past positions as inputs and outputs, to continue sequences with
    #[arg(long, conflicts_with_all = ["part", "web"])]
    decode: bool,
    /// Part of an autoencoder, for .onnx and .py files; without it the whole
    #[arg(long)]
    part: Option<Part>,
    /// Write into a new folder a page on which a browser trains: RUN.toml from its initial weights, or a run folder from its weights
    #[arg(long, value_name = "DIR", conflicts_with_all = ["f16", "part"])]
    web: Option<PathBuf>,
    /// Write a page on which the trained model of a run folder answers, instead of one on which it trains
    #[arg(long, requires = "web", conflicts_with_all = ["steps", "set"])]
    predict: bool,
    /// Run folder of the autoencoder whose latents the mechanisms of --predict have: its decoder draws the curve
    #[arg(long, value_name = "DIR", requires = "predict")]
    autoencoder: Option<PathBuf>,
    /// Steps that the page of --web has
    #[arg(long, value_name = "N", default_value_t = 1000, requires = "web")]
    steps: u64,
    /// Override a key of the RUN.toml of --web, as in --set train.batch=64 (repeatable)
    #[arg(long = "set", value_name = "TABLE.KEY=VALUE", value_parser = KeyValue, hide_possible_values = true, requires = "web")]
    set: Vec<String>,
}

/// Parts of an autoencoder.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Part {
    /// From images to latents
    Encoder,
    /// From latents to images
    Decoder,
}

impl From<Part> for export::Part {
    fn from(part: Part) -> Self {
        match part {
            Part::Encoder => export::Part::Encoder,
            Part::Decoder => export::Part::Decoder,
        }
    }
}

/// Kinds of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Safetensors,
    Onnx,
    Torch,
}

impl Format {
    /// The format that the ending of a name says.
    fn of(path: &Path) -> Result<Format> {
        let formats = ".safetensors has the weights alone, .onnx the model for ONNX, .py a torch module with its weights beside it";
        let refused = |why: String| Err(Error::Config(format!("{}: {why}. The ending says what is written: {formats}", path.display())));
        match files::extension(path).as_str() {
            "safetensors" => Ok(Format::Safetensors),
            "onnx" => Ok(Format::Onnx),
            "py" => Ok(Format::Torch),
            "" => refused("a name without an ending".into()),
            "pt" | "pth" | "bin" | "ckpt" | "pkl" => refused(
                "pickles of PyTorch are not written, and PyTorch reads .safetensors as well: safetensors.torch.load_file(\"…\")".into(),
            ),
            other => refused(format!(".{other} files are not written")),
        }
    }
}

/// Fails for a file of a run, and for a torch module where it or the weights beside it are there already: somebody may have changed the
/// module, and the weights may be those of another file.
fn expect_new(out: &Path, beside: &Path, format: Format) -> Result<()> {
    let holds_a_run = |folder: &&Path| {
        folder.join("config.toml").is_file() && (folder.join(train::BEAT).is_file() || folder.join("checkpoints").is_dir())
    };
    let place = std::path::absolute(out).unwrap_or(out.into());
    if let Some(other) = place.ancestors().skip(1).find(holds_a_run)
        && (place.exists() || place.parent() != Some(other))
    {
        let what = format!("{} is a file of the run in {}: name a file elsewhere", out.display(), other.display());
        return Err(Error::CannotCreate(what.into()));
    }
    match [out, beside].into_iter().find(|path| format == Format::Torch && path.symlink_metadata().is_ok()) {
        Some(there) => {
            let why = "a torch module is written beside its weights, and replaces neither: remove it, or take another name";
            Err(Error::CannotCreate(format!("{} is there already: {why}", there.display()).into()))
        }
        None => Ok(()),
    }
}

/// Writes the weights of a run, without anything else, under their PyTorch names, or its model.
pub(super) fn run(host: &Host, args: ExportArgs) -> Result<()> {
    if let Some(folder) = &args.web {
        return write_web(host, folder, &args);
    }
    let ExportArgs { paths, run, checkpoint, f16, decode, part, .. } = args;
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
    if files::extension(&out).is_empty() && !f16 && !decode && part.is_none() {
        let config = Config::of_run(from.folder()?)?;
        let problem = Problem::open(&config, Purpose::Train)?;
        if let Some(of) = problem.hugging_face() {
            return folder(host, &config, &problem, &of, &from, &out);
        }
    }
    let format = Format::of(&out)?;
    if f16 && format != Format::Onnx {
        return Err(Error::Config("--f16 is for .onnx files: a .safetensors file has 32-bit floats".into()));
    }
    if decode && format != Format::Onnx {
        return Err(Error::Config("--decode is for .onnx files".into()));
    }
    if part.is_some() && format == Format::Safetensors {
        return Err(Error::Config("--part is for .onnx and .py files: a .safetensors file has all weights".into()));
    }
    let config = Config::of_run(from.folder()?)?;
    expect_apart(&out, &[], from.folder()?)?;
    let beside = out.with_extension("safetensors");
    if format == Format::Torch {
        expect_apart(&beside, &[], from.folder()?)?;
    }
    expect_new(&out, &beside, format)?;
    let mut weights = weights_of(host, &from)?;
    expect_others(&out, &[&weights.path])?;
    match format {
        Format::Safetensors => write_weights(host, &config, &mut weights, &out),
        Format::Onnx => {
            let model = match decode {
                true => Exported::decoding(&config, &mut weights)?,
                false => Exported::of(&config, &mut weights, part.map(Into::into))?,
            };
            model.write_onnx(&out, f16)?;
            host.print(&format!(
                "{}: {} numbers, {}. In Python: onnxruntime.InferenceSession(\"{0}\")",
                out.display(),
                model.numbers_of_weights(),
                model.signature()
            ))
        }
        Format::Torch => {
            expect_others(&beside, &[&weights.path])?;
            let model = Exported::of(&config, &mut weights, part.map(Into::into))?;
            model.write_torch(&out, &beside)?;
            host.print(&format!(
                "{}, with {}: {} numbers, {}",
                out.display(),
                beside.display(),
                model.numbers_of_weights(),
                model.signature()
            ))
        }
    }
}

/// Writes the page of a run for browsers: of a run file, or of a run folder with its weights.
fn write_web(host: &Host, folder: &Path, args: &ExportArgs) -> Result<()> {
    let run = match (&args.paths[..], &args.run) {
        ([run], None) | ([], Some(run)) => run,
        _ => return Err(Error::Config("name one run, as in `engine export RUN.toml --web DIR`: --web has its own folder".into())),
    };
    files::expect_new_folder(folder)?;
    [Some(run), args.autoencoder.as_ref()].into_iter().flatten().try_for_each(|run| expect_outside(folder, run))?;
    let name = run.file_stem().unwrap_or_default().to_string_lossy();
    let (config, mut weights) = if run.is_dir() {
        if !args.set.is_empty() {
            return Err(Error::Config(
                "--set is for a RUN.toml: a run folder has the configuration that its weights were trained with".into(),
            ));
        }
        let from = RunFolderArgs::named(run.clone(), args.checkpoint.clone());
        (Config::of_run(from.folder()?)?, Some(weights_of(host, &from)?))
    } else {
        (Config::load(run, &args.set)?, None)
    };
    let (what, size) = if args.predict {
        let weights = weights.as_mut().ok_or_else(|| {
            Error::Config(
                "--predict is for a run folder, as in `engine export runs/NAME --web DIR --predict`: a RUN.toml has learnt nothing".into(),
            )
        })?;
        let mut page = WebPrediction::of(&config, &name, weights, || host.open(None))?;
        if let Some(autoencoder) = &args.autoencoder {
            let from = RunFolderArgs::named(autoencoder.clone(), "best".into());
            let config = Config::of_run(from.folder()?)?;
            let name = autoencoder.file_name().unwrap_or_default().to_string_lossy();
            page = page.with_curve(WebPrediction::of(&config, &name, &mut weights_of(host, &from)?, || host.open(None))?)?;
        }
        page.write(folder)?;
        ("predictions".to_string(), page.files().map(|(_, bytes)| bytes.len()).sum::<usize>())
    } else {
        let page = WebRun::of(&config, &name, weights.as_mut(), args.steps, || host.open(None))?;
        page.write(folder)?;
        (format!("{} steps", page.steps()), page.files().map(|(_, bytes)| bytes.len()).sum())
    };
    host.print(&format!(
        "{}: {what}, {}. Serve it, as with `python3 -m http.server -d {}`, and open http://localhost:8000",
        folder.display(),
        bytes(size as u64),
        argument(folder)
    ))
}

/// Fails if a folder to be made would lie in a run folder, whose files it could be taken for.
fn expect_outside(folder: &Path, run: &Path) -> Result<()> {
    let place = |path: &Path| std::fs::canonicalize(path).ok();
    let above = folder.ancestors().skip(1).find_map(|path| place(if path.as_os_str().is_empty() { Path::new(".") } else { path }));
    match (above, place(run).filter(|_| run.is_dir())) {
        (Some(above), Some(run)) if above.starts_with(&run) => {
            Err(Error::CannotCreate(format!("{} lies in the run's own folder: name a folder elsewhere", folder.display()).into()))
        }
        _ => Ok(()),
    }
}

fn write_weights(host: &Host, config: &Config, weights: &mut Weights, out: &Path) -> Result<()> {
    let mut problem = Problem::open(config, Purpose::Train)?;
    let (plan, _) = problem.record_evaluation(Target::default())?;
    problem.use_saved_buffers(weights.buffers(problem.buffers())?);
    let values = weights.load(plan.parameters())?;
    train::export_weights(out, plan.parameters(), &values, problem.buffers(), &weights.about(&problem.toml))?;
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
    files::expect_new_folder(out)?;
    let first = if out.is_dir() { out.join("config.json") } else { out.to_path_buf() };
    expect_apart(&first, &[], from.folder()?)?;
    let (plan, _) = problem.record_evaluation(Target::default())?;
    let mut weights = weights_of(host, from)?;
    let tokenizer = match (config.data.kind() as &dyn Any).downcast_ref::<TextConfig>() {
        Some(text) => text.trained_tokenizer(&weights.buffers(problem.buffers())?)?,
        None => None,
    };
    let mut parts: Vec<(&str, Vec<u8>)> = train::folder_of(of, plan.parameters(), &weights.load(plan.parameters())?)?.into();
    if let Some(tokenizer) = &tokenizer {
        let about = serde_json::json!({ "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": decoded(problem)? });
        parts.push(("tokenizer.json", tokenizer.json().into_bytes()));
        parts.push(("tokenizer_config.json", about.to_string().into_bytes()));
    }
    std::fs::create_dir_all(out).map_err(|e| Error::create(out, e))?;
    parts.iter().try_for_each(|(name, bytes)| files::write(&out.join(name), bytes))?;
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
