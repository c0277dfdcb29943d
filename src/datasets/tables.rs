//! Named arrays of any meaning: members of an .npz file, .npy files of a folder, or columns of a .csv or .parquet file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

pub use super::columns::{ArrayInfo, Element, TableValues};
use super::columns::{Column, Columns};
use super::csv_file::read_csv;
use super::npz::{NpyFile, Npz};
use super::{files_of, index};
use crate::error::{Error, Result, shortened};
use crate::files;

/// A file of named arrays.
#[derive(Debug)]
pub struct Table {
    source: String,
    arrays: Vec<ArrayInfo>,
    content: Content,
    /// Line that each row begins in, of a .csv.
    lines: Vec<u64>,
    /// Arrays that cannot be read, and why.
    unreadable: Vec<(String, String)>,
}

/// True for what only `Table` reads, by its name: a folder, and files that are no .npz.
pub fn is_table(path: &Path) -> bool {
    path.is_dir() || ["csv", "parquet", "npy"].contains(&files::extension(path).as_str())
}

#[derive(Debug)]
enum Content {
    Npz(Box<Npz<std::io::BufReader<std::fs::File>>>),
    Npy(BTreeMap<String, std::result::Result<NpyFile, String>>),
    Columns(BTreeMap<String, std::result::Result<TableValues, String>>),
}

impl Table {
    /// Opens a file, or a folder of .npy files: of arrays the headers are read, of a table all rows. These columns are words, whatever they
    /// look like.
    ///
    /// # Errors
    /// `MissingInput` without the file, `Data` when it cannot be used, with line and column of a .csv.
    pub fn open(path: &Path, as_words: &BTreeSet<&str>) -> Result<Table> {
        let extension = files::extension(path);
        if path.is_dir() || extension == "npy" {
            return Table::of_npy(path);
        }
        match extension.as_str() {
            "csv" => {
                let (columns, lines) = read_csv(path, as_words)?;
                return Table::of_columns(path, columns, lines);
            }
            #[cfg(feature = "parquet")]
            "parquet" => return Table::of_columns(path, super::parquet_file::read_parquet(path)?, vec![]),
            #[cfg(not(feature = "parquet"))]
            "parquet" => {
                return Err(Error::Data(format!(
                    "{}: this program was built without the feature `parquet`: cargo build --release --features parquet, or save the table as .csv",
                    path.display()
                )));
            }
            _ => {}
        }
        let mut npz = Npz::open(path).map_err(|e| match (&e, extension.as_str()) {
            (Error::Data(_), "npz") | (Error::MissingInput(_) | Error::Io(_), _) => e,
            _ => Error::Data(format!("{}: tables and arrays are read from .csv, .npz, .npy and .parquet files", path.display())),
        })?;
        let (mut arrays, mut unreadable) = (vec![], vec![]);
        for member in npz.members()? {
            let element = Element::of_dtype(&member.dtype);
            match member.needed_problem {
                None => arrays.push(ArrayInfo { name: member.name, shape: member.shape, element }),
                Some(why) => unreadable.push((member.name, why)),
            }
        }
        Ok(Table { source: path.display().to_string(), arrays, content: Content::Npz(Box::new(npz)), lines: vec![], unreadable })
    }

    /// The .npy files of a folder, or one of them, each under its name without the extension.
    fn of_npy(path: &Path) -> Result<Table> {
        let (mut arrays, mut content) = (vec![], BTreeMap::new());
        for file in files_of(path)? {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let opened = NpyFile::open(&file).and_then(|mut npy| npy.shape().map(|facts| (npy, facts)));
            let (element, shape, npy) = match opened {
                Ok((npy, (shape, dtype))) => (Element::of_dtype(&dtype), shape, Ok(npy)),
                // Only whoever needs it has to know.
                Err(e) if path.is_dir() => (Element::Word, vec![], Err(e.to_string())),
                Err(e) => return Err(e),
            };
            arrays.push(ArrayInfo { name: name.clone(), shape, element });
            if content.insert(name.clone(), npy).is_some() {
                return Err(Error::Data(format!("{} has two files with the array `{name}`", path.display())));
            }
        }
        if arrays.is_empty() {
            return Err(Error::Data(format!("the folder {} has no .npy files: give a file, or a folder of .npy files", path.display())));
        }
        Ok(Table { source: path.display().to_string(), arrays, content: Content::Npy(content), lines: vec![], unreadable: vec![] })
    }

    /// True for a table that was written as text, whose integers may be quantities.
    pub fn is_text(&self) -> bool {
        matches!(self.content, Content::Columns(_))
    }

    /// A table of one row, column by column, as `source`. These columns are words, whatever they look like.
    ///
    /// # Errors
    /// `Data` for a value that is neither number, word nor boolean.
    pub fn of_row(source: &str, row: &serde_json::Map<String, Value>, as_words: &BTreeSet<&str>) -> Result<Table> {
        let mut columns = vec![];
        for (name, value) in row {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                _ => return Err(Error::Data(format!("{source}: column `{}` is neither a number nor a word", shortened(name)))),
            };
            let mut column = Column::of(as_words.contains(name.as_str()));
            column.take_or_break(&text, |why| format!("column `{name}`: {why}"));
            columns.push((name.clone(), column));
        }
        Table::of_columns(Path::new(source), columns, vec![])
    }

    /// A table of these columns.
    fn of_columns(path: &Path, columns: Columns, lines: Vec<u64>) -> Result<Table> {
        let source = path.display().to_string();
        let mut arrays = vec![];
        let mut content = BTreeMap::new();
        for (name, column) in columns {
            let (element, rows, values) = column.finish();
            arrays.push(ArrayInfo { name: name.clone(), shape: vec![rows], element });
            content.insert(name, values.map_err(|why| format!("{source}, {why}")));
        }
        if arrays.iter().all(|array| array.shape == [0]) {
            return Err(Error::Data(format!("{source} has columns and no rows")));
        }
        Ok(Table { source, arrays, content: Content::Columns(content), lines, unreadable: vec![] })
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
            if let Some((_, why)) = self.unreadable.iter().find(|(own, _)| own == name) {
                return Error::Data(format!("{}, array `{}`: {why}", self.source, shortened(name)));
            }
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
            Content::Npy(files) => match files.get_mut(name) {
                Some(Ok(file)) => Ok(TableValues::Numbers(file.array()?.values.to_f32())),
                Some(Err(why)) => Err(Error::Data(why.clone())),
                None => Err(Error::Internal(format!("array {name} without a file"))),
            },
            Content::Columns(columns) => columns[name].clone().map_err(Error::Data),
        }
    }

    /// Place of a row in the file: its line in a .csv, and elsewhere its number, from 0 as in predictions.
    pub fn place(&self, row: usize) -> String {
        self.lines.get(row).map_or_else(|| format!("row {row}"), |line| format!("line {line}"))
    }

    /// Error for a number that cannot be used, by its place in the file.
    pub fn wrong_number(&self, name: &str, at: usize, shape: &[usize], value: f32, why: &str) -> Error {
        let source = &self.source;
        Error::Data(match self.content {
            Content::Columns(_) => {
                let value = if value.is_nan() { "NaN, or no value,".into() } else { value.to_string() };
                format!("{source}, {}, column `{name}`: {value} {why}", self.place(at))
            }
            Content::Npz(_) | Content::Npy(_) => format!("{source}: {name}{:?} is {value}, which {why}", index(at, shape)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Result<Table> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        std::fs::write(&path, text).unwrap();
        Table::open(&path, &BTreeSet::new())
    }

    #[test]
    fn columns_are_numbers_or_words_and_errors_have_their_place() {
        let mut read = table("\u{feff}a, b,c\n1,x,0.5\n2,\"y, z\",1e3\n").unwrap();
        let elements: Vec<Element> = read.arrays().iter().map(|array| array.element).collect();
        assert_eq!(elements, [Element::Integer, Element::Word, Element::Float]);
        assert_eq!(read.read("a").unwrap(), TableValues::Numbers(vec![1.0, 2.0]));
        // A number that is missing is none, be it the first.
        let mut holes = table("a,b\n,1.5\n2,\n\"3\",\n").unwrap();
        let numbers = |values| if let TableValues::Numbers(values) = values { values } else { vec![] };
        let [a, b] = ["a", "b"].map(|name| numbers(holes.read(name).unwrap()));
        assert!(a[0].is_nan() && a[1..] == [2.0, 3.0] && b[0] == 1.5 && b[1..].iter().all(|value| value.is_nan()));
        assert!(holes.wrong_number("a", 0, &[3], f32::NAN, "is bad").to_string().ends_with("line 2, column `a`: NaN, or no value, is bad"));
        assert_eq!(read.read("b").unwrap(), TableValues::Words(vec!["x".into(), "y, z".into()]));
        let says = |text: &str, parts: &[&str]| {
            let read = |mut table: Table| table.arrays().to_vec().iter().try_for_each(|array| table.read(&array.name).map(drop));
            let error = table(text).and_then(read).unwrap_err();
            assert!(error.exit_code() == 65 && parts.iter().all(|part| error.to_string().contains(part)), "{error}");
        };
        says("a,b\n1,2\nx,3\n", &["line 3", "column `a`", "`x` is no number"]);
        says("a,b\n1,2\n3\n", &["line 3", "1 values for the 2 columns"]);
        says("a,b\n1,\n", &["line 2", "column `b`", "no value"]);
        says("a,b\n1,x\n2,\n", &["line 3", "column `b`", "no value"]);
        says("a,b\n1,\n2,x\n", &["line 2", "column `b`", "no value"]);
        says("a,a\n1,2\n", &["line 1", "stands twice"]);
        says("1,2\n3,4\n", &["must be a header"]);
        says("a;b\n1;2\n", &["separated by ';'"]);
        says("a\nx\n3\n", &["line 3", "3 is a number, and the rows before have words"]);
        says("a\n1e39\n", &["line 2", "beyond what 32-bit numbers hold"]);
        says("", &["it is empty"]);
        says("a,b\n", &["no rows"]);
        assert!(read.read("d").unwrap_err().to_string().contains("it has `a`, `b`, `c`"));
    }
}
