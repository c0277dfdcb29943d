//! Named arrays of any meaning: members of an .npz file, or columns of a .csv or .parquet file.

use std::collections::BTreeMap;
use std::path::Path;

use super::npz::Npz;
use super::{index, open_regular};
use crate::error::{Error, Result, shortened};

/// Element types of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// Floating-point numbers.
    Float,
    /// Integers or booleans.
    Integer,
    /// Words, such as the names of classes.
    Word,
}

/// Description of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrayInfo {
    /// Name in the file.
    pub name: String,
    /// Length of each axis; the first counts samples, or the moments of a series.
    pub shape: Vec<usize>,
    /// Type of the elements.
    pub element: Element,
}

/// Values of an array.
#[derive(Debug, Clone, PartialEq)]
pub enum TableValues {
    /// Numbers, in C order.
    Numbers(Vec<f32>),
    /// Words, one a row.
    Words(Vec<String>),
}

/// A file of named arrays.
#[derive(Debug)]
pub struct Table {
    source: String,
    arrays: Vec<ArrayInfo>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Npz(Box<Npz<std::io::BufReader<std::fs::File>>>),
    Columns(BTreeMap<String, TableValues>),
}

impl Table {
    /// Opens a file: of an .npz the headers are read, of a .csv all rows.
    ///
    /// # Errors
    /// `MissingInput` without the file, `Data` when it cannot be used, with line and column of a .csv.
    pub fn open(path: &Path) -> Result<Table> {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        match extension.as_str() {
            "csv" => return read_csv(path),
            #[cfg(feature = "parquet")]
            "parquet" => return super::parquet_file::read_parquet(path),
            #[cfg(not(feature = "parquet"))]
            "parquet" => {
                return Err(Error::Data(format!(
                    "{}: this program was built without the feature `parquet`: cargo build --release --features parquet, or save the table as .csv",
                    path.display()
                )));
            }
            _ => {}
        }
        let mut npz = Npz::open(path)?;
        let mut arrays = vec![];
        for member in npz.members()?.into_iter().filter(|member| member.needed_problem.is_none()) {
            let element = if member.dtype.contains('f') { Element::Float } else { Element::Integer };
            arrays.push(ArrayInfo { name: member.name, shape: member.shape, element });
        }
        Ok(Table { source: path.display().to_string(), arrays, content: Content::Npz(Box::new(npz)) })
    }

    /// A table of these columns.
    pub(super) fn of_columns(source: String, columns: impl Iterator<Item = (String, Column)>) -> Result<Table> {
        let mut arrays = vec![];
        let mut content = BTreeMap::new();
        for (name, column) in columns {
            let (element, rows, values) = column.finish();
            arrays.push(ArrayInfo { name: name.clone(), shape: vec![rows], element });
            content.insert(name, values);
        }
        if arrays.iter().all(|array| array.shape == [0]) {
            return Err(Error::Data(format!("{source} has columns and no rows")));
        }
        Ok(Table { source, arrays, content: Content::Columns(content) })
    }

    /// Descriptions of all arrays, in the order of the file.
    pub fn arrays(&self) -> &[ArrayInfo] {
        &self.arrays
    }

    /// Description of an array.
    ///
    /// # Errors
    /// `Data` when there is none of this name, with a list of those that exist.
    pub fn info(&self, name: &str) -> Result<&ArrayInfo> {
        self.arrays.iter().find(|array| array.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.arrays.iter().take(20).map(|array| array.name.as_str()).collect();
            let more = if self.arrays.len() > 20 { format!(" and {} more", self.arrays.len() - 20) } else { String::new() };
            Error::Data(format!("{} has no array or column `{}`; it has `{}`{more}", self.source, shortened(name), names.join("`, `")))
        })
    }

    /// Reads an array.
    ///
    /// # Errors
    /// `Data` when there is none of this name, or it is damaged.
    pub fn read(&mut self, name: &str) -> Result<TableValues> {
        self.info(name)?;
        match &mut self.content {
            Content::Npz(npz) => Ok(TableValues::Numbers(npz.array(name)?.values.to_f32())),
            Content::Columns(columns) => Ok(columns[name].clone()),
        }
    }

    /// Error for a number that cannot be used, by its place in the file.
    pub fn wrong_number(&self, name: &str, at: usize, shape: &[usize], value: f32, why: &str) -> Error {
        let source = &self.source;
        Error::Data(match self.content {
            Content::Columns(_) => format!("{source}, row {} after the header, column `{name}`: {value} {why}", at + 1),
            Content::Npz(_) => format!("{source}: {name}{:?} is {value}, which {why}", index(at, shape)),
        })
    }
}

/// Reads a table of comma-separated values with a header. A column of numbers has nothing else; any other is one of words.
fn read_csv(path: &Path) -> Result<Table> {
    let source = path.display().to_string();
    let wrong = |line: u64, what: String| Error::Data(format!("{source}, line {line}: {what}"));
    let failed = |e: csv::Error| {
        let line = e.position().map_or(1, csv::Position::line);
        match e.into_kind() {
            csv::ErrorKind::Io(e) => Error::read(path, e),
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                wrong(line, format!("{len} values for the {expected_len} columns of the header"))
            }
            csv::ErrorKind::Utf8 { .. } => wrong(line, "it is no UTF-8 text".into()),
            other => wrong(line, format!("{other:?}")),
        }
    };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(open_regular(path, "a .csv")?);
    let names: Vec<String> = reader.headers().map_err(failed)?.iter().map(|name| name.trim_start_matches('\u{feff}').to_string()).collect();
    for (at, name) in names.iter().enumerate() {
        if name.is_empty() || names[..at].contains(name) {
            let what = if name.is_empty() { "has no name" } else { "stands twice" };
            return Err(wrong(1, format!("column {} of the header, `{name}`, {what}", at + 1)));
        }
    }
    if names.iter().any(|name| name.parse::<f64>().is_ok()) {
        return Err(wrong(1, "a name of a column is a number: the first line must be a header".into()));
    }
    let mut columns: Vec<Column> = names.iter().map(|_| Column::default()).collect();
    let mut row = csv::StringRecord::new();
    while reader.read_record(&mut row).map_err(failed)? {
        let line = row.position().map_or(0, csv::Position::line);
        for ((column, name), text) in columns.iter_mut().zip(&names).zip(&row) {
            column.take(text).map_err(|why| wrong(line, format!("column `{name}`: {why}")))?;
        }
    }
    Table::of_columns(source, names.into_iter().zip(columns))
}

/// A column while it is read: numbers until the first word.
#[derive(Debug, Default)]
pub(super) struct Column {
    numbers: Vec<f32>,
    /// All values of a column of words.
    words: Option<Vec<String>>,
    /// True if a number was no integer.
    fractions: bool,
}

impl Column {
    /// Takes a value as it is written: a number, or a word of a column that began with one.
    fn take(&mut self, text: &str) -> std::result::Result<(), String> {
        if text.is_empty() {
            return Err("there is no value. Fill it, or leave the row out".into());
        }
        match text.parse::<f32>() {
            Ok(number) if self.words.is_none() => self.take_number(number, text.contains(['.', 'e', 'E'])),
            _ => self.take_word(text),
        }
    }

    /// Takes a number, of a type that has fractions or not.
    pub(super) fn take_number(&mut self, number: f32, fractions: bool) -> std::result::Result<(), String> {
        self.fractions |= fractions || number.fract() != 0.0;
        self.numbers.push(number);
        Ok(())
    }

    /// Takes a word.
    pub(super) fn take_word(&mut self, word: &str) -> std::result::Result<(), String> {
        if !self.numbers.is_empty() {
            return Err(format!("`{}` is no number, and the rows before have numbers", shortened(word)));
        }
        self.words.get_or_insert_default().push(word.into());
        Ok(())
    }

    fn finish(self) -> (Element, usize, TableValues) {
        match self.words {
            Some(words) => (Element::Word, words.len(), TableValues::Words(words)),
            None if self.fractions => (Element::Float, self.numbers.len(), TableValues::Numbers(self.numbers)),
            None => (Element::Integer, self.numbers.len(), TableValues::Numbers(self.numbers)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Result<Table> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        std::fs::write(&path, text).unwrap();
        Table::open(&path)
    }

    #[test]
    fn columns_are_numbers_or_words_and_errors_have_their_place() {
        let mut read = table("\u{feff}a, b,c\n1,x,0.5\n2,\"y, z\",1e3\n").unwrap();
        let elements: Vec<Element> = read.arrays().iter().map(|array| array.element).collect();
        assert_eq!(elements, [Element::Integer, Element::Word, Element::Float]);
        assert_eq!(read.read("a").unwrap(), TableValues::Numbers(vec![1.0, 2.0]));
        assert_eq!(read.read("b").unwrap(), TableValues::Words(vec!["x".into(), "y, z".into()]));
        let says = |text: &str, parts: &[&str]| {
            let error = table(text).unwrap_err();
            assert!(error.exit_code() == 65 && parts.iter().all(|part| error.to_string().contains(part)), "{error}");
        };
        says("a,b\n1,2\nx,3\n", &["line 3", "column `a`", "`x` is no number"]);
        says("a,b\n1,2\n3\n", &["line 3", "1 values for the 2 columns"]);
        says("a,b\n1,\n", &["line 2", "column `b`", "no value"]);
        says("a,a\n1,2\n", &["line 1", "stands twice"]);
        says("1,2\n3,4\n", &["must be a header"]);
        says("a,b\n", &["no rows"]);
        assert!(read.read("d").unwrap_err().to_string().contains("it has `a`, `b`, `c`"));
    }
}
