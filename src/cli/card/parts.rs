//! The parts of a card, in the order of their worth, and how their items are measured.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use super::children::{Children, Found, Missing};
use super::schedule::Part;
use crate::error::{Error, Result};
use crate::files;
use crate::gpu::CARD;
use crate::harness::FAMILIES;
use crate::problem::Problem;
use crate::registry::Config;
use crate::tasks::Purpose;

/// Measures an item before a moment.
pub(super) type Job = Box<dyn Fn(&Children, Instant) -> Found>;

/// Cases of a family that are checked before any family is checked with all of its cases.
const PASSES: [usize; 2] = [2, 20];

/// Sizes of models whose f64 tape fits the memory of any machine, for those keys that a run has.
const SMALL: [(&str, &[(&str, u32)]); 2] = [
    ("data", &[("dim", 24)]),
    ("model", &[("hidden", 16), ("width", 64), ("d_model", 32), ("heads", 2), ("feed_forward", 32), ("latents", 3)]),
];

/// A run file with its name.
#[derive(Clone)]
struct Run {
    name: String,
    file: String,
}

/// The run files of a folder, those with the shortest predicted step first: what is slow must not keep the others from being measured.
fn runs_of(folder: &Path) -> Result<Vec<Run>> {
    let entries = std::fs::read_dir(folder).map_err(|e| Error::read(folder, e))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| files::extension(path) == "toml");
    let mut runs: Vec<(f64, PathBuf)> = paths.map(|path| (predicted(&path).unwrap_or(f64::INFINITY), path)).collect();
    if runs.is_empty() {
        return Err(Error::Config(format!("{} holds no run files: name the folder data/runs of the engine", folder.display())));
    }
    runs.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
    let named = |(_, path): (f64, PathBuf)| Some(Run { name: path.file_stem()?.to_str()?.into(), file: path.to_str()?.into() });
    Ok(runs.into_iter().filter_map(named).collect())
}

/// Seconds that a step takes an RX 6600 at least.
fn predicted(run: &Path) -> Result<f64> {
    Ok(Problem::open(&Config::load(run, &[])?, Purpose::Train)?.cost(&CARD)?.seconds)
}

fn item(name: impl Into<String>, job: impl Fn(&Children, Instant) -> Found + 'static) -> (String, Job) {
    (name.into(), Box::new(job))
}

/// An item that is what a command prints.
fn command(name: impl Into<String>, args: &[&str]) -> (String, Job) {
    let args: Vec<String> = args.iter().map(ToString::to_string).collect();
    item(name, move |children, end| children.engine(&args.iter().map(String::as_str).collect::<Vec<_>>(), end))
}

/// The parts for the run files of a folder.
///
/// # Errors
/// `Config` or `MissingInput` when the folder holds no run files.
pub(super) fn parts(folder: &Path) -> Result<Vec<Part<Job>>> {
    let runs = runs_of(folder)?;
    let each = |job: fn(&Run) -> (String, Job)| runs.iter().map(job).collect::<Vec<_>>();
    let some = |names: &[&str], job: fn(&Run) -> (String, Job)| -> Vec<_> {
        names.iter().filter_map(|name| runs.iter().find(|run| run.name == **name)).map(job).collect()
    };
    let part = |name, share, items| Part { name, share, items };
    Ok(vec![
        part("devices", 2.0, vec![command("limits", &["card", "--measure", "limits"])]),
        part("check", 25.0, checks()),
        part("steps", 18.0, each(|run| checked(run.clone()))),
        part("profile", 18.0, each(|run| command(&run.name, &["profile", &run.file, "--rounds", "10"]))),
        part("rates", 7.0, rates()),
        part("tune", 9.0, some(&["integer_sequences_d64", "lvm_mlp", "lvm_lstm_small"], |run| tuned(run.clone()))),
        part("starts", 4.0, some(&["integer_sequences_d64"], |run| starts(run.clone()))),
        part("bits", 5.0, some(&["integer_sequences_d64", "linkage_vae"], |run| bits(run.clone()))),
        part("memory", 7.0, some(&["mechanism_phase1"], |run| command(&run.name, &["card", "--measure", &format!("memory:{}", run.file)]))),
        part("pytorch", 5.0, vec![item("lvm_mlp", pytorch)]),
    ])
}

/// Every family with a few cases, with some, and with all: what is slow must not keep the others from being checked.
fn checks() -> Vec<(String, Job)> {
    let pass = |cases: usize| {
        let families = FAMILIES.iter().filter(move |family| family.pinned > cases);
        families.map(move |f| command(format!("{}, {cases} cases", f.name), &["check", "--family", f.name, "--cases", &cases.to_string()]))
    };
    let all = FAMILIES.iter().map(|f| command(format!("{}, all cases", f.name), &["check", "--family", f.name]));
    PASSES.into_iter().flat_map(pass).chain(all).collect()
}

/// A step of a run at its own sizes against f64, and the gradient of all weights: where that is too large for f64, of a smaller model.
fn checked(run: Run) -> (String, Job) {
    item(run.name, move |children, end| {
        let check = ["check", &run.file, "--cases", "0"];
        let mut result = children.engine(&check, end)?;
        if result["models"][0]["whole_model"].is_null() {
            let set = smaller(Path::new(&run.file)).map_err(|e| Missing::Failed(e.to_string()))?;
            let args: Vec<&str> = check.into_iter().chain(set.iter().flat_map(|one| ["--set", one])).collect();
            result["smaller"] = match children.engine(&args, end) {
                Err(Missing::TooLong) => Value::Null,
                other => other?,
            };
        }
        Ok(result)
    })
}

/// Overrides that make the model of a run small.
fn smaller(run: &Path) -> Result<Vec<String>> {
    let text = Config::load(run, &[])?.to_toml()?;
    let config: toml::Table = text.parse().map_err(|e| Error::Internal(format!("the run's own configuration: {e}")))?;
    let of = |table: &str, keys: &[(&str, u32)]| -> Vec<String> {
        let has = |key: &str| config.get(table).and_then(|table| table.get(key)).is_some();
        keys.iter().filter(|(key, _)| has(key)).map(|(key, value)| format!("{table}.{key}={value}")).collect()
    };
    Ok(SMALL.iter().flat_map(|(table, keys)| of(table, keys)).collect())
}

fn rates() -> Vec<(String, Job)> {
    let product = |n: u32| command(format!("product of {n} × {n}"), &["card", "--measure", &format!("product:{n}")]);
    let copies = command("copy of 64 MiB", &["card", "--measure", "copies"]);
    std::iter::once(copies).chain([256, 512, 1024, 2048, 4096, 8192].map(product)).collect()
}

/// Measures the ways to launch the kernels of a run, in a folder of its own.
fn tuned(run: Run) -> (String, Job) {
    item(run.name, move |children, end| {
        let folder = children.scratch.join("tuned");
        children.engine_with(&["tune", &run.file], &[("ENGINE_CACHE", &folder)], end)
    })
}

/// Trains a few steps of a run into a new folder, with these overrides.
fn trained(children: &Children, run: &Run, steps: &str, set: &[&str], env: &[(&str, &Path)], end: Instant) -> Found<PathBuf> {
    let out = tempfile::tempdir_in(&children.scratch).map_err(|e| Missing::Failed(e.to_string()))?.keep().join("run");
    let path = out.display().to_string();
    let mut args = vec!["train", &run.file, "--steps", steps, "--out", &path];
    args.extend(set.iter().flat_map(|one| ["--set", one]));
    children.engine_with(&args, env, end)?;
    Ok(out)
}

/// Whole process of one training step, with an empty cache of compiled shaders and with the cache that it has left. The variables are
/// those of Mesa and of NVIDIA; other drivers keep theirs.
fn starts(run: Run) -> (String, Job) {
    item(run.name.clone(), move |children, end| {
        let cache = tempfile::tempdir_in(&children.scratch).map_err(|e| Missing::Failed(e.to_string()))?;
        let env = ["MESA_SHADER_CACHE_DIR", "__GL_SHADER_DISK_CACHE_PATH"].map(|name| (name, cache.path()));
        let seconds = || {
            let started = Instant::now();
            trained(children, &run, "1", &["validation.sequences=100"], &env, end)?;
            Ok(started.elapsed().as_secs_f64())
        };
        Ok(json!({ "cold_seconds": seconds()?, "warm_seconds": seconds()? }))
    })
}

/// Trains a run twice, and compares the bits of the weights.
fn bits(run: Run) -> (String, Job) {
    item(run.name.clone(), move |children, end| {
        let failed = |e: std::io::Error| Missing::Failed(e.to_string());
        let linkages = children.scratch.join("linkages.npz").display().to_string();
        let data = format!("data.file={linkages}");
        let set: &[&str] = if run.name.starts_with("linkage") {
            let mut made = Command::new(&children.program);
            children.result(made.args(["data", "linkages", "--count", "400", "--json", "--out", &linkages]), end)?;
            &[&data]
        } else {
            &["validation.sequences=100"]
        };
        let weights = || {
            let folder = trained(children, &run, "20", set, &[], end)?;
            Ok(crc32c::crc32c(&std::fs::read(folder.join("model.safetensors")).map_err(failed)?))
        };
        let (first, second) = (weights()?, weights()?);
        Ok(json!({ "steps": 20, "first": format!("{first:08x}"), "second": format!("{second:08x}"), "same": first == second }))
    })
}

fn pytorch(children: &Children, end: Instant) -> Found {
    let mut python = Command::new("python3");
    match children.result(python.args(["-c", include_str!("step.py")]), end) {
        Err(Missing::Failed(why)) => Ok(json!({ "absent": why })),
        other => other,
    }
}
