//! Samples of named fields, from the arrays or columns of a file: whole rows, or windows that are cut out of long series.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::scale::{Normalization, Scale};
use super::tables::{Table, TableValues};
use crate::error::{Error, Result};

/// Windows that are cut out of series: `context` moments, and the `horizon` moments after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Number of moments that are input.
    pub context: usize,
    /// Number of moments that are predicted.
    pub horizon: usize,
    /// Number of moments from the start of a window to that of the next.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub stride: usize,
}

fn one() -> usize {
    1
}

fn is_one(stride: &usize) -> bool {
    *stride == 1
}

impl Window {
    /// Number of windows in a series of so many moments.
    pub fn count(&self, moments: usize) -> usize {
        (moments + 1).saturating_sub(self.context + self.horizon).div_ceil(self.stride)
    }

    /// Number of windows after one that share moments with it.
    pub fn overlap(&self) -> usize {
        (self.context + self.horizon - 1) / self.stride
    }
}

/// Ways to normalise the numbers of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalize {
    /// As they are.
    #[default]
    None,
    /// Mean 0 and standard deviation 1, by feature.
    Standard,
    /// From 0 to 1, by feature.
    Minmax,
    /// Vectors of length 1.
    Unit,
}

/// Sizes of a field, which a file has told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Shape of a sample.
    pub shape: Vec<usize>,
    /// Number that all integers are below; none for numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<usize>,
    /// Number that the integers of each column are below, where several columns have rows of their own in one table; empty for one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counts: Vec<usize>,
    /// Words of each column that has words, in the order of their numbers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub words: BTreeMap<String, Vec<String>>,
}

/// Part that a field has in a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Input of the model, as numbers.
    Input,
    /// Input of the model, as integers or words for an embedding.
    Integers,
    /// Target, as numbers.
    Numbers,
    /// Target, as the number or word of a class.
    Classes,
}

/// Request for a field: its name, and the arrays or columns that it consists of.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Name of the field.
    pub name: &'a str,
    /// Names of its arrays or columns.
    pub columns: &'a [String],
    /// Part in a sample.
    pub part: Part,
}

/// A field of all samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Sizes and words.
    pub known: Known,
    /// Values, such that a sample has successive ones.
    pub values: Vec<f32>,
    /// Index of the first value of sample 0.
    first: usize,
    /// Number of values from the start of a sample to that of the next.
    step: usize,
    /// Number of values of a sample.
    len: usize,
}

impl Column {
    /// A field with these values, for made-up samples.
    pub fn made_up(known: Known, values: Vec<f32>) -> Self {
        let len = known.shape.iter().product();
        Column { known, values, first: 0, step: len, len }
    }

    /// Values of a sample.
    pub fn sample(&self, i: usize) -> &[f32] {
        &self.values[self.first + i * self.step..][..self.len]
    }

    /// Number of features: the length of the last axis.
    pub fn features(&self) -> usize {
        self.known.shape.last().copied().unwrap_or(1)
    }

    /// Statistics of these samples for this kind of normalisation; none where it needs none. A row that several windows share counts once, and positions
    /// after the end of a sequence do not.
    pub fn scale(&self, kind: Normalize, samples: &[usize], lengths: Option<&[u32]>) -> Option<Scale> {
        let features = self.features();
        let lengths = lengths.filter(|_| self.known.shape.len() > 1);
        let mut used = vec![false; self.values.len() / features];
        for i in samples {
            let first = (self.first + i * self.step) / features;
            let count = lengths.map_or(self.len / features, |lengths| lengths[*i] as usize);
            used[first..first + count].fill(true);
        }
        let rows = || self.values.chunks(features).zip(&used).filter(|(_, used)| **used).map(|(row, _)| row);
        let count = rows().count().max(1) as f64;
        let mut mean = vec![0f64; features];
        match kind {
            Normalize::None | Normalize::Unit => None,
            Normalize::Standard => {
                rows().for_each(|row| mean.iter_mut().zip(row).for_each(|(m, v)| *m += f64::from(*v) / count));
                let mut variance = vec![0f64; features];
                rows().for_each(|row| {
                    variance.iter_mut().zip(row).zip(&mean).for_each(|((s, v), m)| *s += (f64::from(*v) - m).powi(2) / count);
                });
                Some(Scale::new(&mean, &variance.iter().map(|v| v.sqrt()).collect::<Vec<_>>()))
            }
            Normalize::Minmax => {
                let (mut least, mut most) = (vec![f64::INFINITY; features], vec![f64::NEG_INFINITY; features]);
                rows().for_each(|row| {
                    for (c, v) in row.iter().enumerate() {
                        (least[c], most[c]) = (least[c].min(f64::from(*v)), most[c].max(f64::from(*v)));
                    }
                });
                let span: Vec<f64> = least.iter().zip(&most).map(|(least, most)| most - least).collect();
                Some(Scale::new(&least, &span))
            }
        }
    }

    /// Normalises all values.
    pub fn normalize(&mut self, how: &Normalization) {
        let features = self.features();
        how.apply(&mut self.values, features);
    }
}

/// All samples of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    /// Fields, in the order of the requests.
    pub fields: Vec<Column>,
    /// Number of positions of each sample that count; none where all do.
    pub lengths: Option<Vec<u32>>,
    /// Number of samples.
    pub count: usize,
    /// Index in the file of each sample, or of the first moment of its window.
    pub rows: Vec<usize>,
}

/// An array or column of a field, as it was read.
struct Read {
    shape: Vec<usize>,
    values: Vec<f32>,
    words: Option<Vec<String>>,
}

/// Numbers of words, by their order in the list.
fn numbered(words: &[String], list: &[String], name: &str, file: &Path) -> Result<Vec<f32>> {
    let number = |(row, word): (usize, &String)| {
        list.iter().position(|known| known == word).map(|at| at as f32).ok_or_else(|| {
            let known = list.iter().take(12).map(String::as_str).collect::<Vec<_>>().join("`, `");
            Error::Data(format!(
                "{}, row {} after the header: column `{name}` has `{word}`, which the training data do not have: they have `{known}`",
                file.display(),
                row + 1
            ))
        })
    };
    words.iter().enumerate().map(number).collect()
}

fn read(table: &mut Table, file: &Path, name: &str, known: Option<&Known>) -> Result<Read> {
    let info = table.info(name)?.clone();
    if info.shape.is_empty() {
        return Err(Error::Data(format!("{}: {name} is a single number: its first axis must count samples", file.display())));
    }
    Ok(match table.read(name)? {
        TableValues::Numbers(values) => Read { shape: info.shape, values, words: None },
        TableValues::Words(words) => {
            let list = known.and_then(|known| known.words.get(name).cloned()).unwrap_or_else(|| {
                let mut list = words.clone();
                list.sort();
                list.dedup();
                list
            });
            const MOST: usize = 1 << 12;
            if list.len() > MOST {
                return Err(Error::Data(format!(
                    "{}: column `{name}` has {} different words: more than {MOST} are no categories. Leave it out, or give numbers",
                    file.display(),
                    list.len()
                )));
            }
            let values = numbered(&words, &list, name, file)?;
            Read { shape: info.shape, values, words: Some(list) }
        }
    })
}

/// Features of an array or column at each row: a word becomes as many numbers as there are words, one of which is 1.
fn features(read: Read) -> (usize, Vec<f32>) {
    let per_row = read.shape[1..].iter().product::<usize>();
    match read.words {
        None => (per_row, read.values),
        Some(words) => {
            let mut values = vec![0.0; read.values.len() * words.len()];
            read.values.iter().enumerate().for_each(|(row, word)| values[row * words.len() + *word as usize] = 1.0);
            (words.len(), values)
        }
    }
}

/// Reads a field: its values row after row, and the shape of a row.
fn field(table: &mut Table, file: &Path, request: &Request<'_>, known: Option<&Known>) -> Result<(Known, Vec<f32>, usize)> {
    let wrong = |what: String| Error::Data(format!("{}: {what}", file.display()));
    let mut parts = vec![];
    for name in request.columns {
        parts.push((name, read(table, file, name, known)?));
    }
    let rows = parts[0].1.shape[0];
    if let Some((name, part)) = parts.iter().find(|(_, part)| part.shape[0] != rows) {
        return Err(wrong(format!("{} rows of `{name}`, and {rows} of `{}`", part.shape[0], parts[0].0)));
    }
    let words: BTreeMap<String, Vec<String>> =
        parts.iter().filter_map(|(name, part)| Some(((*name).clone(), part.words.clone()?))).collect();
    let integers = matches!(request.part, Part::Classes | Part::Integers);
    if request.part == Part::Numbers && !words.is_empty() {
        return Err(wrong(format!("target `{}` has words, which are classes: set data.classes = true", request.columns[0])));
    }
    if !integers && parts.len() == 1 && words.is_empty() {
        let Read { shape, values, .. } = parts.remove(0).1;
        let row = if shape.len() == 1 { vec![1] } else { shape[1..].to_vec() };
        return Ok((Known { shape: row, words, ..Known::default() }, values, rows));
    }
    if !integers {
        if let Some((name, part)) = parts.iter().find(|(_, part)| part.shape.len() > 2) {
            return Err(wrong(format!("`{name}` has shape {:?}: arrays that are put together have at most two axes", part.shape)));
        }
        let parts: Vec<(usize, Vec<f32>)> = parts.into_iter().map(|(_, part)| features(part)).collect();
        let width = parts.iter().map(|(width, _)| width).sum();
        let values =
            (0..rows).flat_map(|row| parts.iter().flat_map(move |(width, values)| values[row * width..(row + 1) * width].to_vec()));
        return Ok((Known { shape: vec![width], words, ..Known::default() }, values.collect(), rows));
    }
    if parts.len() > 1 && request.part == Part::Classes {
        return Err(wrong(format!("`{}`: classes are one array or column, not {}", request.name, parts.len())));
    }
    let several = parts.len() > 1;
    let (mut numbers, mut counts, mut shape) = (vec![], vec![], vec![]);
    for (at, (name, read)) in parts.into_iter().enumerate() {
        if several && read.shape.len() > 1 {
            return Err(wrong(format!("`{name}` has shape {:?}: integers that are put together are columns of one axis", read.shape)));
        }
        let seen = known.and_then(|known| if several { known.counts.get(at).copied() } else { known.below });
        counts.push(integers_below(table, file, name, &read, seen)?);
        shape = read.shape[1..].to_vec();
        numbers.push(read.values);
    }
    let below = Some(counts.iter().sum());
    if !several {
        let values = numbers.pop().unwrap_or_default();
        return Ok((Known { shape, below, counts: vec![], words }, values, rows));
    }
    // Each column has rows of its own in the table of an embedding.
    let first: Vec<usize> = counts.iter().scan(0, |sum, count| Some(std::mem::replace(sum, *sum + count))).collect();
    let values = (0..rows).flat_map(|row| numbers.iter().zip(&first).map(move |(values, first)| values[row] + *first as f32)).collect();
    Ok((Known { shape: vec![counts.len()], below, counts, words }, values, rows))
}

/// Number that all integers of an array are below; `seen` is that of the training data, if it is known.
fn integers_below(table: &Table, file: &Path, name: &str, read: &Read, seen: Option<usize>) -> Result<usize> {
    let no_integer = |(at, value): (usize, &f32)| (value.fract() != 0.0 || *value < 0.0 || *value >= 16_777_216.0).then_some((at, *value));
    if let Some((at, value)) = read.values.iter().enumerate().find_map(no_integer) {
        return Err(table.wrong_number(name, at, &read.shape, value, "is no integer from 0 on"));
    }
    let found = read.values.iter().fold(0.0f32, |most, value| most.max(*value)) as usize + 1;
    match seen {
        Some(seen) if found > seen => Err(Error::Data(format!(
            "{}: `{name}` has numbers up to {}: those of the training data are below {seen}",
            file.display(),
            found - 1
        ))),
        Some(seen) => Ok(seen),
        None => Ok(read.words.as_ref().map_or(found, Vec::len)),
    }
}

/// Options of reading samples.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// Windows, if samples are cut out of series.
    pub window: Option<Window>,
    /// Array with the number of positions of each sample that count.
    pub lengths: Option<&'a str>,
    /// Leave out samples with NaN or infinity instead of failing on them.
    pub skip_non_finite: bool,
    /// True for inputs alone, whose windows may end where the series does.
    pub inputs_only: bool,
}

/// Reads the fields of a file; words and classes are numbered as `known` has them, if it has the field.
///
/// # Errors
/// `MissingInput` without the file, `Data` when it does not hold these fields.
pub fn read_samples(file: &Path, requests: &[Request<'_>], known: &BTreeMap<String, Known>, reading: Reading<'_>) -> Result<Samples> {
    let mut table = Table::open(file)?;
    let wrong = |what: String| Error::Data(format!("{}: {what}", file.display()));
    let mut fields = vec![];
    let mut rows: Option<(usize, &str)> = None;
    for request in requests {
        let (sizes, values, count) = field(&mut table, file, request, known.get(request.name))?;
        match rows {
            Some((first, name)) if first != count => {
                return Err(wrong(format!("{count} rows of `{}`, and {first} of `{name}`", request.name)));
            }
            _ => rows = Some((count, request.name)),
        }
        fields.push((request, sizes, values));
    }
    let rows = rows.map_or(0, |(rows, _)| rows);
    let Some(window) = reading.window else {
        return whole_rows(&mut table, file, fields, rows, reading);
    };
    let horizon = if reading.inputs_only { 0 } else { window.horizon };
    let cut = Window { horizon, ..window };
    let count = cut.count(rows);
    if count == 0 {
        return Err(wrong(format!("{rows} moments are fewer than the {} of a window", window.context + horizon)));
    }
    let mut columns = vec![];
    for (request, sizes, values) in fields {
        let place = |at: usize| table.wrong_number(&request.columns[0], at, &[rows, values.len() / rows], values[at], "is not finite");
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(place(at));
        }
        let [width] = sizes.shape[..] else {
            return Err(wrong(format!("`{}`: windows are cut out of series of one or two axes", request.name)));
        };
        let (shape, first, len) = match request.part {
            Part::Input | Part::Integers => (vec![window.context, width], 0, window.context),
            _ if window.horizon == 1 => (vec![width], window.context, 1),
            _ => (vec![window.horizon, width], window.context, window.horizon),
        };
        let known = Known { shape, ..sizes };
        columns.push(Column { known, values, first: first * width, step: window.stride * width, len: len * width });
    }
    let rows = (0..count).map(|i| i * window.stride).collect();
    Ok(Samples { fields: columns, lengths: None, count, rows })
}

fn whole_rows(
    table: &mut Table,
    file: &Path,
    fields: Vec<(&Request<'_>, Known, Vec<f32>)>,
    rows: usize,
    reading: Reading<'_>,
) -> Result<Samples> {
    let wrong = |what: String| Error::Data(format!("{}: {what}", file.display()));
    if rows == 0 {
        return Err(wrong("there are no samples".into()));
    }
    let mut lengths = reading.lengths.map(|name| lengths_of(table, file, name, &fields, rows)).transpose()?;
    let mut good = vec![true; rows];
    for (request, _, values) in &fields {
        let width = values.len() / rows;
        for (at, value) in values.iter().enumerate().filter(|(_, value)| !value.is_finite()) {
            if !reading.skip_non_finite {
                let hint = "is not finite. Mend the file, or leave such samples out with --set data.skip_non_finite=true";
                return Err(table.wrong_number(&request.columns[0], at, &[rows, width], *value, hint));
            }
            good[at / width] = false;
        }
    }
    let numbers: Vec<usize> = (0..rows).filter(|row| good[*row]).collect();
    let keep = |values: Vec<f32>| {
        if numbers.len() == rows {
            return values;
        }
        let width = values.len() / rows;
        numbers.iter().flat_map(|row| values[row * width..(row + 1) * width].to_vec()).collect()
    };
    let column = |(_, known, values): (&Request<'_>, Known, Vec<f32>)| {
        let len = values.len() / rows;
        Column { known, values: keep(values), first: 0, step: len, len }
    };
    let fields = fields.into_iter().map(column).collect();
    if let Some(lengths) = &mut lengths {
        *lengths = numbers.iter().map(|row| lengths[*row]).collect();
    }
    Ok(Samples { fields, lengths, count: numbers.len(), rows: numbers })
}

/// Reads the number of positions of each sample that count.
fn lengths_of(table: &mut Table, file: &Path, name: &str, fields: &[(&Request<'_>, Known, Vec<f32>)], rows: usize) -> Result<Vec<u32>> {
    let wrong = |what: String| Error::Data(format!("{}: {what}", file.display()));
    let most = fields
        .iter()
        .filter(|(request, ..)| matches!(request.part, Part::Input | Part::Integers))
        .find_map(|(_, known, _)| known.shape.first().copied());
    let most = most.ok_or_else(|| wrong("data.lengths is for sequences".into()))?;
    let shape = table.info(name)?.shape.clone();
    let TableValues::Numbers(values) = table.read(name)? else { return Err(wrong(format!("`{name}` has words, and no lengths"))) };
    if shape != [rows] {
        return Err(wrong(format!("`{name}` has shape {shape:?}; expected one length for each of {rows} samples")));
    }
    let bad = values.iter().position(|value| value.fract() != 0.0 || *value < 1.0 || *value > most as f32);
    match bad {
        Some(at) => Err(table.wrong_number(name, at, &shape, values[at], &format!("is no length from 1 to {most}"))),
        None => Ok(values.into_iter().map(|value| value as u32).collect()),
    }
}
