//! Checkpoints and weights of a run: what is kept, when it is valid, and which run it is of.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::rules::Watch;
use super::tensor_file::{Best, FORMAT, Header, TensorFile, buffer_views, views, write_tensors};
use crate::datasets::fingerprint;
use crate::error::{Error, Result};
use crate::gpu::Tuning;
use crate::optim::Plateau;
use crate::plan::{Buffer, Init, Parameter};

/// State of a run besides its tensors.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Updates done. With the seeds of the configuration it is also the data cursor and the state of every random number.
    pub step: u64,
    /// The best validation so far.
    pub best: Option<Best>,
    /// The value from which patience counts: the newest that was better by `validation.min_delta`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub improved: Option<f64>,
    /// Validations since then, of those that patience counts.
    pub waiting: u64,
    /// Updates skipped in a row because loss or gradient was not finite.
    pub skipped_in_a_row: u64,
    /// Updates skipped altogether.
    pub skipped: u64,
    /// State of the learning-rate schedule.
    pub plateau: Plateau,
    /// Of a run in 16 bits: whether the last step was skipped, and the bits of its loss scale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<(bool, u32)>,
    /// Sums of the epoch's metrics so far.
    #[serde(with = "super::floats")]
    pub epoch_sums: Vec<f64>,
    /// Rows behind them.
    pub epoch_rows: f64,
    /// The newest validation of the epoch so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "super::floats")]
    pub validated: Vec<(String, f64)>,
    /// What each abort rule remembers.
    pub watches: Vec<Watch>,
    /// Values of expectations after an epoch.
    #[serde(with = "super::floats")]
    pub expectations: Vec<Option<f64>>,
    /// What went wrong so far, for the report.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
    /// Whether a rule ended the run.
    pub aborted: bool,
    /// Whether the run has ended by itself, and why.
    pub finished: Option<String>,
    /// Seconds spent so far.
    pub seconds: f64,
}

/// Something that went wrong on the way and is said again at the end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Warning {
    /// In a few words, for a table.
    pub issue: String,
    /// In a sentence, with what to do.
    pub text: String,
}

/// What decides the weights of a run but for its device: weights and checkpoints of another origin are of another run.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Configuration as TOML.
    pub config: String,
    /// Fingerprints of the data files, by their keys in the configuration.
    pub data: BTreeMap<String, String>,
    /// A configuration of this kind with every default written out: what an earlier version did not write has its default.
    pub canonical: Option<fn(&str) -> Result<String>>,
}

impl Origin {
    /// Fails where a text is no configuration of this kind.
    pub(super) fn read_configuration(&self, text: &str) -> Result<String> {
        self.canonical.map_or_else(|| Ok(text.to_string()), |canonical| canonical(text))
    }

    /// What differs in another one, a line each: the key, its value there and its value here.
    pub fn differences(&self, there: &Origin) -> Vec<String> {
        let mut lines = self.configuration_differences(&there.config);
        for key in self.data.keys().chain(there.data.keys().filter(|k| !self.data.contains_key(*k))) {
            let of = |data: &BTreeMap<String, String>| data.get(key).map_or("none".to_string(), Clone::clone);
            if self.data.get(key) != there.data.get(key) {
                lines.push(format!("contents of {key}: {} then, {} now", of(&there.data), of(&self.data)));
            }
        }
        lines
    }

    /// Epochs of a configuration.
    pub(super) fn epochs(text: &str) -> Option<u64> {
        epochs_of(&toml::Value::Table(text.parse().ok()?))?.try_into().ok()
    }

    /// What differs in another configuration, as TOML. That this one has more epochs is no difference.
    pub(super) fn configuration_differences(&self, there: &str) -> Vec<String> {
        differences(there, &self.config, self.canonical, ["then", "now"], true)
    }

    /// What differs in another configuration, as TOML, the epochs among it; `words` tell the other and this one apart.
    pub fn all_differences(&self, there: &str, words: [&str; 2]) -> Vec<String> {
        differences(there, &self.config, self.canonical, words, false)
    }
}

/// `train.epochs` of a configuration.
fn epochs_of(config: &toml::Value) -> Option<i64> {
    config.get("train")?.get("epochs")?.as_integer()
}

/// Keys whose values differ in two configurations, as TOML; where a run may be `longer`, more epochs now are no difference.
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

/// A checkpoint: weights and moments in flat form, and the progress.
#[derive(Debug, Clone, Default)]
pub struct Checkpoint {
    /// Weights.
    pub weights: Vec<f32>,
    /// First moment.
    pub m: Vec<f32>,
    /// Second moment.
    pub v: Vec<f32>,
    /// Where the run is.
    pub progress: Progress,
    /// What is kept with the weights; a run that goes on takes it by `Weights::buffers`.
    pub buffers: Vec<Buffer>,
    /// Of which run.
    pub origin: Origin,
    /// Kernels in use, device included: bits repeat only with the same.
    pub variants: String,
    /// Ways to launch kernels that were measured to be the fastest, with which the run goes on.
    pub tuned: Tuning,
}

/// The checkpoint that a run goes on from.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Its file, which is still open: buffers whose shapes are known later are read from there.
    pub(super) file: Option<Weights>,
    pub(super) path: PathBuf,
    pub(super) checkpoint: Checkpoint,
    /// What is wrong with newer ones.
    pub(super) rejected: Vec<String>,
}

/// An open file of weights. It stays the same file while it is read, also where the run that writes such files replaces or removes it.
#[derive(Debug)]
pub struct Weights {
    /// Where it was found.
    pub path: PathBuf,
    file: TensorFile,
}

impl Weights {
    /// A safetensors file: one of ours, or a converted `state_dict`.
    ///
    /// # Errors
    /// `MissingInput` without the file, `Data` when it is damaged.
    pub fn open(path: &Path) -> Result<Weights> {
        Ok(Weights { path: path.into(), file: TensorFile::open(path)? })
    }

    /// The weights of a run: `best`, `last`, or a file's name.
    ///
    /// # Errors
    /// `MissingInput` when there is no such file, with those that there are; `Data` when it is damaged.
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
                return Err(Error::MissingInput(format!("{}: no weights `{which}`. There is {there}", run.display())));
            };
            match Weights::open(&path) {
                // The run has removed it since: there is a newer one.
                Err(Error::MissingInput(_)) if which == "last" && !path.exists() => {}
                opened => return opened,
            }
        }
    }

    /// Updates behind them, where it says so.
    pub fn step(&self) -> Option<u64> {
        self.file.header.step.or_else(|| serde_json::from_str(&self.file.header.progress).map(|progress: Progress| progress.step).ok())
    }

    /// Weights by their PyTorch names; f32, f64, f16 and bf16.
    ///
    /// # Errors
    /// `Data` when they are damaged or do not fit, every difference listed.
    pub fn load(&mut self, parameters: &[Parameter]) -> Result<Vec<f32>> {
        self.file.fill(parameters, "")
    }

    /// Those of the buffers that the file has under their names, with its values.
    ///
    /// # Errors
    /// `Data` when one is damaged or its shape differs.
    pub fn buffers(&mut self, buffers: &[Buffer]) -> Result<Vec<Buffer>> {
        let mut found = Vec::new();
        for buffer in buffers {
            let (name, shape) = (buffer.name.clone(), buffer.shape.clone());
            if self.file.metadata.info(&name).is_none() {
                continue;
            }
            let mut values = self.file.fill(&[Parameter { name, shape, offset: 0, init: Init::Zeros }], "")?;
            values.truncate(buffer.values.len());
            found.push(Buffer { values, ..buffer.clone() });
        }
        Ok(found)
    }

    /// Fails where data files are not those that they were trained on, by what the file says; one that says nothing agrees. What is `known` of files is
    /// not looked up again.
    ///
    /// # Errors
    /// `Data` with the keys of the files that are others, and what the file with the weights says of them.
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

/// Best weights of a run with the validation that chose them, and which run it is.
///
/// # Errors
/// As `Weights::open` and `Weights::load`, and `Data` for a file that does not say so.
pub(super) fn load_best(path: &Path, parameters: &[Parameter]) -> Result<(Vec<f32>, Best, Origin)> {
    let mut file = TensorFile::open(path)?;
    let weights = file.fill(parameters, "")?;
    let Header { best, config, data, .. } = file.header;
    let best = best.ok_or_else(|| Error::Data(format!("{} does not say of which validation it is", path.display())))?;
    Ok((weights, best, Origin { config, data, canonical: None }))
}

/// Writes weights and buffers under their PyTorch names, with their origin, the updates behind them and, of best weights, their validation.
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
    let Origin { config, data, .. } = origin.clone();
    let header = Header { config, data, step: Some(step), best: best.cloned(), ..Header::default() };
    write_tensors(path, &[views(parameters, "", weights), buffer_views(buffers)].concat(), Some(header))
}

/// Writes weights and buffers under their PyTorch names and nothing else.
///
/// # Errors
/// `Io` when the file cannot be written.
pub fn export_weights(path: &Path, parameters: &[Parameter], weights: &[f32], buffers: &[Buffer]) -> Result<()> {
    write_tensors(path, &[views(parameters, "", weights), buffer_views(buffers)].concat(), None)
}

/// Name of the checkpoint of a step.
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
        let Origin { config, data, .. } = self.origin.clone();
        let (step, variants, tuned) = (Some(self.progress.step), self.variants.clone(), self.tuned.clone());
        write_tensors(
            &path,
            &tensors,
            Some(Header { checkpoint: Some(FORMAT), step, config, data, progress, variants, tuned, ..Header::default() }),
        )?;
        let again = Self::load(&path, parameters)?;
        if again.weights != self.weights {
            return Err(Error::Io(format!("{} reads back differently from what was written: check the disk", path.display())));
        }
        let found = Self::list(folder)?;
        for old in &found[..found.len().saturating_sub(keep)] {
            fs::remove_file(old).map_err(|e| Error::write(old, &e))?;
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
            Err(e) => return Err(Error::read(folder, &e)),
        };
        for entry in entries {
            let path = entry.map_err(|e| Error::read(folder, &e))?.path();
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

    fn read(Weights { path, file }: &mut Weights, parameters: &[Parameter]) -> Result<Checkpoint> {
        let damaged = |what: &str| Error::Data(format!("{} is no usable checkpoint: {what}", path.display()));
        if file.header.checkpoint.is_none() {
            return Err(damaged("it holds weights only"));
        }
        let progress: Progress = serde_json::from_str(&file.header.progress).map_err(|e| damaged(&format!("its progress: {e}")))?;
        if path.file_name() != file_of(progress.step).file_name() {
            return Err(damaged(&format!("it is that of step {}, under another name", progress.step)));
        }
        let (weights, m, v) = (file.fill(parameters, "")?, file.fill(parameters, "optimizer.m.")?, file.fill(parameters, "optimizer.v.")?);
        let Header { config, data, variants, tuned, .. } = file.header.clone();
        Ok(Checkpoint { weights, m, v, buffers: vec![], progress, origin: Origin { config, data, canonical: None }, variants, tuned })
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
