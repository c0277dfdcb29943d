//! `engine predict`: what a trained run gives for inputs whose targets nobody knows.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read, Seek, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value};

use super::args::{DeviceArg, RunFolderArgs, expect_apart, weights_of};
use crate::bar::Bar;
use crate::batch::Field;
use crate::datasets::matrix::{IN_MEMORY, Matrix};
use crate::datasets::npz::{Look, Npz, Numbers, write_arrays};
use crate::datasets::open_regular;
use crate::datasets::samples::Column;
use crate::datasets::tables::is_table;
use crate::error::{Error, Failure, Result};
use crate::files;
use crate::host::Host;
use crate::predict::{Predictor, most_probable, probabilities};
use crate::registry::{Config, DataConfig};
use crate::tasks::{DataKind, InputRows, InputSource};

/// Largest number of samples in a batch, for a file.
const BATCH: usize = 64;

/// Number of models that are kept ready for inputs of different shapes.
const READY: usize = 8;

/// Largest number of bytes in a line.
const LONGEST_LINE: u64 = 64 << 20;

/// Outputs of a trained run for inputs without targets: of a file, or of JSON lines on standard input
#[derive(Debug, Args)]
pub(super) struct PredictArgs {
    #[command(flatten)]
    weights: RunFolderArgs,
    /// Inputs: arrays or columns by the names of the training file, or a JSON value a line [default, and `-`: JSON lines on standard input]
    #[arg(long, value_name = "FILE.npz|FILE.csv|FILE.parquet|FILE.jsonl|FOLDER")]
    data: Option<PathBuf>,
    /// File to write [default: JSON lines on standard output]
    #[arg(long, value_name = "FILE.npz|FILE.csv|FILE.jsonl")]
    out: Option<PathBuf>,
    /// Probabilities of all classes too, of a model that tells classes apart
    #[arg(long)]
    probabilities: bool,
    #[command(flatten)]
    device: DeviceArg,
}

pub(super) fn run(host: &Host, args: PredictArgs) -> Result<()> {
    let PredictArgs { weights, data, out, probabilities, device } = args;
    let run = weights.folder()?;
    let config = Config::of_run(run)?;
    if let Some(out) = &out {
        expect_apart(out, &data.iter().map(PathBuf::as_path).collect::<Vec<_>>(), run)?;
    }
    // Says which weights they are.
    weights_of(host, &weights)?;
    let batch = if data.as_ref().is_some_and(|file| file.as_os_str() != "-") { BATCH } else { 1 };
    let mut models = Models::new(host, run, &weights.checkpoint, device.device.as_deref(), batch)?;
    let mut sink = Sink::new(host, out, probabilities, &config.data)?;
    match data.filter(|file| file.as_os_str() != "-") {
        Some(file) => {
            if is_table(&file) {
                let Some(fields) = config.data.read_inputs(InputSource::File(&file))? else {
                    return Err(Error::Data(format!(
                        "{}: this run reads no tables and no .npy files: give a .npz or .jsonl",
                        file.display()
                    )));
                };
                of_fields(&mut models, fields, &file, &mut sink)?;
                return sink.finish();
            }
            let mut opened = BufReader::new(open_regular(&file, "a .npz or .jsonl")?);
            let start = opened.fill_buf().map_err(|e| Error::read(&file, e))?;
            if start.starts_with(b"PK") || files::extension(&file) == "npz" {
                match config.data.read_inputs(InputSource::File(&file))? {
                    Some(fields) => of_fields(&mut models, fields, &file, &mut sink)?,
                    None => of_arrays(&mut models, &file, &mut sink)?,
                }
            } else {
                of_lines(&mut models, &config.data, opened, &file.display().to_string(), &mut sink)?;
            }
        }
        None => {
            let stdin = std::io::stdin();
            if stdin.is_terminal() {
                host.note("reading JSON lines from standard input; --data names a file");
            }
            of_lines(&mut models, &config.data, stdin.lock(), "standard input", &mut sink)?;
        }
    }
    sink.finish()
}

/// Model of a run, compiled for inputs of the shapes that have come so far.
struct Models<'a> {
    host: &'a Host,
    run: &'a Path,
    checkpoint: &'a str,
    device: Option<&'a str>,
    batch: usize,
    /// Input fields, as the model was trained.
    fields: Vec<Field>,
    ready: Vec<(Shapes, Predictor)>,
}

/// Names and shapes of inputs.
type Shapes = Vec<(String, Vec<usize>)>;

impl<'a> Models<'a> {
    /// Opens the model with the input shapes of its training data.
    fn new(host: &'a Host, run: &'a Path, checkpoint: &'a str, device: Option<&'a str>, batch: usize) -> Result<Models<'a>> {
        let trained = Predictor::open(run, checkpoint, host, device, &[], batch)?;
        let fields: Vec<Field> = trained.fields().into_iter().cloned().collect();
        let shapes = fields.iter().map(|field| (field.name.to_string(), field.shape.clone())).collect();
        Ok(Models { host, run, checkpoint, device, batch, fields, ready: vec![(shapes, trained)] })
    }

    /// The model for inputs of these shapes.
    fn of(&mut self, shapes: &Shapes) -> Result<&Predictor> {
        // A row of numbers stands for any shape of as many.
        let of_field = |field: &Field| shapes.iter().find(|(name, _)| *name == field.name).map(|(_, shape)| shape);
        let as_trained = |field: &Field| of_field(field).is_some_and(|shape| *shape == field.shape || *shape == [field.len()]);
        if self.fields.iter().all(as_trained) {
            return Ok(&self.ready[0].1);
        }
        let at = match self.ready.iter().position(|(known, _)| known == shapes) {
            Some(at) => at,
            None => {
                let given: Vec<(&str, Vec<usize>)> = shapes.iter().map(|(name, shape)| (name.as_str(), shape.clone())).collect();
                let model = Predictor::open(self.run, self.checkpoint, self.host, self.device, &given, self.batch)?;
                model.fields().into_iter().try_for_each(|field| expect_shape(field, &given))?;
                if self.ready.len() == READY {
                    self.ready.remove(1);
                }
                self.ready.push((shapes.clone(), model));
                self.ready.len() - 1
            }
        };
        Ok(&self.ready[at].1)
    }
}

/// Fails on a sample that has the numbers of a field in another shape, or another number of them.
fn expect_shape(field: &Field, given: &[(&str, Vec<usize>)]) -> Result<()> {
    let shape = given.iter().find(|(name, _)| *name == field.name).map(|(_, shape)| shape);
    let Some(shape) = shape.filter(|shape| **shape != field.shape && **shape != [field.len()]) else { return Ok(()) };
    let shorter = if field.below.is_some() && field.shape.len() == 1 {
        ". `engine generate --prompt` continues shorter ones; or fill the end, which no earlier position sees"
    } else {
        ""
    };
    Err(Error::Data(format!("`{}` has shape {shape:?}; {}{shorter}", field.name, field.describe())))
}

/// Predicts all samples in the arrays of a file.
fn of_arrays(models: &mut Models<'_>, file: &Path, sink: &mut Sink<'_>) -> Result<()> {
    let mut npz = Npz::open(file)?;
    let names = npz.names();
    let mut arrays = Vec::new();
    for field in &models.fields {
        let found = names.iter().find(|name| field.is_read_as(name)).ok_or_else(|| {
            let wanted = [&[field.name], field.arrays].concat().join("`, `");
            Error::Data(format!("{}: no array `{wanted}`. There are {}", file.display(), names.join(", ")))
        })?;
        let (shape, matrix) = npz.matrix(found, IN_MEMORY, Look::Here)?;
        let Some((rows, shape)) = shape.split_first().filter(|(rows, _)| **rows > 0) else {
            return Err(Error::Data(format!("{}: {found} has shape {shape:?}: there is no sample", file.display())));
        };
        arrays.push((field.name.to_string(), shape.to_vec(), *rows, Rows::Matrix(matrix)));
    }
    let rows = arrays.first().map_or(0, |(_, _, rows, _)| *rows);
    if let Some((name, _, other, _)) = arrays.iter().find(|(_, _, other, _)| *other != rows) {
        return Err(Error::Data(format!("{}: {other} samples of `{name}`, {rows} of `{}`", file.display(), arrays[0].0)));
    }
    of_rows(models, &arrays, None, None, file, sink)
}

/// Predicts all samples that the data of the run read from a file.
fn of_fields(models: &mut Models<'_>, rows: InputRows, file: &Path, sink: &mut Sink<'_>) -> Result<()> {
    let InputRows { rows: numbers, fields, left_out } = rows;
    if left_out > 0 {
        let all = numbers.len() + left_out;
        let gaps: Vec<String> = (0..all).filter(|row| !numbers.contains(row)).map(|row| row.to_string()).take(20).collect();
        let more = if left_out > gaps.len() { ", …" } else { "" };
        models.host.note(&format!(
            "left out    {left_out} of the {all} rows, which have a number that is missing or not finite, get no prediction: samples {}{more}, counted from 0",
            gaps.join(", ")
        ));
    }
    let lengths = fields.iter().find(|(name, _)| *name == "lengths").map(|(_, column)| column.values.clone());
    let used = fields.into_iter().filter(|(name, ..)| models.fields.iter().any(|field| field.name == *name));
    let count = numbers.len();
    let arrays: Vec<FieldRows> =
        used.map(|(name, column)| (name.to_string(), column.known.shape.clone(), count, Rows::Column(column))).collect();
    of_rows(models, &arrays, Some(&numbers), lengths.as_deref(), file, sink)
}

/// Values of a field, sample by sample.
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

/// Name of a field, shape of a sample, number of samples, and their values.
type FieldRows = (String, Vec<usize>, usize, Rows);

/// Predicts samples; `numbers_of` are those of their rows in the file, which without them are all. After the end of a sequence, by its
/// length, outputs are NaN.
fn of_rows(
    models: &mut Models<'_>,
    arrays: &[FieldRows],
    numbers_of: Option<&[usize]>,
    lengths: Option<&[f32]>,
    file: &Path,
    sink: &mut Sink<'_>,
) -> Result<()> {
    let rows = arrays.first().map_or(0, |(_, _, rows, _)| *rows);
    let shapes: Shapes = arrays.iter().map(|(name, shape, ..)| (name.clone(), shape.clone())).collect();
    let host = models.host;
    let model = models.of(&shapes).map_err(|e| e.of(&format!("{}, whose first axis counts samples", file.display())))?;
    let bar = if sink.to_terminal() { None } else { Bar::new(host, rows as u64, "samples") };
    for first in (0..rows).step_by(model.batch()) {
        let count = model.batch().min(rows - first);
        let numbers = |rows: &Rows| (first..first + count).flat_map(|i| rows.row(i)).collect::<Vec<f32>>();
        let values: Vec<(&str, Vec<f32>)> = arrays.iter().map(|(name, _, _, rows)| (name.as_str(), numbers(rows))).collect();
        arrays.iter().try_for_each(|(_, _, _, rows)| rows.check())?;
        let inputs: Vec<(&str, &[f32])> = values.iter().map(|(name, values)| (*name, values.as_slice())).collect();
        let mut outputs = model.predict_from(first, count, &inputs).map_err(|e| e.of(&file.display().to_string()))?;
        if let (Some(lengths), Some(positions)) = (lengths, model.positions()) {
            let len = outputs.len() / count;
            let samples = outputs.chunks_mut(len).zip(&lengths[first..]);
            samples.for_each(|(output, length)| output[*length as usize * (len / positions)..].fill(f32::NAN));
        }
        let rows = numbers_of.map_or_else(|| (first..first + count).collect(), |numbers| numbers[first..first + count].to_vec());
        sink.take(model, &rows, &outputs, None)?;
        if sink.closed() {
            break;
        }
        bar.iter().for_each(|bar| bar.add(count as u64));
    }
    bar.iter().for_each(Bar::clear);
    Ok(())
}

/// Predicts samples given line by line, each as soon as it arrives.
fn of_lines(models: &mut Models<'_>, data: &impl DataKind, lines: impl BufRead, source: &str, sink: &mut Sink<'_>) -> Result<()> {
    let fields = models.fields.clone();
    let (mut lines, mut sample, mut number) = (lines, 0, 0);
    let mut bytes = Vec::new();
    while !sink.closed() {
        number += 1;
        bytes.clear();
        let read = lines.by_ref().take(LONGEST_LINE + 1).read_until(b'\n', &mut bytes);
        let at = |what: &str| Error::Data(format!("{source}, line {number}: {what}"));
        if read.map_err(|e| Error::Io(Failure::new(format!("{source}, line {number}: {e}"), e)))? == 0 {
            break;
        }
        if bytes.len() as u64 > LONGEST_LINE {
            return Err(at(&format!("it is longer than {LONGEST_LINE} bytes: give each sample a line of its own")));
        }
        let line = std::str::from_utf8(&bytes).map_err(|_| at("it is no UTF-8 text. Save the file as UTF-8, one JSON value a line"))?;
        // Some editors put a mark before the first line.
        let line = if number == 1 { line.trim_start_matches('\u{feff}') } else { line };
        if line.trim().is_empty() {
            continue;
        }
        let mut value: Value = serde_json::from_str(line.trim_end()).map_err(|e| at(&format!("no JSON: {e}")))?;
        let id = value.get("id").cloned();
        let row = match &value {
            Value::Object(row) => data.read_inputs(InputSource::Row(&format!("{source}, line {number}"), row))?,
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
                inputs_of(&fields, &value).map_err(|why| at(&why))?
            }
        };
        let shapes: Shapes = inputs.iter().map(|(name, shape, _)| (name.clone(), shape.clone())).collect();
        let model = models.of(&shapes).map_err(|e| e.of(&format!("{source}, line {number}")))?;
        let given: Vec<(&str, &[f32])> = inputs.iter().map(|(name, _, values)| (name.as_str(), values.as_slice())).collect();
        let outputs = model.predict(1, &given).map_err(|e| e.of(&format!("{source}, line {number}")))?;
        sink.take(model, &[sample], &outputs, id)?;
        sample += 1;
    }
    match sample {
        0 => Err(Error::Data(format!("{source}: there is no sample"))),
        _ => Ok(()),
    }
}

/// Name, shape and values of an input.
type Input = (String, Vec<usize>, Vec<f32>);

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
            numbers.push(value.as_f64().or_else(word).ok_or_else(|| format!("{value} is no {what}"))? as f32);
            Ok(())
        }
    }
}

/// Arranges values of a shape as nested lists.
fn nested(values: &[Value], shape: &[usize]) -> Value {
    match shape {
        [] => values.first().cloned().unwrap_or_default(),
        [_] => values.to_vec().into(),
        [first, rest @ ..] => values.chunks((values.len() / first).max(1)).map(|part| nested(part, rest)).collect::<Vec<_>>().into(),
    }
}

/// Destination of the outputs.
enum Target<'a> {
    Terminal(&'a Host),
    Lines(File, PathBuf),
    Csv(File, PathBuf),
    Npz(PathBuf),
}

struct Sink<'a> {
    target: Target<'a>,
    probabilities: bool,
    /// Data of the run, which may have names for the outputs.
    data: &'a DataConfig,
    /// Contents of an .npz file so far: numbers of the samples, shape of an output, outputs, and number of classes.
    collected: (Vec<i32>, Vec<usize>, Vec<f32>, Option<usize>),
    /// True once a table has its header.
    headed: bool,
}

impl<'a> Sink<'a> {
    fn new(host: &'a Host, out: Option<PathBuf>, probabilities: bool, data: &'a DataConfig) -> Result<Self> {
        let target = match out {
            None => Target::Terminal(host),
            Some(path) if files::extension(&path) == "npz" => Target::Npz(path),
            // A file without a name, which goes with the process; it is copied to its place when all is there.
            Some(path) => match files::extension(&path).as_str() {
                "csv" => Target::Csv(nameless(&path)?, path),
                "jsonl" => Target::Lines(nameless(&path)?, path),
                other => return Err(Error::Config(format!("--out {}: no format .{other}. Give a .npz, .csv or .jsonl", path.display()))),
            },
        };
        Ok(Sink { target, probabilities, data, collected: Default::default(), headed: false })
    }

    fn to_terminal(&self) -> bool {
        matches!(self.target, Target::Terminal(_))
    }

    /// True when nobody reads the outputs any more.
    fn closed(&self) -> bool {
        matches!(&self.target, Target::Terminal(host) if host.closed())
    }

    /// Writes the outputs of samples with these numbers.
    fn take(&mut self, model: &Predictor, numbers: &[usize], outputs: &[f32], id: Option<Value>) -> Result<()> {
        if self.probabilities && model.classes().is_none() {
            return Err(Error::Config("--probabilities: this model tells no classes apart".into()));
        }
        let len = outputs.len() / numbers.len();
        if let Target::Npz(_) = self.target {
            let (samples, shape, values, classes) = &mut self.collected;
            if !samples.is_empty() && shape != model.shape() {
                return Err(Error::Data(format!(
                    "outputs of shape {shape:?} and of {:?}: an .npz file holds outputs of one shape. Write a .jsonl",
                    model.shape()
                )));
            }
            (*shape, *classes) = (model.shape().to_vec(), model.classes());
            samples.extend(numbers.iter().map(|sample| *sample as i32));
            values.extend_from_slice(outputs);
            return Ok(());
        }
        for (number, output) in numbers.iter().zip(outputs.chunks(len)) {
            let columns = self.columns(model, output);
            match &mut self.target {
                Target::Csv(file, path) => {
                    if !std::mem::replace(&mut self.headed, true) {
                        writeln!(file, "{}", header(model, self.data, &columns)).map_err(|e| Error::write(path, e))?;
                    }
                    let text = |value: &Value| match value {
                        Value::Null => "NaN".to_string(),
                        Value::String(word) => quoted(word),
                        other => other.to_string(),
                    };
                    let row: Vec<String> = columns.iter().flat_map(|(_, _, values)| values.iter().map(text)).collect();
                    writeln!(file, "{},{}", number, row.join(",")).map_err(|e| Error::write(path, e))?;
                }
                target => {
                    let mut line = Map::new();
                    line.insert("sample".into(), (*number).into());
                    line.extend(id.iter().map(|id| ("id".to_string(), id.clone())));
                    let named = |name: &str, shape: &[usize], values: &[Value]| match name {
                        "probabilities" => by_class(model, shape, values),
                        _ => nested(values, shape),
                    };
                    line.extend(columns.iter().map(|(name, shape, values)| (name.to_string(), named(name, shape, values))));
                    let line = Value::Object(line).to_string();
                    match target {
                        Target::Lines(file, path) => writeln!(file, "{line}").map_err(|e| Error::write(path, e))?,
                        Target::Terminal(host) => host.print(&line)?,
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// Columns of a sample: name, shape and values of each.
    fn columns(&self, model: &Predictor, output: &[f32]) -> Vec<(&'static str, Vec<usize>, Vec<Value>)> {
        let numbers = |values: &[f32]| values.iter().map(|v| shortest(*v)).collect::<Vec<_>>();
        let Some(classes) = model.classes() else { return vec![("output", model.shape().to_vec(), numbers(output))] };
        let rows = model.shape()[..model.shape().len() - 1].to_vec();
        let word = |class: u32| model.words().get(class as usize).map_or(Value::from(class), |word| Value::from(word.as_str()));
        let best = classes_of(output, classes).map(|class| class.map_or(Value::Null, word)).collect();
        let mut columns = vec![("prediction", rows, best)];
        if self.probabilities {
            columns.push(("probabilities", model.shape().to_vec(), numbers(&probabilities(output, classes))));
        }
        columns
    }

    fn finish(self) -> Result<()> {
        let (samples, shape, values, classes) = self.collected;
        match self.target {
            Target::Terminal(_) => Ok(()),
            Target::Lines(mut file, path) | Target::Csv(mut file, path) => {
                file.rewind().map_err(|e| Error::write(&path, e))?;
                files::replace(&path, Error::create, |to| std::io::copy(&mut file, to).map(drop))
            }
            Target::Npz(path) => {
                let (count, whole) = (samples.len(), [&[samples.len()], &shape[..]].concat());
                let mut arrays = vec![("sample", vec![count], Numbers::I32(&samples))];
                let number = |class: Option<u32>| class.map_or(-1, |class| class as i32);
                let best: Vec<i32> = classes.iter().flat_map(|classes| classes_of(&values, *classes)).map(number).collect();
                let probable = classes.filter(|_| self.probabilities).map(|classes| probabilities(&values, classes));
                match classes {
                    None => arrays.push(("outputs", whole, Numbers::F32(&values))),
                    Some(_) => {
                        arrays.push(("predictions", whole[..whole.len() - 1].to_vec(), Numbers::I32(&best)));
                        arrays.extend(probable.iter().map(|probable| ("probabilities", whole.clone(), Numbers::F32(probable))));
                    }
                }
                write_arrays(&path, &arrays.iter().map(|(name, shape, values)| (*name, shape.as_slice(), *values)).collect::<Vec<_>>())
            }
        }
    }
}

/// The most probable class of each row of logits; none after the end of a sequence.
fn classes_of(logits: &[f32], classes: usize) -> impl Iterator<Item = Option<u32>> {
    most_probable(logits, classes).into_iter().zip(logits.chunks(classes)).map(|(class, row)| (!row[0].is_nan()).then_some(class))
}

/// A file without a name beside this one.
fn nameless(path: &Path) -> Result<File> {
    tempfile::tempfile_in(files::folder_of(path)).map_err(|e| Error::create(path, e))
}

/// A number with the fewest digits that identify it among 32-bit floats; null if it is not finite.
fn shortest(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

/// A word as a cell of a CSV table.
fn quoted(word: &str) -> String {
    if word.contains([',', '"', '\n', '\r']) { format!("\"{}\"", word.replace('"', "\"\"")) } else { word.to_string() }
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

/// Header of a CSV table: the names of its columns. Of quantities they are those that the data have.
fn header(model: &Predictor, data: &DataConfig, columns: &[(&'static str, Vec<usize>, Vec<Value>)]) -> String {
    let words = model.words();
    let names = columns.iter().flat_map(|(name, _, values)| {
        let answers = if *name == "output" { data.answers(values.len()) } else { vec![] };
        let name_of = move |i: usize| match (answers.get(i), words.get(i)) {
            (Some(answer), _) => quoted(answer),
            (None, Some(word)) if *name == "probabilities" => quoted(&format!("{name}_{word}")),
            _ => format!("{name}_{i}"),
        };
        (0..values.len()).map(name_of)
    });
    ["sample".to_string()].into_iter().chain(names).collect::<Vec<_>>().join(",")
}
