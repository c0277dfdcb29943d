//! `engine data`: data sets.

use std::any::Any;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, Subcommand};
use half::f16;
use serde_json::json;

use super::args::{JsonArg, RunArgs, expect_others, expect_writable};
use super::data_text::{self, TextArgs};
use crate::bar::Bar;
use crate::datasets::integer_sequences::Sequence;
use crate::datasets::matrix::Values;
use crate::datasets::next_vectors::window_starts;
use crate::datasets::npz::{Npz, Numbers};
use crate::datasets::{linkages, npz};
use crate::draw;
use crate::error::{Error, Result};
use crate::files;
use crate::host::Host;
use crate::registry::Config;
use crate::tasks::{IntegerSequences, IntegerSequencesConfig, TESTED};

/// Make a data set
#[derive(Debug, Args)]
pub(super) struct DataArgs {
    #[command(subcommand)]
    what: Data,
}

#[derive(Debug, Subcommand)]
enum Data {
    /// The sequences that a run trains on, validates on and is tested on, for other programs
    Sequences {
        #[command(flatten)]
        run: RunArgs,
        /// File to write: train (steps, samples, numbers), validation (validations, sequences, numbers), test (4, sequences, numbers); -1
        /// where a sequence is shorter
        #[arg(long, value_name = "FILE.npz")]
        out: PathBuf,
    },
    /// Samples of next vectors from a long row of them: contexts of any length, with the vector that follows each
    Windows {
        /// An array (vectors, features), in the order of the text
        #[arg(value_name = "FILE.npz")]
        file: PathBuf,
        /// Vectors of a context
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
        context: u32,
        /// Vectors from one sample to the next
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        stride: u32,
        /// Name of the array [default: the only one with two axes]
        #[arg(long, value_name = "NAME")]
        array: Option<String>,
        /// Name of an array with a number for each vector: no sample goes across two numbers
        #[arg(long, value_name = "NAME")]
        documents: Option<String>,
        /// File to write
        #[arg(long, value_name = "OUT.npz")]
        out: PathBuf,
    },
    /// A tokenizer of one's own, and the tokens of a text by it
    Text(TextArgs),
    /// Planar linkages: four-bars and six-bars with images of the curves that they trace
    Linkages {
        /// How many
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=500_000))]
        count: u32,
        /// Same seed, same samples
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// File to write
        #[arg(long, value_name = "FILE.npz")]
        out: PathBuf,
        /// Types of linkages, as in --only four_bar,watt_1 [default: all]
        #[arg(long, value_name = "TYPE", value_delimiter = ',')]
        only: Vec<String>,
        /// Draw the first samples
        #[arg(long, value_name = "FILE.svg")]
        sheet: Option<PathBuf>,
        #[command(flatten)]
        json: JsonArg,
    },
}

/// Number of samples on a contact sheet, and in a row of it.
const SHEET: usize = 24;
const SHEET_COLUMNS: usize = 6;

/// Writes the sequences of a run, in the order in which it sees them.
fn sequences(host: &Host, config: &Config, out: &Path) -> Result<()> {
    let Some(data) = (config.data.kind() as &dyn Any).downcast_ref::<IntegerSequencesConfig>() else {
        return Err(Error::Config("this needs a run of data.kind = \"integer_sequences\"".into()));
    };
    let mut generator = IntegerSequences::new(data, &config.settings());
    expect_writable(out)?;
    let (train, validation) = (&config.train, &config.validation);
    let steps = train.epochs.saturating_mul(train.steps_per_epoch);
    let validations = steps.div_ceil(validation.every.unwrap_or(train.steps_per_epoch));
    let length = data.context + 1;
    let whole = |s: Sequence| (0..length).map(move |i| s.get(i).map_or(-1.0, |value| *value as f32));
    let values = |sequences: Vec<Sequence>| sequences.into_iter().flat_map(whole);
    let bar = Bar::new(host, steps, "steps");
    let mut arrays = [vec![], vec![], vec![]];
    for step in 0..steps {
        arrays[0].extend(values(generator.training(step)));
        bar.iter().for_each(|bar| bar.add(1));
    }
    bar.iter().for_each(Bar::clear);
    (1..=validations).for_each(|number| arrays[1].extend(values(generator.validation(number))));
    let sets = generator.test_sets(TESTED);
    let count = sets.len();
    sets.into_iter().for_each(|(_, sequences)| arrays[2].extend(values(sequences)));
    let shapes = [[steps as usize, train.samples(), length], [validations as usize, validation.sequences, length], [count, TESTED, length]];
    let names = ["train", "validation", "test"];
    let views: Vec<_> = (0..3).map(|i| (names[i], &shapes[i][..], arrays[i].as_slice())).collect();
    npz::write(out, &views)?;
    host.print(&format!("{}: {steps} training steps, {validations} validations, {count} test sets", out.display()))
}

/// Writes contexts and targets that are cut from a row of vectors.
fn windows(host: &Host, file: &Path, [context, stride]: [usize; 2], [array, documents]: [Option<&str>; 2], out: &Path) -> Result<()> {
    expect_others(out, &[file])?;
    expect_writable(out)?;
    let mut npz = Npz::open(file)?;
    let there = npz.names().join(", ");
    let found = match array {
        Some(name) => name.to_string(),
        None => {
            let rows: Vec<String> = npz.members()?.into_iter().filter(|m| m.shape.len() == 2).map(|m| m.name).collect();
            let [only] = &rows[..] else {
                return Err(Error::Data(format!(
                    "{}: {} arrays have two axes, (vectors, features). Name one with --array; there are {there}",
                    file.display(),
                    rows.len()
                )));
            };
            only.clone()
        }
    };
    let vectors = npz.array(&found)?;
    let Some([rows, features]) = <[usize; 2]>::try_from(&vectors.shape[..]).ok().filter(|shape| shape[1] > 0) else {
        return Err(Error::Data(format!("{}: {found} has shape {:?}; (vectors, features) is needed", file.display(), vectors.shape)));
    };
    let of = match documents {
        None => None,
        Some(name) => {
            let numbers = npz.array(name)?;
            if numbers.shape != [rows] {
                return Err(Error::Data(format!("{}: {name} has shape {:?}; [{rows}] is needed", file.display(), numbers.shape)));
            }
            let numbers = numbers.values.to_f32();
            // From here on two numbers may be one in 32 bits.
            if let Some(at) = numbers.iter().position(|n| !n.is_finite() || n.abs() >= 16_777_216.0) {
                return Err(Error::Data(format!(
                    "{}: {name}[{at}] is {}: documents are told apart by numbers below 2^24. Number them from 0 on",
                    file.display(),
                    numbers[at]
                )));
            }
            Some(numbers)
        }
    };
    let starts = window_starts(rows, context, stride, of.as_deref());
    if starts.is_empty() {
        return Err(Error::Data(format!(
            "{}: no {} vectors of one document follow one another among the {rows} of {found}. Give a shorter --context",
            file.display(),
            context + 1
        )));
    }
    let (samples, shapes) = (starts.len(), [[starts.len(), context, features], [starts.len(), features, 1]]);
    let targets: Vec<i32> = starts.iter().map(|start| (start + context) as i32).collect();
    let parts = [0..context, context..context + 1];
    let taken = |part: &std::ops::Range<usize>| {
        starts.iter().flat_map(move |start| (start + part.start) * features..(start + part.end) * features).collect::<Vec<usize>>()
    };
    let indices = parts.each_ref().map(taken);
    let (halves, floats): (Vec<Vec<f16>>, Vec<Vec<f32>>) = match &vectors.values {
        Values::F16(values) => (indices.iter().map(|part| part.iter().map(|i| values[*i]).collect()).collect(), vec![]),
        Values::F32(values) => (vec![], indices.iter().map(|part| part.iter().map(|i| values[*i]).collect()).collect()),
    };
    let numbers: Vec<Numbers<'_>> = halves.iter().map(|v| Numbers::F16(v)).chain(floats.iter().map(|v| Numbers::F32(v))).collect();
    npz::write_arrays(
        out,
        &[
            ("context_sequences", &shapes[0], numbers[0]),
            ("target_vectors", &shapes[1][..2], numbers[1]),
            ("target_rows", &[samples], Numbers::I32(&targets)),
        ],
    )?;
    host.print(&format!(
        "{}: {samples} contexts of {context} vectors of {features}, from {rows} vectors of {}",
        out.display(),
        file.display()
    ))
}

pub(super) fn run(host: &Host, args: DataArgs) -> Result<()> {
    let (count, seed, out, only, sheet, json) = match args.what {
        Data::Text(args) => return data_text::run(host, &args),
        Data::Windows { file, context, stride, array, documents, out } => {
            let names = [array.as_deref(), documents.as_deref()];
            return windows(host, &file, [context as usize, stride as usize], names, &out);
        }
        Data::Sequences { run, out } => {
            expect_others(&out, &[&run.run])?;
            return sequences(host, &run.load()?, &out);
        }
        Data::Linkages { count, seed, out, only, sheet, json } => (count, seed, out, only, sheet, json),
    };
    let started = Instant::now();
    let names = || linkages::KINDS.iter().map(|k| k.name).collect::<Vec<_>>().join(", ");
    let unknown = |name: &String| Error::Config(format!("--only {name}: no such type of linkage. There are {}", names()));
    let mut kinds = only.iter().map(|name| linkages::kind(name).ok_or_else(|| unknown(name))).collect::<Result<Vec<_>>>()?;
    if kinds.is_empty() {
        kinds = (0..linkages::KINDS.len()).collect();
    }
    kinds.sort_unstable();
    kinds.dedup();
    for path in [Some(&out), sheet.as_ref()].into_iter().flatten() {
        expect_writable(path)?;
    }
    sheet.iter().try_for_each(|sheet| expect_others(sheet, &[&out]))?;
    let count = count as usize;
    let bar = if json.json { None } else { Bar::new(host, count as u64, "linkages") };
    let samples = linkages::samples(seed, count, &kinds, || bar.iter().for_each(|bar| bar.add(1)));
    bar.iter().for_each(Bar::clear);
    linkages::write(&out, &samples)?;
    if let Some(path) = &sheet {
        let cells: Vec<_> = samples.iter().take(SHEET).enumerate().map(draw::sample_cell).collect();
        files::write(path, draw::picture(&cells, SHEET_COLUMNS).as_bytes())?;
    }
    let rows: Vec<(&str, usize, usize)> = kinds
        .iter()
        .map(|k| (linkages::KINDS[*k].name, linkages::KINDS[*k].joints, samples.iter().filter(|s| s.kind == *k).count()))
        .collect();
    let deviation = linkages::deviation(&samples);
    if json.json {
        let types: Vec<_> = rows.iter().map(|(n, j, c)| json!({ "type": n, "joints": j, "samples": c })).collect();
        return host.print_json(&json!({ "file": out, "samples": count, "seed": seed, "types": types, "deviation_mm": deviation }));
    }
    let mut text = format!("{:<22}{:>8}{:>10}\n", "type", "joints", "samples");
    for (name, joints, samples) in rows {
        let _ = writeln!(text, "{name:<22}{joints:>8}{samples:>10}");
    }
    let _ = write!(
        text,
        "\n{}: {count} linkages in {:.1} s; coordinates deviate by {:.2} and {:.2} mm",
        out.display(),
        started.elapsed().as_secs_f64(),
        deviation[0],
        deviation[1]
    );
    if let Some(path) = &sheet {
        let _ = write!(text, "; the first {} are drawn in {}", count.min(SHEET), path.display());
    }
    host.print(&text)
}
