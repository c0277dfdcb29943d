//! Predictions as JSON, and as arrays of an `.npz` file.

use std::path::Path;

use serde_json::{Map, Value};

use super::predictor::Predictor;
use crate::datasets::npz::{Numbers, write_arrays};
use crate::error::{Error, Result};
use crate::metrics::first_largest;

/// The most probable class of each row of logits.
pub fn most_probable(logits: &[f32], classes: usize) -> Vec<u32> {
    logits.chunks(classes).map(|row| first_largest(row) as u32).collect()
}

/// Softmax of each row of logits: exp(x − max) / Σ exp(x − max).
pub fn probabilities(logits: &[f32], classes: usize) -> Vec<f32> {
    let softmax = |row: &[f32]| {
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let powers: Vec<f64> = row.iter().map(|x| f64::from(x - most).exp()).collect();
        let sum: f64 = powers.iter().sum();
        powers.into_iter().map(move |p| (p / sum) as f32).collect::<Vec<_>>()
    };
    logits.chunks(classes).flat_map(softmax).collect()
}

/// Fails if a model has no probabilities of classes; `asked` is what asks for them.
///
/// # Errors
/// `Config` when it tells no classes apart.
pub fn expect_classes(model: &Predictor, asked: &str) -> Result<()> {
    model.classes().map(drop).ok_or_else(|| Error::Config(format!("{asked}: this model tells no classes apart")))
}

/// Columns of the prediction of a sample: name, shape and values of each. They are `output`; of a classifier `prediction`, the most
/// probable class of each row as a word or a number, and `probabilities` if they are asked for.
pub fn columns(model: &Predictor, with_probabilities: bool, output: &[f32]) -> Vec<(&'static str, Vec<usize>, Vec<Value>)> {
    let numbers = |values: &[f32]| values.iter().map(|v| shortest(*v)).collect::<Vec<_>>();
    let Some(classes) = model.classes() else { return vec![("output", model.shape().to_vec(), numbers(output))] };
    let rows = model.shape()[..model.shape().len() - 1].to_vec();
    let word = |class: u32| model.words().get(class as usize).map_or(Value::from(class), |word| Value::from(word.as_str()));
    let best = classes_of(output, classes).map(|class| class.map_or(Value::Null, word)).collect();
    let mut columns = vec![("prediction", rows, best)];
    if with_probabilities {
        columns.push(("probabilities", model.shape().to_vec(), numbers(&probabilities(output, classes))));
    }
    columns
}

/// The prediction of a sample as a JSON object: its number, its `id` if it has one, and its columns as nested lists.
pub fn line(model: &Predictor, with_probabilities: bool, number: usize, id: Option<Value>, output: &[f32]) -> Value {
    let mut line = Map::new();
    line.insert("sample".into(), number.into());
    line.extend(id.map(|id| ("id".to_string(), id)));
    let named = |name: &str, shape: &[usize], values: &[Value]| match name {
        "probabilities" => by_class(model, shape, values),
        _ => nested(values, shape),
    };
    let columns = columns(model, with_probabilities, output);
    line.extend(columns.iter().map(|(name, shape, values)| (name.to_string(), named(name, shape, values))));
    Value::Object(line)
}

/// Predictions that become arrays: `sample` and `outputs`, or of a classifier `predictions`, and `probabilities` if they are asked for.
#[derive(Debug, Default)]
pub struct Arrays {
    samples: Vec<i32>,
    shape: Vec<usize>,
    values: Vec<f32>,
    classes: Option<usize>,
}

impl Arrays {
    /// Takes the outputs of samples with these numbers.
    ///
    /// # Errors
    /// `Data` when they have another shape than those before.
    pub fn take(&mut self, model: &Predictor, numbers: &[usize], outputs: &[f32]) -> Result<()> {
        if !self.samples.is_empty() && self.shape != model.shape() {
            return Err(Error::Data(format!(
                "outputs of shape {:?} and of {:?}: an .npz file holds outputs of one shape. Write a .jsonl",
                self.shape,
                model.shape()
            )));
        }
        (self.shape, self.classes) = (model.shape().to_vec(), model.classes());
        self.samples.extend(numbers.iter().map(|sample| *sample as i32));
        self.values.extend_from_slice(outputs);
        Ok(())
    }

    /// Writes the file.
    ///
    /// # Errors
    /// `CannotCreate` or `Io` when it cannot be written.
    pub fn write(&self, path: &Path, with_probabilities: bool) -> Result<()> {
        let Arrays { samples, shape, values, classes } = self;
        let (count, whole) = (samples.len(), [&[samples.len()], &shape[..]].concat());
        let mut arrays = vec![("sample", vec![count], Numbers::I32(samples))];
        let number = |class: Option<u32>| class.map_or(-1, |class| class as i32);
        let best: Vec<i32> = classes.iter().flat_map(|classes| classes_of(values, *classes)).map(number).collect();
        let probable = classes.filter(|_| with_probabilities).map(|classes| probabilities(values, classes));
        match classes {
            None => arrays.push(("outputs", whole, Numbers::F32(values))),
            Some(_) => {
                arrays.push(("predictions", whole[..whole.len() - 1].to_vec(), Numbers::I32(&best)));
                arrays.extend(probable.iter().map(|probable| ("probabilities", whole.clone(), Numbers::F32(probable))));
            }
        }
        write_arrays(path, &arrays.iter().map(|(name, shape, values)| (*name, shape.as_slice(), *values)).collect::<Vec<_>>())
    }
}

/// The most probable class of each row of logits; none after the end of a sequence.
fn classes_of(logits: &[f32], classes: usize) -> impl Iterator<Item = Option<u32>> {
    most_probable(logits, classes).into_iter().zip(logits.chunks(classes)).map(|(class, row)| (!row[0].is_nan()).then_some(class))
}

/// A number with the fewest digits that identify it among 32-bit floats; null if it is not finite.
fn shortest(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

/// Arranges values of a shape as nested lists.
fn nested(values: &[Value], shape: &[usize]) -> Value {
    match shape {
        [] => values.first().cloned().unwrap_or_default(),
        [_] => values.to_vec().into(),
        [first, rest @ ..] => values.chunks((values.len() / first).max(1)).map(|part| nested(part, rest)).collect::<Vec<_>>().into(),
    }
}

/// Probabilities as an object with the words of the classes, if they have words, at each position of a sequence.
fn by_class(model: &Predictor, shape: &[usize], values: &[Value]) -> Value {
    let (words, [rows @ .., classes]) = (model.words(), shape) else { return nested(values, shape) };
    if words.len() != *classes {
        return nested(values, shape);
    }
    let named = |row: &[Value]| Value::Object(words.iter().cloned().zip(row.iter().cloned()).collect());
    nested(&values.chunks(*classes).map(named).collect::<Vec<_>>(), rows)
}
