//! Reading samples: which arrays and columns a field consists of, and where each sample lies in them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use super::samples::{Column, Known, Part, Request, Samples, Window};
use super::tables::{Table, TableValues};
use crate::error::{Error, Result};

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

/// Largest number of different words of a column.
const MOST_WORDS: usize = 1 << 12;

/// Largest number of different words that become a number each.
const MOST_SIDES: usize = 256;

/// Number beyond which not every integer is a 32-bit float.
const EXACT: f32 = 16_777_216.0;

/// An array or column of a field, as it was read.
struct Array {
    shape: Vec<usize>,
    values: Vec<f32>,
    words: Option<Vec<String>>,
}

/// A field while it is read: its sizes for a row of the file, and its values row after row.
struct Field {
    known: Known,
    values: Vec<f32>,
    rows: usize,
}

/// Reader of one file.
struct Reader<'a> {
    table: Table,
    file: &'a Path,
    reading: Reading<'a>,
    /// Number of positions of each row that count, and of all of them, where sequences have unequal lengths.
    lengths: Option<(Vec<u32>, usize)>,
    /// Rows with a number that is not finite.
    bad: BTreeSet<usize>,
}

/// Reads the fields of a file; words and classes are numbered as `known` has them, if it has the field.
///
/// # Errors
/// `MissingInput` without the file, `Data` when it does not hold these fields.
pub fn read_samples(file: &Path, requests: &[Request<'_>], known: &BTreeMap<String, Known>, reading: Reading<'_>) -> Result<Samples> {
    read_table(Table::open(file, &words_of(known))?, file, requests, known, reading)
}

/// Columns that have words, whatever they look like.
pub fn words_of(known: &BTreeMap<String, Known>) -> BTreeSet<&str> {
    known.values().flat_map(|known| known.words.keys().map(String::as_str)).collect()
}

/// Reads the fields of a table that is open; `file` names it in messages.
///
/// # Errors
/// As `read_samples`.
pub fn read_table(
    table: Table,
    file: &Path,
    requests: &[Request<'_>],
    known: &BTreeMap<String, Known>,
    reading: Reading<'_>,
) -> Result<Samples> {
    let mut reader = Reader { table, file, reading, lengths: None, bad: BTreeSet::new() };
    if let Some(name) = reading.lengths {
        let mut positions = None;
        for request in requests {
            let shape = &reader.table.info(&request.columns[0])?.shape;
            positions = positions.or(shape.get(1).copied().filter(|_| is_sequence(request.part, shape)));
        }
        let positions = positions.ok_or_else(|| reader.wrong("data.lengths is for sequences, and no input has positions".into()))?;
        reader.lengths = Some((reader.lengths_of(name)?, positions));
    }
    let mut fields: Vec<(&Request<'_>, Field)> = vec![];
    for request in requests {
        let field = reader.field(request, known.get(request.name))?;
        if let Some((first, other)) = fields.first().filter(|(_, first)| first.rows != field.rows) {
            return Err(reader.wrong(format!("{} rows of `{}`, and {} of `{}`", field.rows, request.name, other.rows, first.name)));
        }
        fields.push((request, field));
    }
    let rows = fields.first().map_or(0, |(_, field)| field.rows);
    match reading.window {
        Some(window) => reader.windows(window, fields, rows),
        None => reader.whole_rows(fields, rows),
    }
}

/// True if an input of this shape has positions, one after another.
fn is_sequence(part: Part, shape: &[usize]) -> bool {
    match part {
        Part::Input => shape.len() > 2,
        Part::Integers => shape.len() > 1,
        Part::Numbers | Part::Classes => false,
    }
}

impl Reader<'_> {
    /// True if an array has a value for each position of sequences of unequal length.
    fn is_each(&self, part: Part, shape: &[usize]) -> bool {
        let Some((_, positions)) = &self.lengths else { return false };
        let target = matches!(part, Part::Numbers | Part::Classes) && shape.len() > 1;
        (target || is_sequence(part, shape)) && shape.get(1) == Some(positions)
    }

    fn wrong(&self, what: String) -> Error {
        Error::Data(format!("{}: {what}", self.file.display()))
    }

    /// Reads the number of positions of each sample that count.
    fn lengths_of(&mut self, name: &str) -> Result<Vec<u32>> {
        let shape = self.table.info(name)?.shape.clone();
        let TableValues::Numbers(values) = self.table.read(name)? else {
            return Err(self.wrong(format!("`{name}` has words, and no lengths")));
        };
        if shape.len() != 1 {
            return Err(self.wrong(format!("`{name}` has shape {shape:?}; expected one length for each sample")));
        }
        match values.iter().position(|value| value.fract() != 0.0 || *value < 1.0 || *value >= EXACT) {
            Some(at) => Err(self.table.wrong_number(name, at, &shape, values[at], "is no length: it must be an integer from 1 on")),
            None => Ok(values.into_iter().map(|value| value as u32).collect()),
        }
    }

    /// Reads an array or column. What stands after the end of a sequence is replaced by zeros.
    fn part(&mut self, name: &str, part: Part, known: Option<&Known>) -> Result<Array> {
        let shape = self.table.info(name)?.shape.clone();
        if shape.is_empty() {
            // One that cannot be read has no shape.
            self.table.read(name)?;
            return Err(self.wrong(format!("{name} is a single number: its first axis must count samples")));
        }
        if shape[1..].contains(&0) {
            return Err(self.wrong(format!("`{name}` has shape {shape:?}: there is nothing in a sample")));
        }
        match self.table.read(name)? {
            TableValues::Numbers(mut values) => {
                if self.is_each(part, &shape) {
                    self.without_padding(name, &shape, &mut values)?;
                }
                Ok(Array { shape, values, words: None })
            }
            TableValues::Words(words) => {
                let Some(list) = known.map_or_else(|| Some(sorted(&words)), |known| known.words.get(name).cloned()) else {
                    let row = words.iter().position(|word| word.parse::<f32>().is_err()).unwrap_or(0);
                    return Err(self.wrong(format!(
                        "{}, column `{name}`: `{}` is no number, and the training data have numbers there",
                        self.table.place(row),
                        words[row]
                    )));
                };
                if list.len() > MOST_WORDS {
                    return Err(self.wrong(format!(
                        "column `{name}` has {} different words: more than {MOST_WORDS} are no categories. Leave it out, or give numbers",
                        list.len()
                    )));
                }
                let values = self.numbered(&words, &list, name)?;
                Ok(Array { shape, values, words: Some(list) })
            }
        }
    }

    fn without_padding(&self, name: &str, shape: &[usize], values: &mut [f32]) -> Result<()> {
        let (Some((lengths, positions)), [rows, ..]) = (&self.lengths, shape) else { return Ok(()) };
        if lengths.len() != *rows {
            return Err(self.wrong(format!("{} lengths for {rows} rows of `{name}`", lengths.len())));
        }
        let row = (values.len() / rows.max(&1)).max(1);
        for (i, (length, values)) in lengths.iter().zip(values.chunks_mut(row)).enumerate() {
            if *length as usize > *positions {
                return Err(
                    self.wrong(format!("{}: length {length} is more than the {positions} positions of `{name}`", self.table.place(i)))
                );
            }
            values[*length as usize * (row / positions)..].fill(0.0);
        }
        Ok(())
    }

    /// Numbers of words, by their order in the list.
    fn numbered(&self, words: &[String], list: &[String], name: &str) -> Result<Vec<f32>> {
        let places: HashMap<&str, usize> = list.iter().enumerate().map(|(at, word)| (word.as_str(), at)).collect();
        let number = |(row, word): (usize, &String)| {
            places.get(word.as_str()).map(|at| *at as f32).ok_or_else(|| {
                let known = list.iter().take(12).map(String::as_str).collect::<Vec<_>>().join("`, `");
                let place = self.table.place(row);
                self.wrong(format!("{place}, column `{name}`: `{word}` is not in the training data, which have `{known}` there"))
            })
        };
        words.iter().enumerate().map(number).collect()
    }

    /// Reads a field.
    fn field(&mut self, request: &Request<'_>, known: Option<&Known>) -> Result<Field> {
        let mut parts = vec![];
        for name in request.columns {
            let part = self.part(name, request.part, known)?;
            if known.is_some_and(|known| known.words.contains_key(name)) && part.words.is_none() {
                return Err(self.wrong(format!("`{name}` has numbers, and the training data have words there")));
            }
            self.finite(name, &part, request.part, known.is_none())?;
            parts.push((name, part));
        }
        let rows = parts[0].1.shape[0];
        if let Some((name, part)) = parts.iter().find(|(_, part)| part.shape[0] != rows) {
            return Err(self.wrong(format!("{} rows of `{name}`, and {rows} of `{}`", part.shape[0], parts[0].0)));
        }
        let words = parts.iter().filter_map(|(name, part)| Some(((*name).clone(), part.words.clone()?))).collect();
        let each = parts.len() == 1 && self.is_each(request.part, &parts[0].1.shape);
        let (known, values) = match request.part {
            Part::Classes | Part::Integers => self.integers(request, parts, known, rows)?,
            Part::Input | Part::Numbers => self.numbers(request, parts, rows)?,
        };
        Ok(Field { known: Known { words, each, ..known }, values, rows })
    }

    /// Fails on a number that is not finite, unless its row is to be left out, and on numbers that differ by less than 32-bit floats can
    /// tell.
    fn finite(&mut self, name: &str, part: &Array, use_as: Part, first_time: bool) -> Result<()> {
        let rows = part.shape[0].max(1);
        let (width, mut least, mut most) = (part.values.len() / rows, f32::INFINITY, f32::NEG_INFINITY);
        for (at, value) in part.values.iter().enumerate() {
            if value.is_finite() {
                (least, most) = (least.min(*value), most.max(*value));
            } else if self.reading.skip_non_finite && self.reading.window.is_none() {
                self.bad.insert(at / width);
            } else {
                let hint = match self.reading.window {
                    Some(_) => {
                        let holes = part.values.chunks(width.max(1)).filter(|moment| moment.iter().any(|v| !v.is_finite())).count();
                        format!(
                            "is not finite, and windows are cut out of whole series. {holes} of {rows} moments have no such number: fill them, by interpolation for example"
                        )
                    }
                    None if self.reading.inputs_only => "is not finite: mend it, or leave the row out".into(),
                    None => "is not finite. Mend the file, or leave such samples out with --set data.skip_non_finite=true".into(),
                };
                return Err(self.table.wrong_number(name, at, &part.shape, *value, &hint));
            }
        }
        let size = least.abs().max(most.abs());
        let step = size * f32::EPSILON;
        // What the training data could tell apart can be predicted from, whatever a file of few rows has.
        if !first_time || part.words.is_some() || size < EXACT || !size.is_finite() {
            return Ok(());
        }
        if most > least && step > 1e-4 * (most - least) {
            return Err(self.wrong(format!(
                "the numbers of `{name}` are about {size:e} and differ by at most {:e}: 32-bit floats have steps of {step:e} there. Subtract {least:e} from \
                 them first",
                most - least
            )));
        }
        if most == least && use_as == Part::Numbers {
            return Err(
                self.wrong(format!("all numbers of the target `{name}` are {size:e} as 32-bit floats: subtract an offset from them first"))
            );
        }
        Ok(())
    }

    /// Numbers of a row, with the parts beside each other. A word becomes as many numbers as there are words, one of which is 1.
    fn numbers(&self, request: &Request<'_>, mut parts: Vec<(&String, Array)>, rows: usize) -> Result<(Known, Vec<f32>)> {
        if let (Part::Numbers, Some((name, _))) = (request.part, parts.iter().find(|(_, part)| part.words.is_some())) {
            return Err(self.wrong(format!("target `{name}` has words, which are classes: set data.classes = true")));
        }
        if parts.len() == 1 && parts[0].1.words.is_none() {
            let Array { shape, values, .. } = parts.remove(0).1;
            let row = match &shape[1..] {
                [] => vec![1],
                // A number for each position.
                [positions] if self.is_each(request.part, &shape) => vec![*positions, 1],
                row => row.to_vec(),
            };
            return Ok((Known { shape: row, ..Known::default() }, values));
        }
        if let Some((name, part)) = parts.iter().find(|(_, part)| part.shape.len() > 2) {
            return Err(self.wrong(format!("`{name}` has shape {:?}: arrays that are put together have at most two axes", part.shape)));
        }
        let wide = |part: &Array| part.words.as_ref().is_some_and(|words| words.len() > MOST_SIDES);
        if let Some((name, _)) = parts.iter().find(|(_, part)| wide(part)) {
            return Err(self.wrong(format!(
                "column `{name}` has more than {MOST_SIDES} different words, too many for a number each: name its field in data.integers, for an embedding"
            )));
        }
        let features = |(_, part): (&String, Array)| match part.words {
            None => (part.values.len() / rows.max(1), part.values),
            Some(words) => {
                let mut values = vec![0.0; rows * words.len()];
                part.values.iter().enumerate().for_each(|(row, word)| values[row * words.len() + *word as usize] = 1.0);
                (words.len(), values)
            }
        };
        let parts: Vec<(usize, Vec<f32>)> = parts.into_iter().map(features).collect();
        let width = parts.iter().map(|(width, _)| width).sum();
        let values =
            (0..rows).flat_map(|row| parts.iter().flat_map(move |(width, values)| values[row * width..(row + 1) * width].to_vec()));
        Ok((Known { shape: vec![width], ..Known::default() }, values.collect()))
    }

    /// Integers of a row. Several columns are numbered one after another, so that each has rows of its own in the table of an embedding.
    fn integers(
        &self,
        request: &Request<'_>,
        parts: Vec<(&String, Array)>,
        known: Option<&Known>,
        rows: usize,
    ) -> Result<(Known, Vec<f32>)> {
        let several = parts.len() > 1;
        if several && request.part == Part::Classes {
            return Err(self.wrong(format!("`{}`: classes are one array or column, not {}", request.name, parts.len())));
        }
        let (mut numbers, mut counts, mut shape) = (vec![], vec![], vec![]);
        for (at, (name, part)) in parts.into_iter().enumerate() {
            if several && part.shape.len() > 1 {
                return Err(
                    self.wrong(format!("`{name}` has shape {:?}: integers that are put together are columns of one axis", part.shape))
                );
            }
            let seen = known.and_then(|known| if several { known.counts.get(at).copied() } else { known.below });
            counts.push(self.integers_below(name, &part, seen)?);
            shape = part.shape[1..].to_vec();
            numbers.push(part.values);
        }
        let below = Some(counts.iter().sum());
        if !several {
            // An embedding takes a row of integers, be it one; windows make rows of a column themselves.
            if shape.is_empty() && request.part == Part::Integers && self.reading.window.is_none() {
                shape = vec![1];
            }
            return Ok((Known { shape, below, ..Known::default() }, numbers.pop().unwrap_or_default()));
        }
        let first: Vec<usize> = counts.iter().scan(0, |sum, count| Some(std::mem::replace(sum, *sum + count))).collect();
        let values = (0..rows).flat_map(|row| numbers.iter().zip(&first).map(move |(values, first)| values[row] + *first as f32));
        Ok((Known { shape: vec![counts.len()], below, counts, ..Known::default() }, values.collect()))
    }

    /// Number that all integers of an array are below; `seen` is that of the training data, if it is known.
    fn integers_below(&self, name: &str, part: &Array, seen: Option<usize>) -> Result<usize> {
        let finite = || part.values.iter().enumerate().filter(|(_, value)| value.is_finite());
        if let Some((at, value)) = finite().find(|(_, value)| value.fract() != 0.0 || **value < 0.0 || **value >= EXACT) {
            let why =
                if *value >= EXACT { "is too large for a class or a token: they are below 16777216" } else { "is no integer from 0 on" };
            return Err(self.table.wrong_number(name, at, &part.shape, *value, why));
        }
        let found = finite().fold(0.0f32, |most, (_, value)| most.max(*value)) as usize + 1;
        match seen {
            Some(seen) if found > seen => {
                Err(self.wrong(format!("`{name}` has numbers up to {}: those of the training data are below {seen}", found - 1)))
            }
            Some(seen) => Ok(seen),
            None => Ok(part.words.as_ref().map_or(found, Vec::len)),
        }
    }

    /// Windows of series.
    fn windows(&self, window: Window, fields: Vec<(&Request<'_>, Field)>, rows: usize) -> Result<Samples> {
        let horizon = if self.reading.inputs_only { 0 } else { window.horizon };
        let cut = Window { horizon, ..window };
        if cut.count(rows) == 0 {
            return Err(self.wrong(format!("{rows} moments are fewer than the {} of a window", window.context + horizon)));
        }
        let mut starts: Vec<usize> = (0..cut.count(rows)).map(|i| i * window.stride).collect();
        // What comes next is what one wants to know: the last window of a series is predicted whatever the stride.
        let last = rows - window.context;
        starts.extend((self.reading.inputs_only && starts.last() != Some(&last)).then_some(last));
        let mut columns = vec![];
        for (request, Field { known, values, .. }) in fields {
            let (width, axis) = match known.shape[..] {
                [] => (1, &[][..]),
                [width] => (width, &known.shape[..]),
                _ => return Err(self.wrong(format!("`{}`: windows are cut out of series of one or two axes", request.name))),
            };
            let (shape, first, len) = match request.part {
                Part::Input | Part::Integers => ([&[window.context], axis].concat(), 0, window.context),
                _ if window.horizon == 1 => (axis.to_vec(), window.context, 1),
                _ => ([&[window.horizon], axis].concat(), window.context, window.horizon),
            };
            let starts: Arc<[usize]> = starts.iter().map(|start| (start + first) * width).collect();
            columns.push(Column { known: Known { shape, ..known }, values, starts, len: len * width });
        }
        Ok(Samples { fields: columns, lengths: None, rows: starts, left_out: 0 })
    }

    /// Samples that are rows of the file.
    fn whole_rows(self, fields: Vec<(&Request<'_>, Field)>, rows: usize) -> Result<Samples> {
        let numbers: Vec<usize> = (0..rows).filter(|row| !self.bad.contains(row)).collect();
        if numbers.is_empty() {
            return Err(self.wrong("there are no samples".into()));
        }
        let column = |(_, Field { known, values, .. }): (&Request<'_>, Field)| {
            let len = values.len() / rows;
            let starts = numbers.iter().map(|row| row * len).collect();
            Column { known, values, starts, len }
        };
        let fields = fields.into_iter().map(column).collect();
        let lengths = self.lengths.map(|(lengths, _)| numbers.iter().map(|row| lengths[*row]).collect());
        Ok(Samples { fields, lengths, left_out: rows - numbers.len(), rows: numbers })
    }
}

/// Different words, in order.
fn sorted(words: &[String]) -> Vec<String> {
    let mut list = words.to_vec();
    list.sort();
    list.dedup();
    list
}
