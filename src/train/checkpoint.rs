//! Checkpoints and weights: safetensors files with a checksum for each tensor, written so that a crash at any moment leaves a valid file.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::rules::Watch;
use super::task::Buffer;
use crate::datasets::folder_of;
use crate::error::{Error, Result};
use crate::optim::Plateau;
use crate::plan::{FLAT_ALIGN, Init, Parameter};

const FORMAT: u32 = 1;

/// State of a run besides its tensors.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Updates done. With the seeds of the configuration it is also the data cursor and the state of every random number.
    pub step: u64,
    /// Best value so far of the metric that selects.
    pub best_value: Option<f64>,
    /// Step of the best validation.
    pub best_step: u64,
    /// Validations since the best one, of those that patience counts.
    pub waiting: u64,
    /// Updates skipped in a row because loss or gradient was not finite.
    pub skipped_in_a_row: u64,
    /// Updates skipped altogether.
    pub skipped: u64,
    /// Validation metrics of the best weights.
    pub best: Vec<(String, f64)>,
    /// State of the learning-rate schedule.
    pub plateau: Plateau,
    /// Sums of the epoch's metrics so far.
    pub epoch_sums: Vec<f64>,
    /// Rows behind them.
    pub epoch_rows: f64,
    /// What each abort rule remembers.
    pub watches: Vec<Watch>,
    /// Values of expectations after an epoch.
    pub expectations: Vec<Option<f64>>,
    /// Fingerprint of the data file.
    pub data: Option<String>,
    /// Whether a rule ended the run.
    pub aborted: bool,
    /// Whether the run has ended by itself, and why.
    pub finished: Option<String>,
    /// Seconds spent so far.
    pub seconds: f64,
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
    /// What is kept with the weights; a run that goes on takes it by `Task::take_buffers`.
    pub buffers: Vec<Buffer>,
    /// Configuration as TOML.
    pub config: String,
    /// Kernels in use, device included: bits repeat only with the same.
    pub variants: String,
}

fn flat_len(parameters: &[Parameter]) -> usize {
    parameters.last().map_or(0, |p| (p.offset + p.len()).next_multiple_of(FLAT_ALIGN))
}

fn checksum(bytes: &[u8]) -> String {
    format!("{:08x}", crc32c::crc32c(bytes))
}

/// Writes `bytes` to `path` by way of a temporary file in the same folder: fsync, rename, fsync of the folder.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = folder_of(path);
    let failed = |e: &std::io::Error| Error::write(path, e);
    let mut builder = tempfile::Builder::new();
    // Temporary files are private by default; what replaces a run's file is as readable as any other.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
    let mut file = builder.prefix(".writing-").tempfile_in(folder).map_err(|e| failed(&e))?;
    file.write_all(bytes).map_err(|e| failed(&e))?;
    file.as_file().sync_all().map_err(|e| failed(&e))?;
    file.persist(path).map_err(|e| failed(&e.error))?;
    // Windows cannot open a folder as a file; its rename is durable by itself.
    if cfg!(unix) {
        File::open(folder).and_then(|f| f.sync_all()).map_err(|e| failed(&e))?;
    }
    Ok(())
}

/// What the file's metadata hold, as JSON under the one key `engine`: one, because the order of several is not fixed, and the same weights
/// are to give the same bytes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Header {
    /// Format of a checkpoint; absent in a file of weights alone.
    checkpoint: Option<u32>,
    /// Updates behind the weights.
    step: Option<u64>,
    config: String,
    progress: String,
    progress_checksum: String,
    variants: String,
    /// CRC-32C of each tensor's bytes.
    checksums: BTreeMap<String, String>,
}

const HEADER: &str = "engine";

/// Serialises tensors with a checksum for each.
fn serialise(tensors: &[(String, &[usize], &[f32])], mut header: Header) -> Result<Vec<u8>> {
    let mut views = Vec::with_capacity(tensors.len());
    for (name, shape, values) in tensors {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        header.checksums.insert(name.clone(), checksum(bytes));
        let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes).map_err(|e| Error::Internal(format!("tensor {name}: {e}")))?;
        views.push((name.clone(), view));
    }
    let header = serde_json::to_string(&header).map_err(|e| Error::Internal(format!("checkpoint header: {e}")))?;
    safetensors::serialize(views, Some(HashMap::from([(HEADER.to_string(), header)])))
        .map_err(|e| Error::Internal(format!("safetensors: {e}")))
}

fn views<'a>(parameters: &'a [Parameter], prefix: &str, flat: &'a [f32]) -> Vec<(String, &'a [usize], &'a [f32])> {
    let slice = |p: &Parameter| &flat[p.offset..p.offset + p.len()];
    parameters.iter().map(|p| (format!("{prefix}{}", p.name), p.shape.as_slice(), slice(p))).collect()
}

fn buffer_views(buffers: &[Buffer]) -> Vec<(String, &[usize], &[f32])> {
    buffers.iter().map(|b| (b.name.clone(), b.shape.as_slice(), b.values.as_slice())).collect()
}

/// Gives buffers the values that the file has under their names; says which it has.
///
/// # Errors
/// `MissingInput` without the file, `Data` when it is damaged or a shape differs.
pub(crate) fn load_buffers(path: &Path, buffers: &mut [Buffer]) -> Result<Vec<String>> {
    let bytes = read(path)?;
    let (file, header) = open(path, &bytes)?;
    let mut found = Vec::new();
    for buffer in buffers.iter_mut().filter(|b| file.tensor(&b.name).is_ok()) {
        let (name, shape) = (buffer.name.clone(), buffer.shape.clone());
        let values = fill(path, &file, &header, &[Parameter { name, shape, offset: 0, init: Init::Zeros }], "")?;
        let n = buffer.values.len();
        buffer.values.copy_from_slice(&values[..n]);
        found.push(buffer.name.clone());
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| Error::read(path, &e))
}

/// Fills a flat buffer from the tensors `prefix + name`; all of them must be there with their shape and, where the file carries checksums,
/// their bytes intact.
fn fill(path: &Path, file: &SafeTensors<'_>, header: &Header, parameters: &[Parameter], prefix: &str) -> Result<Vec<f32>> {
    let mut flat = vec![0.0; flat_len(parameters)];
    let mut wrong = Vec::new();
    for p in parameters {
        let name = format!("{prefix}{}", p.name);
        let Ok(view) = file.tensor(&name) else {
            wrong.push(format!("{name}: missing"));
            continue;
        };
        if view.shape() != p.shape {
            wrong.push(format!("{name}: the file has shape {:?}, the model {:?}", view.shape(), p.shape));
            continue;
        }
        if header.checksums.get(&name).is_some_and(|sum| *sum != checksum(view.data())) {
            wrong.push(format!("{name}: checksum differs, the file is damaged"));
            continue;
        }
        let data = view.data();
        let values: Vec<f32> = match view.dtype() {
            Dtype::F32 => bytemuck::pod_collect_to_vec(data),
            Dtype::F64 => bytemuck::pod_collect_to_vec::<u8, f64>(data).iter().map(|v| *v as f32).collect(),
            Dtype::F16 => bytemuck::pod_collect_to_vec::<u8, u16>(data).iter().map(|v| half::f16::from_bits(*v).to_f32()).collect(),
            Dtype::BF16 => bytemuck::pod_collect_to_vec::<u8, u16>(data).iter().map(|v| half::bf16::from_bits(*v).to_f32()).collect(),
            other => {
                wrong.push(format!("{name}: {other:?} is no floating-point type; save it as float32"));
                continue;
            }
        };
        flat[p.offset..p.offset + p.len()].copy_from_slice(&values);
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            wrong.push(format!("{name}: element {at} is not finite"));
        }
    }
    if wrong.is_empty() {
        return Ok(flat);
    }
    let shown = wrong.iter().take(12).map(|w| format!("\n  {w}")).collect::<String>();
    let more = if wrong.len() > 12 { format!("\n  … and {} more", wrong.len() - 12) } else { String::new() };
    Err(Error::Data(format!("{} does not fit this model:{shown}{more}", path.display())))
}

fn open<'a>(path: &Path, bytes: &'a [u8]) -> Result<(SafeTensors<'a>, Header)> {
    let damaged = |why: String| Error::Data(format!("{} is no usable safetensors file: {why}", path.display()));
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(e.to_string()))?;
    let file = SafeTensors::deserialize(bytes).map_err(|e| damaged(e.to_string()))?;
    let header = match metadata.metadata().as_ref().and_then(|m| m.get(HEADER)) {
        Some(text) => serde_json::from_str(text).map_err(|e| damaged(format!("its header: {e}")))?,
        None => Header::default(),
    };
    Ok((file, header))
}

/// Reads weights by their PyTorch names from a safetensors file: one of ours, or a converted `state_dict`; f32, f64, f16 and bf16.
///
/// # Errors
/// `MissingInput` without the file, `Data` when it is damaged or does not fit, every difference listed.
pub fn load_weights(path: &Path, parameters: &[Parameter]) -> Result<Vec<f32>> {
    let bytes = read(path)?;
    let (file, header) = open(path, &bytes)?;
    fill(path, &file, &header, parameters, "")
}

/// The file with a run's weights: `best`, `last`, or a file's name; and after how many steps they are, where it says so.
///
/// # Errors
/// `MissingInput` when there is no such file, with those that there are; `Data` when it is damaged.
pub fn weights_of(run: &Path, which: &str) -> Result<(PathBuf, Option<u64>)> {
    let folder = run.join("checkpoints");
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
        let there = if there.is_empty() { "no weights yet: a run saves the first after an epoch".into() } else { there.join(" and ") };
        return Err(Error::MissingInput(format!("{}: no weights `{which}`. There is {there}", run.display())));
    };
    let bytes = read(&path)?;
    let step = open(&path, &bytes)?.1.step;
    Ok((path, step))
}

/// Writes weights and buffers under their PyTorch names, with the configuration and the number of updates behind them in the metadata.
///
/// # Errors
/// `Io` when the file cannot be written.
pub fn save_weights(path: &Path, parameters: &[Parameter], weights: &[f32], buffers: &[Buffer], config: &str, step: u64) -> Result<()> {
    let header = Header { config: config.to_string(), step: Some(step), ..Header::default() };
    let tensors = [views(parameters, "", weights), buffer_views(buffers)].concat();
    write_atomically(path, &serialise(&tensors, header)?)
}

/// Writes weights and buffers under their PyTorch names and nothing else.
///
/// # Errors
/// `Io` when the file cannot be written.
pub fn export_weights(path: &Path, parameters: &[Parameter], weights: &[f32], buffers: &[Buffer]) -> Result<()> {
    let mut tensors = Vec::with_capacity(parameters.len());
    for (name, shape, values) in [views(parameters, "", weights), buffer_views(buffers)].concat() {
        let view = TensorView::new(Dtype::F32, shape.to_vec(), bytemuck::cast_slice(values));
        tensors.push((name.clone(), view.map_err(|e| Error::Internal(format!("tensor {name}: {e}")))?));
    }
    let bytes = safetensors::serialize(tensors, None).map_err(|e| Error::Internal(format!("safetensors: {e}")))?;
    write_atomically(path, &bytes)
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
        let path = folder.join(format!("step-{:09}.safetensors", self.progress.step));
        let mut tensors = views(parameters, "", &self.weights);
        tensors.extend(buffer_views(&self.buffers));
        tensors.extend(views(parameters, "optimizer.m.", &self.m));
        tensors.extend(views(parameters, "optimizer.v.", &self.v));
        let progress = serde_json::to_string(&self.progress).map_err(|e| Error::Internal(format!("progress: {e}")))?;
        let header = Header {
            checkpoint: Some(FORMAT),
            step: Some(self.progress.step),
            progress_checksum: checksum(progress.as_bytes()),
            progress,
            config: self.config.clone(),
            variants: self.variants.clone(),
            ..Header::default()
        };
        write_atomically(&path, &serialise(&tensors, header)?)?;
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
            if name.starts_with("step-") && name.ends_with(".safetensors") {
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
        let bytes = read(path)?;
        let (file, header) = open(path, &bytes)?;
        let damaged = |what: &str| Error::Data(format!("{} is no usable checkpoint: {what}", path.display()));
        let format = header.checkpoint.ok_or_else(|| damaged("it holds weights only"))?;
        if format > FORMAT {
            return Err(damaged(&format!("its format {format} is newer than this engine's {FORMAT}. Update engine")));
        }
        if header.progress_checksum != checksum(header.progress.as_bytes()) {
            return Err(damaged("the checksum of its progress differs"));
        }
        Ok(Checkpoint {
            weights: fill(path, &file, &header, parameters, "")?,
            m: fill(path, &file, &header, parameters, "optimizer.m.")?,
            v: fill(path, &file, &header, parameters, "optimizer.v.")?,
            buffers: vec![],
            progress: serde_json::from_str(&header.progress).map_err(|e| damaged(&format!("its progress: {e}")))?,
            config: header.config,
            variants: header.variants,
        })
    }

    /// The newest valid checkpoint of a folder, and what is wrong with newer ones.
    ///
    /// # Errors
    /// `Data` when there are checkpoints and none is valid.
    pub fn newest(folder: &Path, parameters: &[Parameter]) -> Result<Option<(Checkpoint, Vec<String>)>> {
        let mut rejected = Vec::new();
        for path in Self::list(folder)?.iter().rev() {
            match Self::load(path, parameters) {
                Ok(checkpoint) => return Ok(Some((checkpoint, rejected))),
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
        let progress = Progress { step, best_value: Some(1.5), ..Progress::default() };
        Checkpoint {
            weights: flat.clone(),
            m: flat.clone(),
            v: flat,
            progress,
            buffers: vec![],
            config: "x = 1".into(),
            variants: "v".into(),
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
            let (found, rejected) = Checkpoint::newest(folder.path(), &parameters()).unwrap().unwrap();
            assert_eq!((found.progress.step, rejected.len()), (4, 1), "{what}");
            assert_eq!(found.weights, checkpoint(4).weights);
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
        save_weights(&path, &parameters(), &checkpoint(2).weights, &[], "", 2).unwrap();
        assert_eq!(load_weights(&path, &parameters()).unwrap(), checkpoint(2).weights);
    }
}
