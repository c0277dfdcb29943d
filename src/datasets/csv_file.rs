//! Tables of comma-separated values.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use super::columns::{Column, Columns};
use super::open_regular;
use crate::error::{Error, Result};

/// Reads a table of comma-separated values with a header, and the line that each row begins in. A column is one of numbers, of which an
/// empty cell is NaN, or one of words; one that has both, or words and an empty cell, is an error for whoever reads it.
///
/// # Errors
/// As `Table::open`, with the line and the column.
pub(super) fn read_csv(path: &Path, as_words: &BTreeSet<&str>) -> Result<(Columns, Vec<u64>)> {
    let source = path.display().to_string();
    // Of lines that end in \r\n the reader counts one less: it has not seen the \n that ends the line before.
    let (mut file, mut header) = (BufReader::new(open_regular(path, "a .csv")?), vec![]);
    file.read_until(b'\n', &mut header).map_err(|e| Error::read(path, e))?;
    let behind = u64::from(header.ends_with(b"\r\n"));
    let wrong = |line: u64, what: String| Error::Data(format!("{source}, line {line}: {what}"));
    let failed = |e: csv::Error| {
        let line = e.position().map_or(1, |at| at.line() + behind);
        match e.into_kind() {
            csv::ErrorKind::Io(e) => Error::read(path, e),
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                wrong(line, format!("{len} values for the {expected_len} columns of the header"))
            }
            csv::ErrorKind::Utf8 { .. } => wrong(line, "it is no UTF-8 text".into()),
            other => wrong(line, format!("{other:?}")),
        }
    };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(header.as_slice().chain(file));
    let names: Vec<String> = reader.headers().map_err(failed)?.iter().map(|name| name.trim_start_matches('\u{feff}').to_string()).collect();
    for (at, name) in names.iter().enumerate() {
        if name.is_empty() || names[..at].contains(name) {
            let what = if name.is_empty() { "has no name" } else { "stands twice" };
            return Err(wrong(1, format!("column {} of the header, `{name}`, {what}", at + 1)));
        }
    }
    if names.is_empty() {
        return Err(wrong(1, "it is empty: the first line must name the columns".into()));
    }
    if let [name] = &names[..]
        && let Some(separator) = [';', '\t', '|'].into_iter().find(|separator| name.contains(*separator))
    {
        return Err(wrong(1, format!("its columns are separated by {separator:?}: save it with commas between them")));
    }
    if names.iter().any(|name| name.parse::<f64>().is_ok()) {
        return Err(wrong(1, "a name of a column is a number: the first line must be a header".into()));
    }
    let mut columns: Vec<Column> = names.iter().map(|name| Column::of(as_words.contains(name.as_str()))).collect();
    let (mut row, mut lines) = (csv::StringRecord::new(), vec![]);
    while reader.read_record(&mut row).map_err(failed)? {
        let line = row.position().map_or(0, |at| at.line() + behind);
        lines.push(line);
        for ((column, name), text) in columns.iter_mut().zip(&names).zip(&row) {
            column.take_or_break(text, |why| format!("line {line}: column `{name}`: {why}"));
        }
    }
    Ok((names.into_iter().zip(columns).collect(), lines))
}
