//! Inputs without targets: of JSON, and of files.

use std::path::Path;

use serde_json::Value;

use super::predictors::Shapes;
use crate::batch::Field;
use crate::datasets::matrix::{IN_MEMORY, Matrix};
use crate::datasets::npz::{Look, Npz};
use crate::datasets::samples::Column;
use crate::datasets::tables::is_table;
use crate::error::{Error, Result, shortened};
use crate::tasks::{DataKind, InputRows, InputSource};

/// Name, shape and values of an input.
pub type Input = (String, Vec<usize>, Vec<f32>);

/// Inputs of one sample, and the name that its sender knows it by.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Inputs of the model.
    pub inputs: Vec<Input>,
    /// Value of `id`, which goes with the prediction.
    pub id: Option<Value>,
}

impl Sample {
    /// Reads a sample for a model with these fields: a row of a table by the names of its columns, an object with a list for each field, or
    /// the list of the only field. `place` is where it stands, for messages.
    ///
    /// # Errors
    /// `Data` when it is none.
    pub fn of_json(data: &impl DataKind, fields: &[Field], mut value: Value, place: &str) -> Result<Sample> {
        let id = value.get("id").cloned();
        let row = match &value {
            Value::Object(row) => data.read_inputs(InputSource::Row(place, row))?,
            _ => None,
        };
        let inputs = match row {
            Some(row) => row
                .fields
                .into_iter()
                .filter(|(name, _)| fields.iter().any(|field| field.name == *name))
                .map(|(name, column)| (name.to_string(), column.known.shape.clone(), column.sample(0).to_vec()))
                .collect(),
            None => {
                value.as_object_mut().and_then(|object| object.remove("id"));
                inputs_of(fields, &value).map_err(|why| Error::Data(format!("{place}: {why}")))?
            }
        };
        Ok(Sample { inputs, id })
    }

    /// Names and shapes of its inputs.
    pub fn shapes(&self) -> Shapes {
        self.inputs.iter().map(|(name, shape, _)| (name.clone(), shape.clone())).collect()
    }
}

/// Inputs in a line: an object with one key for each, or the value of the only one. A sequence without a length counts as a whole.
fn inputs_of(fields: &[Field], value: &Value) -> std::result::Result<Vec<Input>, String> {
    let whole = fields.iter().position(|field| field.name == "lengths").filter(|_| value.get("lengths").is_none());
    if let Some(at) = whole {
        let others: Vec<Field> = fields.iter().filter(|field| field.name != "lengths").cloned().collect();
        let mut inputs = inputs_of(&others, value)?;
        // Of the sequences: other inputs have axes of their own.
        let sequence = others.iter().position(|field| field.each_position);
        let length = sequence.and_then(|at| inputs[at].1.first()).copied().unwrap_or(1);
        inputs.insert(at, ("lengths".into(), vec![], vec![length as f32]));
        return Ok(inputs);
    }
    let takes = || fields.iter().map(|field| format!("`{}`", field.name)).collect::<Vec<_>>().join(", ");
    let of = |field: &Field, value: &Value| {
        let (mut shape, mut numbers) = (vec![], vec![]);
        flatten(field, value, 0, &mut shape, &mut numbers).map_err(|why| format!("`{}`: {why}", field.name))?;
        Ok((field.name.to_string(), shape, numbers))
    };
    match (value, fields) {
        (Value::Object(object), _) => {
            if let Some(other) = object.keys().find(|key| fields.iter().all(|field| !field.is_read_as(key))) {
                return Err(format!("the model has no input `{other}`. It takes {}", takes()));
            }
            let found = |field: &Field| object.iter().find(|(key, _)| field.is_read_as(key)).map(|(_, value)| value);
            let missing = |field: &Field| format!("`{}` is missing. The model takes {}", field.name, takes());
            fields.iter().map(|field| of(field, found(field).ok_or_else(|| missing(field))?)).collect()
        }
        (value, [field]) => Ok(vec![of(field, value)?]),
        _ => Err(format!("the model takes {}: give an object with these keys", takes())),
    }
}

/// Reads nested lists of equal lengths into a flat list of numbers and a shape; a word of the field is its number.
fn flatten(field: &Field, value: &Value, depth: usize, shape: &mut Vec<usize>, numbers: &mut Vec<f32>) -> std::result::Result<(), String> {
    match value {
        Value::Array(list) => {
            if depth == shape.len() && numbers.is_empty() {
                shape.push(list.len());
            }
            if shape.get(depth) != Some(&list.len()) {
                return Err("lists that are of different lengths, or numbers beside lists".into());
            }
            list.iter().try_for_each(|inner| flatten(field, inner, depth + 1, shape, numbers))
        }
        _ if depth != shape.len() => Err("lists that are of different lengths, or numbers beside lists".into()),
        _ => {
            let word = || field.words.iter().position(|word| value.as_str() == Some(word)).map(|at| at as f64);
            let what = if field.words.is_empty() { "number" } else { "word of the training data" };
            numbers.push(value.as_f64().or_else(word).ok_or_else(|| format!("{} is no {what}", shortened(&value.to_string())))? as f32);
            Ok(())
        }
    }
}

/// Values of a field, sample by sample.
#[derive(Debug)]
enum Rows {
    Matrix(Matrix),
    Column(Column),
}

impl Rows {
    fn row(&self, i: usize) -> Vec<f32> {
        match self {
            Rows::Matrix(matrix) => matrix.row(i),
            Rows::Column(column) => column.sample(i).to_vec(),
        }
    }

    /// Fails if a row could not be read.
    fn check(&self) -> Result<()> {
        match self {
            Rows::Matrix(matrix) => matrix.check(),
            Rows::Column(_) => Ok(()),
        }
    }
}

/// Samples of a file, all of the same shapes.
#[derive(Debug)]
pub struct FileInputs {
    /// Row of each sample in the file, or of the first moment of its window.
    pub numbers: Vec<usize>,
    /// Number of rows that were left out, as some of their numbers are missing or not finite.
    pub left_out: usize,
    /// Name of a field, shape of a sample, and the values.
    fields: Vec<(String, Vec<usize>, Rows)>,
}

impl FileInputs {
    /// Reads a file as training reads it, without targets: a table, an `.npz`, or a folder of `.npy` files.
    ///
    /// # Errors
    /// `MissingInput` without the file, `Data` when it cannot be used.
    pub fn read(data: &impl DataKind, fields: &[Field], file: &Path) -> Result<FileInputs> {
        match data.read_inputs(InputSource::File(file))? {
            Some(rows) => Ok(FileInputs::of_rows(rows, fields)),
            None if is_table(file) => {
                Err(Error::Data(format!("{}: this run reads no tables and no .npy files: give a .npz or .jsonl", file.display())))
            }
            None => FileInputs::of_arrays(fields, file),
        }
    }

    fn of_rows(InputRows { rows, fields: found, left_out }: InputRows, fields: &[Field]) -> FileInputs {
        // Lengths say where sequences end, of models that do not look at them, too.
        let used = found.into_iter().filter(|(name, _)| *name == "lengths" || fields.iter().any(|field| field.name == *name));
        let fields = used.map(|(name, column)| (name.to_string(), column.known.shape.clone(), Rows::Column(column))).collect();
        FileInputs { numbers: rows, left_out, fields }
    }

    fn of_arrays(fields: &[Field], file: &Path) -> Result<FileInputs> {
        let mut npz = Npz::open(file)?;
        let names = npz.names();
        let mut arrays = Vec::new();
        let mut counts: Vec<(&str, usize)> = Vec::new();
        for field in fields {
            let found = names.iter().find(|name| field.is_read_as(name)).ok_or_else(|| {
                let wanted = [&[field.name], field.arrays].concat().join("`, `");
                Error::Data(format!("{}: no array `{wanted}`. There are {}", file.display(), names.join(", ")))
            })?;
            let (shape, matrix) = npz.matrix(found, IN_MEMORY, Look::Here)?;
            let Some((rows, shape)) = shape.split_first().filter(|(rows, _)| **rows > 0) else {
                return Err(Error::Data(format!("{}: {found} has shape {shape:?}: there is no sample", file.display())));
            };
            arrays.push((field.name.to_string(), shape.to_vec(), Rows::Matrix(matrix)));
            counts.push((field.name, *rows));
        }
        let (first, rows) = counts.first().copied().unwrap_or(("", 0));
        if let Some((name, other)) = counts.iter().find(|(_, other)| *other != rows) {
            return Err(Error::Data(format!("{}: {other} samples of `{name}`, {rows} of `{first}`", file.display())));
        }
        Ok(FileInputs { numbers: (0..rows).collect(), left_out: 0, fields: arrays })
    }

    /// Number of samples.
    pub fn count(&self) -> usize {
        self.numbers.len()
    }

    /// Names and shapes of the inputs of a sample.
    pub fn shapes(&self) -> Shapes {
        self.fields.iter().map(|(name, shape, _)| (name.clone(), shape.clone())).collect()
    }

    /// Name and values of each input of `count` samples from `first` on.
    ///
    /// # Errors
    /// `Io` when they cannot be read.
    pub fn values(&self, first: usize, count: usize) -> Result<Vec<(String, Vec<f32>)>> {
        let rows = |rows: &Rows| (first..first + count).flat_map(|i| rows.row(i)).collect::<Vec<f32>>();
        let values = self.fields.iter().map(|(name, _, values)| (name.clone(), rows(values))).collect();
        self.fields.iter().try_for_each(|(_, _, rows)| rows.check())?;
        Ok(values)
    }
}
