//! Tensors by name in safetensors files. The header is read first, and of the body no more than what is asked for. Files of this program
//! carry a checksum of each tensor and of what they say about themselves, and are written so that a crash at any moment leaves a valid
//! file.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata, TensorView};
use serde::{Deserialize, Serialize};

use crate::datasets::open_regular;
use crate::error::{Error, Result};
use crate::files;
use crate::gpu::Tuning;
use crate::plan::{Adapter, Buffer, Parameter, flat_len};

/// Version of the checkpoint format.
pub(super) const FORMAT: u32 = 2;

/// Largest length of a header in bytes: the limit of the format's own library.
const LONGEST_HEADER: u64 = 100_000_000;

/// Name, shape and values of a tensor.
pub(super) type View<'a> = (String, &'a [usize], &'a [f32]);

pub(super) fn checksum(bytes: &[u8]) -> String {
    format!("{:08x}", crc32c::crc32c(bytes))
}

/// Removes the unfinished files of a killed process in a folder.
pub(super) fn remove_unfinished(folder: &Path) {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    for file in files.filter(|file| file.file_name().to_string_lossy().starts_with(files::UNFINISHED)) {
        let _ = fs::remove_file(file.path());
    }
}

/// Validation that chose the best weights.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Value of the selected metric.
    pub value: f64,
    /// Number of updates before the validation.
    pub step: u64,
    /// All metrics of the validation.
    #[serde(with = "super::floats")]
    pub metrics: Vec<(String, f64)>,
}

/// What adapters in a file say of the weights that they are for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Base {
    /// Checksum of what the file of those weights says about itself, with a checksum of each.
    pub checksum: String,
    /// The adapters of each of those weights that has one.
    pub adapters: Vec<Adapter>,
}

/// Metadata that this program adds to a file, as JSON under the single key `engine`: the order of several keys is not fixed, and the same
/// weights must give the same bytes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Header {
    /// Version of the checkpoint format; absent in a file of weights alone.
    pub checkpoint: Option<u32>,
    /// Number of updates before the weights.
    pub step: Option<u64>,
    /// Configuration of the run as TOML.
    pub config: String,
    /// Fingerprints of the run's data files.
    pub data: BTreeMap<String, String>,
    /// Validation that chose the weights, in a file of best weights.
    pub best: Option<Best>,
    /// The weights that those in the file are adapters of, if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// Progress of a checkpoint as JSON.
    pub progress: String,
    /// Device and kernels with which a checkpoint was made.
    pub variants: String,
    /// Measured fastest ways to launch kernels.
    #[serde(skip_serializing_if = "Tuning::is_empty")]
    pub tuned: Tuning,
    /// CRC-32C of each tensor's bytes.
    pub checksums: BTreeMap<String, String>,
    /// CRC-32C of this header as JSON with this field empty.
    pub checksum: String,
}

const KEY: &str = "engine";

impl Header {
    fn json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|e| Error::Internal(format!("header: {e}")))
    }

    /// Checksum of the other fields.
    fn sum(&self) -> Result<String> {
        Ok(checksum(Header { checksum: String::new(), ..self.clone() }.json()?.as_bytes()))
    }

    /// True if this program wrote the file, with a checksum of each tensor; a file of `export` has none.
    pub(super) fn ours(&self) -> bool {
        self.checkpoint.is_some() || self.step.is_some()
    }
}

/// The header of these tensors, with its checksums.
pub(super) fn sealed(tensors: &[View<'_>], header: Header) -> Result<Header> {
    let checksums = tensors.iter().map(|(name, _, values)| (name.clone(), checksum(bytemuck::cast_slice(values)))).collect();
    let mut header = Header { checksums, ..header };
    header.checksum = header.sum()?;
    Ok(header)
}

/// Writes tensors, with the header as metadata.
pub(super) fn write_tensors(path: &Path, tensors: &[View<'_>], header: Header) -> Result<()> {
    write_with(path, tensors, HashMap::from([(KEY.to_string(), sealed(tensors, header)?.json()?)]))
}

/// Writes tensors by name, shape and values, for other programs: what the file says about itself is plain text by key.
///
/// # Errors
/// `Io` when the file cannot be written.
pub fn write_exported(path: &Path, tensors: &[(String, &[usize], &[f32])], about: &[(String, String)]) -> Result<()> {
    write_with(path, tensors, about.iter().cloned().collect())
}

fn write_with(path: &Path, tensors: &[View<'_>], metadata: HashMap<String, String>) -> Result<()> {
    let mut views = Vec::with_capacity(tensors.len());
    for (name, shape, values) in tensors {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes).map_err(|e| Error::Internal(format!("tensor {name}: {e}")))?;
        views.push((name.clone(), view));
    }
    files::write(path, &safetensors::serialize(views, Some(metadata)).map_err(|e| Error::Internal(format!("safetensors: {e}")))?)
}

/// Tensors of a flat buffer, by name.
pub(super) fn views<'a>(parameters: &'a [Parameter], prefix: &str, flat: &'a [f32]) -> Vec<View<'a>> {
    let slice = |p: &Parameter| &flat[p.offset..p.offset + p.len()];
    parameters.iter().map(|p| (format!("{prefix}{}", p.name), p.shape.as_slice(), slice(p))).collect()
}

pub(super) fn buffer_views(buffers: &[Buffer]) -> Vec<View<'_>> {
    buffers.iter().map(|b| (b.name.clone(), b.shape.as_slice(), b.values.as_slice())).collect()
}

/// An open safetensors file whose header has been read and checked.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    file: File,
    /// Names, types, shapes and byte offsets of the tensors.
    pub metadata: Metadata,
    body: u64,
    /// Metadata that this program has added.
    pub header: Header,
}

impl TensorFile {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// `MissingInput` without the file; `Data` when it has another format, is damaged or cut off.
    pub fn open(path: &Path) -> Result<TensorFile> {
        let failed = |e: std::io::Error| Error::read(path, e);
        let mut file = open_regular(path, "a .safetensors")?;
        let size = file.metadata().map_err(failed)?.len();
        let mut start = vec![];
        Read::by_ref(&mut file).take(64).read_to_end(&mut start).map_err(failed)?;
        let damaged = |why: &str| Error::Data(format!("{} is no usable safetensors file: {why}", path.display()));
        if let Some(what) = other_format(path, &start) {
            return Err(damaged(&what));
        }
        let length = start.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)).ok_or_else(|| damaged("it is shorter than its header"))?;
        if length > LONGEST_HEADER || length + 8 > size {
            return Err(damaged(&format!("its header is said to have {length} bytes, the file has {}", size)));
        }
        let mut text = vec![0; length as usize];
        file.seek(SeekFrom::Start(8)).and_then(|_| file.read_exact(&mut text)).map_err(failed)?;
        let metadata: Metadata = serde_json::from_slice(&text).map_err(|e| damaged(&format!("its header: {e}")))?;
        let (body, held) = (length + 8, metadata.data_len() as u64);
        if body + held != size {
            return Err(damaged(&format!("its tensors take {held} bytes, the file has {} for them: it is cut off", size - body)));
        }
        let header: Header = match metadata.metadata().as_ref().and_then(|m| m.get(KEY)) {
            Some(text) => serde_json::from_str(text).map_err(|e| damaged(&format!("what it says about itself: {e}")))?,
            None => Header::default(),
        };
        match header.checkpoint {
            Some(format) if format > FORMAT => {
                return Err(damaged(&format!("its format {format} is newer than this engine's {FORMAT}. Update engine")));
            }
            Some(format) if format < FORMAT => {
                return Err(damaged(&format!(
                    "its format {format} is of an earlier engine, this one's is {FORMAT}. Go on with the engine that wrote it, or start from \
                     its best weights with --init"
                )));
            }
            _ => {}
        }
        let sealed = header.checkpoint.is_some() || !header.checksum.is_empty();
        if sealed && header.checksum != header.sum()? {
            return Err(damaged("the checksum of what it says about itself differs"));
        }
        Ok(TensorFile { path: path.into(), file, metadata, body, header })
    }

    /// What the file says about itself as plain text, by key: that of an exported file, or what another program wrote.
    pub fn about(&self) -> Vec<(String, String)> {
        let all = self.metadata.metadata().iter().flatten();
        let mut about: Vec<_> = all.filter(|(key, _)| *key != KEY).map(|(key, value)| (key.clone(), value.clone())).collect();
        about.sort();
        about
    }

    /// Progress of a checkpoint, as JSON.
    pub fn progress(&self) -> Option<&str> {
        Some(self.header.progress.as_str()).filter(|text| !text.is_empty())
    }

    fn bytes(&mut self, name: &str) -> Result<Vec<u8>> {
        let info = self.metadata.info(name).ok_or_else(|| Error::Data(format!("{} has no tensor {name}", self.path.display())))?;
        let (start, end) = info.data_offsets;
        let mut bytes = vec![0; end - start];
        let read = self.file.seek(SeekFrom::Start(self.body + start as u64)).and_then(|_| self.file.read_exact(&mut bytes));
        read.map_err(|e| Error::read(&self.path, e))?;
        Ok(bytes)
    }

    /// Fills a flat buffer from the tensors `prefix + name`. All of them must be there with the right shape, be finite and, in a file of
    /// this program, have the right checksum. Nothing is read before names and shapes are checked.
    ///
    /// # Errors
    /// `Data` with a list of all differences.
    pub(super) fn fill(&mut self, parameters: &[Parameter], prefix: &str) -> Result<Vec<f32>> {
        let mut wrong = Vec::new();
        let names: Vec<String> = parameters.iter().map(|p| format!("{prefix}{}", p.name)).collect();
        for (p, name) in parameters.iter().zip(&names) {
            match self.metadata.info(name) {
                None => wrong.push(format!("{name}: missing")),
                Some(info) if info.shape != p.shape => {
                    wrong.push(format!("{name}: the file has shape {:?}, the model {:?}", info.shape, p.shape));
                }
                Some(_) => {}
            }
        }
        let mut flat = vec![0.0; flat_len(parameters)];
        for (p, name) in parameters.iter().zip(&names).filter(|_| wrong.is_empty()).collect::<Vec<_>>() {
            match self.values(name)? {
                Ok(values) => {
                    flat[p.offset..p.offset + p.len()].copy_from_slice(&values);
                    if let Some(at) = values.iter().position(|v| !v.is_finite()) {
                        wrong.push(format!("{name}: element {at} is not finite"));
                    }
                }
                Err(why) => wrong.push(format!("{name}: {why}")),
            }
        }
        if wrong.is_empty() {
            return Ok(flat);
        }
        if wrong.iter().any(|w| w.ends_with(": missing"))
            && let Some((_, own)) = self.others(|name| names.contains(name))
        {
            wrong.insert(wrong.len().min(12), format!("it has other names: {own}. Rename them before they are saved"));
        }
        let shown = wrong.iter().take(13).map(|w| format!("\n  {w}")).collect::<String>();
        let more = if wrong.len() > 13 { format!("\n  … and {} more", wrong.len() - 13) } else { String::new() };
        Err(Error::Data(format!("{} does not fit this model:{shown}{more}", self.path.display())))
    }

    /// Number of the tensors that are not `known`, and the first names of them; none if all are.
    pub(super) fn others(&self, known: impl Fn(&String) -> bool) -> Option<(usize, String)> {
        let mut names: Vec<String> = self.metadata.tensors().into_keys().filter(|name| !known(name)).collect();
        names.sort();
        let more = if names.len() > 6 { ", …" } else { "" };
        (!names.is_empty()).then(|| (names.len(), names[..names.len().min(6)].join(", ") + more))
    }

    /// Values of a tensor as f32, or a message that says what is wrong with them.
    fn values(&mut self, name: &str) -> Result<std::result::Result<Vec<f32>, String>> {
        let data = self.bytes(name)?;
        match self.header.checksums.get(name) {
            Some(sum) if *sum != checksum(&data) => return Ok(Err("checksum differs, the file is damaged".into())),
            None if self.header.ours() => return Ok(Err("its checksum is missing, the file is damaged".into())),
            _ => {}
        }
        let dtype = self.metadata.info(name).map(|info| info.dtype);
        Ok(Ok(match dtype {
            Some(Dtype::F32) => bytemuck::pod_collect_to_vec(&data),
            Some(Dtype::F64) => bytemuck::pod_collect_to_vec::<u8, f64>(&data).iter().map(|v| *v as f32).collect(),
            Some(Dtype::F16) => bytemuck::pod_collect_to_vec::<u8, u16>(&data).iter().map(|v| half::f16::from_bits(*v).to_f32()).collect(),
            Some(Dtype::BF16) => {
                bytemuck::pod_collect_to_vec::<u8, u16>(&data).iter().map(|v| half::bf16::from_bits(*v).to_f32()).collect()
            }
            other => {
                return Ok(Err(format!(
                    "{} is no floating-point type; save it as float32",
                    other.map_or(String::new(), |d| d.to_string())
                )));
            }
        }))
    }
}

/// Message for a file of another format that says how to convert it; none if the format is not known.
fn other_format(path: &Path, start: &[u8]) -> Option<String> {
    let zip = start.starts_with(b"PK\x03\x04");
    let first_member = start.get(30..).unwrap_or_default();
    let (save, file) = ("from safetensors.torch import save_file", path.display());
    if zip && (first_member.windows(4).any(|w| w == b".npy") || path.extension().is_some_and(|e| e == "npz")) {
        return Some(format!(
            "it is an .npz file. Convert weights with: python3 -c \"import numpy; from safetensors.numpy import save_file; \
             save_file(dict(numpy.load('{file}')), 'weights.safetensors')\""
        ));
    }
    if start.len() > 8 && start.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..)) {
        return Some("it is a text file. Weights are .safetensors files, such as model.safetensors in the folder of a run".into());
    }
    // A state_dict of torch.save is a zip archive, or in its old form a pickle.
    (zip || start.starts_with(&[0x80, 2])).then(|| {
        format!(
            "it is a PyTorch file. Convert it with: python3 -c \"import torch; {save}; \
             save_file({{k: v.contiguous() for k, v in torch.load('{file}').items()}}, 'weights.safetensors')\""
        )
    })
}
