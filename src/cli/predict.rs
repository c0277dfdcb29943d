//! `engine predict`: what a trained run gives for inputs whose targets nobody knows.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use clap::Args;
use serde_json::Value;

use super::args::{DeviceArg, RunFolderArgs, expect_apart, weights_of};
use crate::bar::Bar;
use crate::datasets::open_regular;
use crate::datasets::tables::is_table;
use crate::error::{Error, Failure, Result};
use crate::files;
use crate::host::Host;
use crate::predict::{Arrays, FileInputs, Predictor, Predictors, Sample, columns, expect_classes, line};
use crate::registry::{Config, DataConfig};
use crate::tasks::DataKind;

/// Largest number of samples in a batch, for a file.
const BATCH: usize = 64;

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
    let batch = if data.as_ref().is_some_and(|file| file.as_os_str() != "-") { BATCH } else { 1 };
    let opened = weights_of(host, &weights)?;
    let models = Predictors::open(host, config.clone(), Arc::new(Mutex::new(opened)), device.device.as_deref(), batch)?;
    let mut sink = Sink::new(host, out, probabilities, &config.data)?;
    match data.filter(|file| file.as_os_str() != "-") {
        Some(file) if is_table(&file) => of_file(host, &models, &file, &mut sink)?,
        Some(file) => {
            let mut opened = BufReader::new(open_regular(&file, "a .npz or .jsonl")?);
            let start = opened.fill_buf().map_err(|e| Error::read(&file, e))?;
            if start.starts_with(b"PK") || files::extension(&file) == "npz" {
                of_file(host, &models, &file, &mut sink)?;
            } else {
                of_lines(&models, opened, &file.display().to_string(), &mut sink)?;
            }
        }
        None => {
            let stdin = std::io::stdin();
            if stdin.is_terminal() {
                host.note("reading JSON lines from standard input; --data names a file");
            }
            of_lines(&models, stdin.lock(), "standard input", &mut sink)?;
        }
    }
    sink.finish()
}

/// Predicts all samples of a file that is no JSON lines.
fn of_file(host: &Host, models: &Predictors, file: &Path, sink: &mut Sink<'_>) -> Result<()> {
    let inputs = FileInputs::read(models.data(), models.fields(), file)?;
    let (rows, numbers) = (inputs.count(), &inputs.numbers);
    if inputs.left_out > 0 {
        let all = rows + inputs.left_out;
        let gaps: Vec<String> = (0..all).filter(|row| !numbers.contains(row)).map(|row| row.to_string()).take(20).collect();
        let more = if inputs.left_out > gaps.len() { ", …" } else { "" };
        host.note(&format!(
            "left out    {} of the {all} rows, which have a number that is missing or not finite, get no prediction: samples {}{more}, counted from 0",
            inputs.left_out,
            gaps.join(", ")
        ));
    }
    let shapes = inputs.shapes();
    models.of(&shapes).map_err(|e| e.of(&format!("{}, whose first axis counts samples", file.display())))?;
    let bar = if sink.to_terminal() { None } else { Bar::new(host, rows as u64, "samples") };
    for first in (0..rows).step_by(BATCH) {
        let count = BATCH.min(rows - first);
        let values = inputs.values(first, count)?;
        let given: Vec<(&str, &[f32])> = values.iter().map(|(name, values)| (name.as_str(), values.as_slice())).collect();
        let (outputs, model) = models.predict(&shapes, first, count, &given).map_err(|e| e.of(&file.display().to_string()))?;
        sink.take(&model, &numbers[first..first + count], &outputs, None)?;
        if sink.closed() {
            break;
        }
        bar.iter().for_each(|bar| bar.add(count as u64));
    }
    bar.iter().for_each(Bar::clear);
    Ok(())
}

/// Predicts samples given line by line, each as soon as it arrives.
fn of_lines(models: &Predictors, lines: impl BufRead, source: &str, sink: &mut Sink<'_>) -> Result<()> {
    let (mut lines, mut count, mut number) = (lines, 0, 0);
    let mut bytes = Vec::new();
    while !sink.closed() {
        number += 1;
        bytes.clear();
        let read = lines.by_ref().take(LONGEST_LINE + 1).read_until(b'\n', &mut bytes);
        let place = format!("{source}, line {number}");
        let at = |what: &str| Error::Data(format!("{place}: {what}"));
        if read.map_err(|e| Error::Io(Failure::new(format!("{place}: {e}"), e)))? == 0 {
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
        let value: Value = serde_json::from_str(line.trim_end()).map_err(|e| at(&format!("no JSON: {e}")))?;
        let sample = Sample::of_json(models.data(), models.fields(), value, &place)?;
        let given: Vec<(&str, &[f32])> = sample.inputs.iter().map(|(name, _, values)| (name.as_str(), values.as_slice())).collect();
        let (outputs, model) = models.predict(&sample.shapes(), 0, 1, &given).map_err(|e| e.of(&place))?;
        sink.take(&model, &[count], &outputs, sample.id)?;
        count += 1;
    }
    match count {
        0 => Err(Error::Data(format!("{source}: there is no sample"))),
        _ => Ok(()),
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
    /// Contents of an .npz file so far.
    arrays: Arrays,
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
        Ok(Sink { target, probabilities, data, arrays: Arrays::default(), headed: false })
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
        if self.probabilities {
            expect_classes(model, "--probabilities")?;
        }
        if let Target::Npz(_) = self.target {
            return self.arrays.take(model, numbers, outputs);
        }
        let len = outputs.len() / numbers.len();
        for (number, output) in numbers.iter().zip(outputs.chunks(len)) {
            match &mut self.target {
                Target::Csv(file, path) => {
                    let columns = columns(model, self.probabilities, output);
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
                    let line = line(model, self.probabilities, *number, id.clone(), output).to_string();
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

    fn finish(self) -> Result<()> {
        match self.target {
            Target::Terminal(_) => Ok(()),
            Target::Lines(mut file, path) | Target::Csv(mut file, path) => {
                file.rewind().map_err(|e| Error::write(&path, e))?;
                files::replace(&path, Error::create, |to| std::io::copy(&mut file, to).map(drop))
            }
            Target::Npz(path) => self.arrays.write(&path, self.probabilities),
        }
    }
}

/// A file without a name beside this one.
fn nameless(path: &Path) -> Result<File> {
    tempfile::tempfile_in(files::folder_of(path)).map_err(|e| Error::create(path, e))
}

/// A word as a cell of a CSV table.
fn quoted(word: &str) -> String {
    if word.contains([',', '"', '\n', '\r']) { format!("\"{}\"", word.replace('"', "\"\"")) } else { word.to_string() }
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
