//! Checkpoints and weights of a run: what is kept, when it is valid, and which run it is of.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::base;
use super::pretrained;
use super::rules::Watch;
use super::tensor_file::{Base, Best, FORMAT, Header, TensorFile, buffer_views, views, write_exported, write_tensors};
use crate::datasets::fingerprint;
use crate::error::{Error, Result};
use crate::gpu::Tuning;
use crate::models::HuggingFace;
use crate::optim::Plateau;
use crate::plan::{Buffer, Init, Parameter};

/// State of a run besides its tensors, as checkpoints keep it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Number of updates done. With the seeds of the configuration it also determines the position in the data and all random numbers.
    pub step: u64,
    /// Best validation so far.
    pub best: Option<Best>,
    /// Reference value of patience: the newest that was better than the one before by `validation.min_delta`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub improved: Option<f64>,
    /// Number of validations since then that count for patience.
    pub waiting: u64,
    /// Number of updates skipped in a row because loss or gradient was not finite.
    pub skipped_in_a_row: u64,
    /// Number of all skipped updates.
    pub skipped: u64,
    /// State of the learning-rate schedule.
    pub plateau: Plateau,
    /// State of the loss scale, in a run with 16 bits: true if the last step was skipped, and the bits of the scale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<(bool, u32)>,
    /// Sums of the metrics over the epoch so far, weighted by rows.
    #[serde(with = "super::floats")]
    pub epoch_sums: Vec<f64>,
    /// Number of rows in these sums.
    pub epoch_rows: f64,
    /// Metrics of the newest validation in the epoch so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "super::floats")]
    pub validated: Vec<(String, f64)>,
    /// State of each abort rule.
    pub watches: Vec<Watch>,
    /// Values of the metrics that are expected after an epoch, once it has come.
    #[serde(with = "super::floats")]
    pub expectations: Vec<Option<f64>>,
    /// Warnings so far, for the report.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
    /// True if a rule has stopped the run.
    pub aborted: bool,
    /// Reason for which the run has ended by itself, if it has.
    pub finished: Option<String>,
    /// Training time so far in seconds.
    pub seconds: f64,
}

/// A warning during the run, which the report repeats.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Warning {
    /// Short name of the problem, for a table.
    pub issue: String,
    /// Sentence that describes the problem and what to do.
    pub text: String,
}

/// Origin of weights: everything but the device that determines the weights of a run. Weights of another origin belong to another run.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Configuration of the run as TOML.
    pub config: String,
    /// Fingerprints of the data files, by their keys in the configuration.
    pub data: BTreeMap<String, String>,
    /// The frozen weights beneath the adapters of a run that trains such.
    pub base: Option<Base>,
    /// Function that parses a configuration of this kind and gives it with every default written out, so that keys which an earlier version
    /// did not write have their defaults.
    pub canonical: Option<fn(&str) -> Result<String>>,
}

impl Origin {
    /// Parses a configuration and gives it with its defaults; fails if it is none of this kind.
    pub(super) fn read_configuration(&self, text: &str) -> Result<String> {
        self.canonical.map_or_else(|| Ok(text.to_string()), |canonical| canonical(text))
    }

    /// Differences to another origin, one line each: the key, its value there and its value here.
    pub fn differences(&self, there: &Origin) -> Vec<String> {
        let mut lines = self.configuration_differences(&there.config);
        let [then, now] = [&there.base, &self.base].map(|base| base.as_ref().map_or("none", |base| base.checksum.as_str()));
        if then != now {
            lines.push(format!("frozen weights: {then} then, {now} now"));
        }
        for key in self.data.keys().chain(there.data.keys().filter(|k| !self.data.contains_key(*k))) {
            let of = |data: &BTreeMap<String, String>| data.get(key).map_or("none".to_string(), Clone::clone);
            if self.data.get(key) != there.data.get(key) {
                lines.push(format!("contents of {key}: {} then, {} now", of(&there.data), of(&self.data)));
            }
        }
        lines
    }

    /// Number of epochs in a configuration, if it can be read.
    pub(super) fn epochs(text: &str) -> Option<u64> {
        epochs_of(&toml::Value::Table(text.parse().ok()?))?.try_into().ok()
    }

    /// Differences to another configuration, given as TOML. A larger number of epochs in this one is no difference.
    pub(super) fn configuration_differences(&self, there: &str) -> Vec<String> {
        differences(there, &self.config, self.canonical, ["then", "now"], true)
    }

    /// Differences to another configuration, given as TOML, including the epochs; `words` are the names of the other and this one.
    pub fn all_differences(&self, there: &str, words: [&str; 2]) -> Vec<String> {
        differences(there, &self.config, self.canonical, words, false)
    }
}

/// Value of `train.epochs` in a configuration.
fn epochs_of(config: &toml::Value) -> Option<i64> {
    config.get("train")?.get("epochs")?.as_integer()
}

/// A configuration that may leave this machine: of absolute paths the names of the files alone.
fn without_folders(config: &str) -> String {
    fn name_alone(value: &mut toml::Value) {
        match value {
            toml::Value::String(text) if Path::new(text.as_str()).is_absolute() => {
                if let Some(name) = Path::new(text.as_str()).file_name() {
                    *text = name.to_string_lossy().into();
                }
            }
            toml::Value::Array(list) => list.iter_mut().for_each(name_alone),
            toml::Value::Table(table) => table.iter_mut().for_each(|(_, value)| name_alone(value)),
            _ => {}
        }
    }
    let Ok(mut table) = config.parse::<toml::Table>() else { return config.into() };
    table.iter_mut().for_each(|(_, value)| name_alone(value));
    table.to_string()
}

/// Keys whose values differ in two configurations, given as TOML; if `longer`, more epochs in the second are no difference.
fn differences(then: &str, now: &str, canonical: Option<fn(&str) -> Result<String>>, words: [&str; 2], longer: bool) -> Vec<String> {
    fn walk(prefix: &str, then: Option<&toml::Value>, now: Option<&toml::Value>, words: [&str; 2], lines: &mut Vec<String>) {
        if let (Some(toml::Value::Table(a)), Some(toml::Value::Table(b))) = (then, now) {
            let mut keys: Vec<&String> = a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))).collect();
            keys.sort();
            let name = |key: &String| if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            keys.into_iter().for_each(|key| walk(&name(key), a.get(key), b.get(key), words, lines));
        } else if then != now {
            let show = |v: Option<&toml::Value>| v.map_or("not set".to_string(), ToString::to_string);
            lines.push(format!("{prefix}: {} {}, {} {}", show(then), words[0], show(now), words[1]));
        }
    }
    let parse = |text: &str| {
        let written_out = canonical.and_then(|f| f(text).ok()).unwrap_or_else(|| text.to_string());
        written_out.parse::<toml::Table>().map(toml::Value::Table)
    };
    let mut lines = Vec::new();
    match (parse(then), parse(now)) {
        (Ok(then), Ok(mut now)) => {
            let (before, after) = (epochs_of(&then), epochs_of(&now));
            if let Some(before) = before.filter(|_| longer && before < after) {
                now["train"]["epochs"] = before.into();
            }
            walk("", Some(&then), Some(&now), words, &mut lines);
        }
        (Err(e), _) | (_, Err(e)) => lines.push(format!("the configuration cannot be read: {}", e.message())),
    }
    lines
}

/// A checkpoint: weights, optimiser moments and progress.
#[derive(Debug, Clone, Default)]
pub struct Checkpoint {
    /// Weights as a flat buffer.
    pub weights: Vec<f32>,
    /// First moment of the optimiser, as a flat buffer.
    pub m: Vec<f32>,
    /// Second moment of the optimiser, as a flat buffer.
    pub v: Vec<f32>,
    /// State of the run besides its tensors.
    pub progress: Progress,
    /// Values that are kept with the weights and not trained; a resumed run reads them with `Weights::buffers`.
    pub buffers: Vec<Buffer>,
    /// Origin, which identifies the run.
    pub origin: Origin,
    /// Device and kernels in use; a resumed run has the same bits only if these are the same.
    pub variants: String,
    /// Measured fastest ways to launch kernels, which a resumed run keeps.
    pub tuned: Tuning,
}

/// Checkpoint from which a run resumes.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// File of the checkpoint, still open: buffers whose shapes are known later are read from it.
    pub(super) file: Option<Weights>,
    pub(super) path: PathBuf,
    pub(super) checkpoint: Checkpoint,
    /// Errors of newer checkpoints that could not be used.
    pub(super) rejected: Vec<String>,
}

/// An open file of weights. Reading continues from the same file even if the run that writes such files replaces or removes it.
#[derive(Debug)]
pub struct Weights {
    /// Path under which the file was found.
    pub path: PathBuf,
    file: TensorFile,
    /// The frozen weights of a file of adapters.
    base: Option<TensorFile>,
    /// Weights that the run itself has kept, beside a file of others.
    kept: Option<TensorFile>,
    /// How a folder of Hugging Face has the weights, if that is what was opened.
    folder: Option<HuggingFace>,
}

impl Weights {
    /// Opens a safetensors file: one of this program, or a converted `state_dict`. With one of adapters the frozen weights of its run are
    /// opened, which lie beside it or in the folder above.
    ///
    /// # Errors
    /// `MissingInput` without the files, `Data` when they are damaged.
    pub fn open(path: &Path) -> Result<Weights> {
        let file = TensorFile::open(path)?;
        let base = file.header.base.as_ref().map(|base| base::open(path, base)).transpose()?;
        Ok(Weights { path: path.into(), file, base, kept: None, folder: None })
    }

    /// Opens a file as `open` does, or a folder with a config.json of Hugging Face, which must be that of this model.
    ///
    /// # Errors
    /// As `open`; `Data` for a folder of another model, with every key that differs.
    pub fn open_for(path: &Path, folder: Option<HuggingFace>) -> Result<Weights> {
        if !path.is_dir() {
            return Weights::open(path);
        }
        Ok(Weights { path: path.into(), file: pretrained::open(path, folder.as_ref())?, base: None, kept: None, folder })
    }

    /// Opens weights of a run: `best`, `last`, or a path. What is kept beside the weights, such as the normalisation of the data, comes
    /// from the run where a file of other weights does not have it.
    ///
    /// # Errors
    /// `MissingInput` when there is no such file, with a list of those that exist; `Data` when it is damaged.
    pub fn of_run(run: &Path, which: &str) -> Result<Weights> {
        let folder = run.join("checkpoints");
        loop {
            // `model.safetensors` is what is left of a finished run whose checkpoints were removed.
            let best = [folder.join("best.safetensors"), run.join("model.safetensors")].into_iter().find(|file| file.exists());
            let last = Checkpoint::list(&folder)?.pop();
            let found = match which {
                "best" => best.clone(),
                "last" => last.clone(),
                file => Some(PathBuf::from(file)).filter(|file| file.exists()),
            };
            let Some(path) = found else {
                let there: Vec<String> = [("best", best), ("last", last)]
                    .into_iter()
                    .filter_map(|(name, file)| Some(format!("--checkpoint {name} ({})", file?.display())))
                    .collect();
                let there =
                    if there.is_empty() { "no weights yet: a run saves the first after an epoch".into() } else { there.join(" and ") };
                return Err(Error::MissingInput(format!("{}: no weights `{which}`. There is {there}", run.display()).into()));
            };
            match Weights::open(&path) {
                // The run has removed it since: there is a newer one.
                Err(Error::MissingInput(_)) if which == "last" && !path.exists() => {}
                opened if ["best", "last"].contains(&which) => return opened,
                opened => {
                    let kept = best.or(last).map(|path| TensorFile::open(&path)).transpose()?;
                    return Ok(Weights { kept, ..opened? });
                }
            }
        }
    }

    /// Number of updates before these weights, if the file says it.
    pub fn step(&self) -> Option<u64> {
        self.file.header.step.or_else(|| serde_json::from_str(&self.file.header.progress).map(|progress: Progress| progress.step).ok())
    }

    /// What an exported file says about these weights, by key: kind of the model, configuration, number of updates, metrics of the
    /// validation that chose them, checksums of the data files, and version of the engine. What is not known of weights from elsewhere is
    /// left out.
    pub fn about(&self, config: &str) -> Vec<(String, String)> {
        let Header { best, data, .. } = &self.file.header;
        let kind = toml::from_str(config).ok().and_then(|run: toml::Table| Some(run.get("model")?.get("kind")?.as_str()?.to_string()));
        let metrics = best.as_ref().map(|best| {
            let number =
                |value: f64| serde_json::Number::from_f64(value).map_or_else(|| value.to_string().into(), serde_json::Value::Number);
            best.metrics.iter().map(|(name, value)| (name.clone(), number(*value))).collect::<serde_json::Map<_, _>>()
        });
        let known = [
            ("engine_version", Some(env!("CARGO_PKG_VERSION").to_string())),
            ("kind", kind),
            ("step", self.step().map(|step| step.to_string())),
            ("metrics", metrics.map(|metrics| serde_json::Value::Object(metrics).to_string())),
            ("data", Some(data).filter(|data| !data.is_empty()).map(|data| serde_json::json!(data).to_string())),
            ("config", Some(without_folders(config))),
        ];
        known.into_iter().filter_map(|(key, value)| Some((key.to_string(), value?))).collect()
    }

    /// Reads weights by their PyTorch names; tensors may be f32, f64, f16 or bf16. Of a file of adapters these are the frozen weights with
    /// the adapters added: W + scale · B·A, summed in 64 bits.
    ///
    /// # Errors
    /// `Data` when they are damaged or do not fit, every difference listed.
    pub fn load(&mut self, parameters: &[Parameter]) -> Result<Vec<f32>> {
        let adapters = self.file.header.base.as_ref().map_or(vec![], |base| base.adapters.clone());
        match (&self.folder, &mut self.base) {
            (Some(of), _) => pretrained::load(&mut self.file, of, parameters),
            (None, Some(base)) => base::merged(base, &adapters, &mut self.file, parameters),
            (None, None) => self.file.fill(parameters, ""),
        }
    }

    /// Reads the frozen weights of a file of adapters; none of other files.
    ///
    /// # Errors
    /// As `load`.
    pub(super) fn frozen(&mut self, parameters: &[Parameter]) -> Result<Option<Vec<f32>>> {
        self.base.as_mut().map(|base| base.fill(parameters, "")).transpose()
    }

    /// Reads the buffers that the file, or else the run, has under their names; others are left out.
    ///
    /// # Errors
    /// `Data` when one is damaged or its shape differs.
    pub fn buffers(&mut self, buffers: &[Buffer]) -> Result<Vec<Buffer>> {
        let mut found = Vec::new();
        for buffer in buffers {
            let (name, shape) = (buffer.name.clone(), buffer.shape.clone());
            let mut files = [Some(&mut self.file), self.kept.as_mut()].into_iter().flatten();
            let Some(file) = files.find(|file| file.metadata.info(&name).is_some()) else { continue };
            let mut values = file.fill(&[Parameter { name, shape, offset: 0, init: Init::Zeros }], "")?;
            values.truncate(buffer.values.len());
            found.push(Buffer { values, ..buffer.clone() });
        }
        Ok(found)
    }

    /// A note on tensors of a file of other programs that are neither weights of the model nor kept with them, if it has any.
    pub fn unused(&self, parameters: &[Parameter], buffers: &[Buffer]) -> Option<String> {
        if self.file.header.ours() {
            return None;
        }
        let of_folder = |name: &String| self.folder.as_ref().is_some_and(|of| pretrained::knows(of, parameters, name));
        let own = |name: &String| parameters.iter().any(|p| p.name == *name) || buffers.iter().any(|b| b.name == *name);
        let known = |name: &String| own(name) || of_folder(name);
        let (count, names) = self.file.others(known)?;
        Some(format!("WARNING: {count} tensors of {} are not in this model and left aside: {names}", self.path.display()))
    }

    /// Fails if the data files are not those that the weights were trained on, by the fingerprints in the file with the weights; a file
    /// without fingerprints is accepted. Fingerprints in `known` are not computed again.
    ///
    /// # Errors
    /// `Data` with the keys and fingerprints of the files that differ.
    pub fn expect_data(&self, files: &[(&'static str, PathBuf)], known: &mut BTreeMap<PathBuf, String>) -> Result<()> {
        let mut lines = vec![];
        for (key, file) in files {
            if let Some(then) = self.file.header.data.get(*key).filter(|_| file.exists()) {
                let now = match known.get(file) {
                    Some(now) => now.clone(),
                    None => fingerprint(file)?,
                };
                if now != *then {
                    lines.push(format!("contents of {key} {}: {then} then, {now} now", file.display()));
                }
                known.insert(file.clone(), now);
            }
        }
        match lines.is_empty() {
            true => Ok(()),
            false => Err(Error::Data(format!(
                "{} was trained on other data than are there now, whose parts for training and validation are others:\n  {}\nGive the files of then, or \
                 name a file to test on, all of it, with --data",
                self.path.display(),
                lines.join("\n  ")
            ))),
        }
    }
}

/// Reads the best weights of a run, with the validation that chose them and the origin.
///
/// # Errors
/// As `Weights::open` and `Weights::load`, and `Data` for a file without such a validation.
pub(super) fn load_best(path: &Path, parameters: &[Parameter]) -> Result<(Vec<f32>, Best, Origin)> {
    let mut file = TensorFile::open(path)?;
    let weights = file.fill(parameters, "")?;
    let Header { best, config, data, base, .. } = file.header;
    let best = best.ok_or_else(|| Error::Data(format!("{} does not say of which validation it is", path.display())))?;
    Ok((weights, best, Origin { config, data, base, canonical: None }))
}

/// Writes weights and buffers under their PyTorch names, with origin, number of updates and, for best weights, their validation.
///
/// # Errors
/// `Io` when the file cannot be written.
pub fn save_weights(
    path: &Path,
    parameters: &[Parameter],
    weights: &[f32],
    buffers: &[Buffer],
    origin: &Origin,
    step: u64,
    best: Option<&Best>,
) -> Result<()> {
    let Origin { config, data, base, .. } = origin.clone();
    let header = Header { config, data, base, step: Some(step), best: best.cloned(), ..Header::default() };
    write_tensors(path, &[views(parameters, "", weights), buffer_views(buffers)].concat(), header)
}

/// Writes weights and buffers under their PyTorch names, with what the file says about itself (`Weights::about`).
///
/// # Errors
/// `Io` when the file cannot be written.
pub fn export_weights(
    path: &Path,
    parameters: &[Parameter],
    weights: &[f32],
    buffers: &[Buffer],
    about: &[(String, String)],
) -> Result<()> {
    write_exported(path, &[views(parameters, "", weights), buffer_views(buffers)].concat(), about)
}

/// File name of the checkpoint of a step.
pub(super) fn file_of(step: u64) -> PathBuf {
    format!("step-{step:09}.safetensors").into()
}

impl Checkpoint {
    /// Writes the checkpoint of its step into a folder, verifies it by reading it back, then removes all but the newest `keep`.
    ///
    /// # Errors
    /// `Io` when writing fails, `Data` when the weights are not finite.
    pub fn save(&self, folder: &Path, parameters: &[Parameter], keep: usize) -> Result<PathBuf> {
        if let Some(at) = self.weights.iter().position(|w| !w.is_finite()) {
            return Err(Error::Data(format!("weight {at} is not finite: checkpoint of step {} not written", self.progress.step)));
        }
        let path = folder.join(file_of(self.progress.step));
        let mut tensors = views(parameters, "", &self.weights);
        tensors.extend(buffer_views(&self.buffers));
        tensors.extend(views(parameters, "optimizer.m.", &self.m));
        tensors.extend(views(parameters, "optimizer.v.", &self.v));
        let progress = serde_json::to_string(&self.progress).map_err(|e| Error::Internal(format!("progress: {e}")))?;
        let Origin { config, data, base, .. } = self.origin.clone();
        let (step, variants, tuned) = (Some(self.progress.step), self.variants.clone(), self.tuned.clone());
        let header = Header { checkpoint: Some(FORMAT), step, config, data, base, progress, variants, tuned, ..Header::default() };
        write_tensors(&path, &tensors, header)?;
        let again = Self::load(&path, parameters)?;
        if again.weights != self.weights {
            return Err(Error::Io(format!("{} reads back differently from what was written: check the disk", path.display()).into()));
        }
        let found = Self::list(folder)?;
        for old in &found[..found.len().saturating_sub(keep)] {
            fs::remove_file(old).map_err(|e| Error::write(old, e))?;
        }
        Ok(path)
    }

    /// Checkpoints of a folder, oldest first.
    ///
    /// # Errors
    /// `Io` when the folder cannot be read.
    pub fn list(folder: &Path) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(found),
            Err(e) => return Err(Error::read(folder, e)),
        };
        for entry in entries {
            let path = entry.map_err(|e| Error::read(folder, e))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("step-") && name.ends_with(".safetensors") && path.is_file() {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    /// Reads and verifies a checkpoint.
    ///
    /// # Errors
    /// `Data` when it is damaged, of another model or of a newer format.
    pub fn load(path: &Path, parameters: &[Parameter]) -> Result<Checkpoint> {
        Checkpoint::read(&mut Weights::open(path)?, parameters)
    }

    fn read(Weights { path, file, .. }: &mut Weights, parameters: &[Parameter]) -> Result<Checkpoint> {
        let damaged = |what: &str| Error::Data(format!("{} is no usable checkpoint: {what}", path.display()));
        if file.header.checkpoint.is_none() {
            return Err(damaged("it holds weights only"));
        }
        let progress: Progress = serde_json::from_str(&file.header.progress).map_err(|e| damaged(&format!("its progress: {e}")))?;
        if path.file_name() != file_of(progress.step).file_name() {
            return Err(damaged(&format!("it is that of step {}, under another name", progress.step)));
        }
        let (weights, m, v) = (file.fill(parameters, "")?, file.fill(parameters, "optimizer.m.")?, file.fill(parameters, "optimizer.v.")?);
        let Header { config, data, base, variants, tuned, .. } = file.header.clone();
        let origin = Origin { config, data, base, canonical: None };
        Ok(Checkpoint { weights, m, v, buffers: vec![], progress, origin, variants, tuned })
    }

    /// The newest valid checkpoint of a folder, and what is wrong with newer ones.
    ///
    /// # Errors
    /// `Data` when there are checkpoints and none is valid.
    pub(super) fn newest(folder: &Path, parameters: &[Parameter]) -> Result<Option<Found>> {
        let mut rejected = Vec::new();
        for path in Self::list(folder)?.into_iter().rev() {
            let opened = Weights::open(&path).and_then(|mut file| Ok((Self::read(&mut file, parameters)?, Some(file))));
            match opened {
                Ok((checkpoint, file)) => return Ok(Some(Found { file, path, checkpoint, rejected })),
                Err(error) => rejected.push(error.to_string()),
            }
        }
        if rejected.is_empty() {
            return Ok(None);
        }
        Err(Error::Data(format!("no checkpoint in {} can be used:\n{}", folder.display(), rejected.join("\n"))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Init;

    fn parameters() -> Vec<Parameter> {
        let p = |name: &str, shape: &[usize], offset| Parameter { name: name.into(), shape: shape.into(), offset, init: Init::Zeros };
        vec![p("a.weight", &[3, 2], 0), p("a.bias", &[3], 64)]
    }

    fn checkpoint(step: u64) -> Checkpoint {
        let mut flat = vec![0.0; 128];
        (0..6).chain(64..67).for_each(|i| flat[i] = i as f32 + step as f32 * 0.5);
        let best = Some(Best { value: 1.5, ..Best::default() });
        let progress = Progress { step, best, ..Progress::default() };
        Checkpoint {
            weights: flat.clone(),
            m: flat.clone(),
            v: flat,
            progress,
            buffers: vec![],
            origin: Origin { config: "x = 1".into(), ..Origin::default() },
            variants: "v".into(),
            tuned: Tuning(BTreeMap::from([("k".into(), "WG=64".into())])),
        }
    }

    #[test]
    fn the_newest_valid_checkpoint_is_found_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        for step in 1..=5 {
            checkpoint(step).save(folder.path(), &parameters(), 3).unwrap();
        }
        let files = Checkpoint::list(folder.path()).unwrap();
        assert_eq!(files.len(), 3);
        // Every way of being damaged is seen, and the one before is taken.
        let good = fs::read(&files[2]).unwrap();
        for (what, bytes) in [
            ("truncated", good[..good.len() - 5].to_vec()),
            ("empty", vec![]),
            ("a flipped bit", {
                let mut bytes = good.clone();
                let last = bytes.len() - 3;
                bytes[last] ^= 1;
                bytes
            }),
            ("lying header", {
                let mut bytes = good.clone();
                bytes[..8].fill(0xff);
                bytes
            }),
        ] {
            fs::write(&files[2], bytes).unwrap();
            let found = Checkpoint::newest(folder.path(), &parameters()).unwrap().unwrap();
            assert_eq!((found.checkpoint.progress.step, found.rejected.len()), (4, 1), "{what}");
            assert_eq!(found.checkpoint.weights, checkpoint(4).weights);
        }
        fs::write(&files[0], b"").unwrap();
        fs::write(&files[1], b"").unwrap();
        assert_eq!(Checkpoint::newest(folder.path(), &parameters()).unwrap_err().exit_code(), 65);
    }

    #[test]
    fn another_model_is_refused_with_every_difference() {
        let folder = tempfile::tempdir().unwrap();
        let path = checkpoint(1).save(folder.path(), &parameters(), 3).unwrap();
        let mut other = parameters();
        other[0].shape = vec![2, 3];
        other[1].name = "b.bias".into();
        let error = Checkpoint::load(&path, &other).unwrap_err();
        let text = error.to_string();
        assert!(
            error.exit_code() == 65 && text.contains("a.weight: the file has shape [3, 2]") && text.contains("b.bias: missing"),
            "{text}"
        );
    }

    #[test]
    fn weights_that_are_not_finite_are_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut bad = checkpoint(1);
        bad.weights[2] = f32::NAN;
        assert!(bad.save(folder.path(), &parameters(), 3).is_err());
        assert!(Checkpoint::list(folder.path()).unwrap().is_empty());
    }

    #[test]
    fn weights_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        save_weights(&path, &parameters(), &checkpoint(2).weights, &[], &Origin::default(), 2, None).unwrap();
        assert_eq!(Weights::open(&path).unwrap().load(&parameters()).unwrap(), checkpoint(2).weights);
    }

    #[test]
    fn open_weights_stay_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let save = |of: u64| save_weights(&path, &parameters(), &checkpoint(of).weights, &[], &Origin::default(), of, None).unwrap();
        save(2);
        let mut open = Weights::open(&path).unwrap();
        save(3);
        assert_eq!((open.step(), open.load(&parameters()).unwrap()), (Some(2), checkpoint(2).weights));
    }
}
