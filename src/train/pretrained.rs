//! Folders of Hugging Face's transformers: weights to begin from, and weights of a run for others.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

use super::tensor_file::TensorFile;
use crate::error::{Error, Result, json};
use crate::files;
use crate::models::HuggingFace;
use crate::plan::{Init, Parameter};

/// Files of a folder: the configuration and the weights.
const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";

/// Opens the weights of a folder whose config.json says that they are those of this model.
///
/// # Errors
/// `MissingInput` without the files; `Data` when they are damaged, or for another model, with every key that differs.
pub(super) fn open(folder: &Path, of: Option<&HuggingFace>) -> Result<TensorFile> {
    let Some(of) = of else {
        let folder = folder.display();
        return Err(Error::Config(format!(
            "{folder} is a folder: this model begins from a .safetensors file. A folder is for model.kind = \"gpt\", \"llama\", and \"mamba2\" with one group"
        )));
    };
    let path = folder.join(CONFIG);
    let text = files::text(&path, files::SMALL).map_err(|e| Error::read(&path, e))?;
    // Earlier versions of transformers write the number bare, which JSON does not have, and later ones in a table.
    let finite = || text.replace(" Infinity", " {\"__float__\": \"Infinity\"}");
    let found = serde_json::from_str(&text).or_else(|_| serde_json::from_str(&finite()));
    let found: Value = found.map_err(|e| Error::Data(format!("{} is no JSON: {e}", path.display())))?;
    let differences = of.differences(&found);
    match differences.is_empty() {
        true => TensorFile::open(&folder.join(WEIGHTS)),
        false => Err(Error::Data(format!("{} is of another model than the run file:\n  {}", path.display(), differences.join("\n  ")))),
    }
}

/// Name of a tensor in a file that may leave out the beginning of all names.
fn name_in(file: &TensorFile, of: &HuggingFace, name: &str) -> String {
    let short = name.strip_prefix(of.prefix).filter(|short| file.metadata.info(name).is_none() && file.metadata.info(short).is_some());
    short.unwrap_or(name).into()
}

/// Reads the weights of an open folder.
///
/// # Errors
/// As `TensorFile::fill`, and `Data` for vectors that the model does not have and that are not 0.
pub(super) fn load(file: &mut TensorFile, of: &HuggingFace, parameters: &[Parameter]) -> Result<Vec<f32>> {
    let there = |p: &Parameter| {
        let mut shape = p.shape.clone();
        if of.is_transposed(&p.name) {
            shape.reverse();
        }
        Parameter { name: name_in(file, of, &p.name), shape, ..p.clone() }
    };
    let stored: Vec<Parameter> = parameters.iter().map(there).collect();
    let mut flat = file.fill(&stored, "")?;
    for p in parameters.iter().filter(|p| of.is_transposed(&p.name)) {
        let values = transposed(&flat[p.offset..p.offset + p.len()], p.shape[1], p.shape[0]);
        flat[p.offset..p.offset + p.len()].copy_from_slice(&values);
    }
    for (name, length) in &of.zeros {
        let name = name_in(file, of, name);
        if file.metadata.info(&name).is_some() {
            let zeros = Parameter { name: name.clone(), shape: vec![*length], offset: 0, init: Init::Zeros };
            if file.fill(&[zeros], "")?.iter().any(|value| *value != 0.0) {
                return Err(Error::Data(format!("{name} is not 0 there, and model.bias = false leaves it out. Set model.bias = true")));
            }
        }
    }
    Ok(flat)
}

/// True for a tensor of a folder that is a weight of the model, or says nothing new.
pub(super) fn knows(of: &HuggingFace, parameters: &[Parameter], name: &str) -> bool {
    let is = |own: &str| name == own || own.strip_prefix(of.prefix) == Some(name);
    let known = parameters.iter().any(|p| is(&p.name)) || of.zeros.iter().any(|(own, _)| is(own));
    known || of.ignored.iter().any(|ending| name.ends_with(ending))
}

/// A matrix (rows, columns) as (columns, rows).
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
}

/// Contents of the files of a folder that transformers opens: names, and bytes.
///
/// # Errors
/// `Internal` when the weights do not fit the parameters.
pub fn folder_of(of: &HuggingFace, parameters: &[Parameter], weights: &[f32]) -> Result<[(&'static str, Vec<u8>); 2]> {
    let stored = |p: &Parameter| {
        let values = &weights[p.offset..p.offset + p.len()];
        match of.is_transposed(&p.name) {
            true => (p.name.clone(), vec![p.shape[1], p.shape[0]], transposed(values, p.shape[0], p.shape[1])),
            false => (p.name.clone(), p.shape.clone(), values.to_vec()),
        }
    };
    let zeros = of.zeros.iter().map(|(name, length)| (name.clone(), vec![*length], vec![0.0; *length]));
    let tensors: Vec<(String, Vec<usize>, Vec<f32>)> = parameters.iter().map(stored).chain(zeros).collect();
    let failed = |e| Error::Internal(format!("safetensors: {e}"));
    let mut views = Vec::with_capacity(tensors.len());
    for (name, shape, values) in &tensors {
        views.push((name, TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values)).map_err(failed)?));
    }
    // Without it transformers does not open the file.
    let format = HashMap::from([("format".to_string(), "pt".to_string())]);
    let weights = safetensors::serialize(views, Some(format)).map_err(failed)?;
    Ok([(CONFIG, (json(&of.config())? + "\n").into_bytes()), (WEIGHTS, weights)])
}
