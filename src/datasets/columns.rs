//! Columns of a table while it is read, and what is known of them afterwards.

use crate::error::shortened;

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

impl Element {
    /// Type of the elements of a NumPy dtype of numbers, such as `<f4`.
    pub(super) fn of_dtype(dtype: &str) -> Self {
        if dtype.contains('f') { Element::Float } else { Element::Integer }
    }
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

/// A column while it is read: numbers until the first word.
#[derive(Debug, Default)]
pub(super) struct Column {
    numbers: Vec<f32>,
    /// All values of a column of words.
    words: Option<Vec<String>>,
    /// True if the values are words whatever they look like.
    declared: bool,
    /// Reason why the column cannot be used, if there is one; its rows are still counted.
    broken: Option<String>,
    /// Number of cells without a value, which are NaN among numbers, and what is said of the first.
    holes: (usize, Option<String>),
    rows: usize,
    /// True if a number was no integer.
    fractions: bool,
}

/// The columns of a table, by their names.
pub(super) type Columns = Vec<(String, Column)>;

impl Column {
    /// A column that is words whatever they look like, or what its values are.
    pub(super) fn of(words: bool) -> Self {
        Column { words: words.then(Vec::new), declared: words, ..Column::default() }
    }

    /// Takes a value as it is written, or keeps the first reason why it cannot.
    pub(super) fn take_or_break(&mut self, text: &str, why: impl Fn(&str) -> String) {
        match text {
            "" => self.take_hole(why),
            text => self.keep(|column| column.take(text), why),
        }
    }

    /// Takes a value with `take`, or keeps the first reason why it cannot.
    pub(super) fn keep(&mut self, take: impl FnOnce(&mut Self) -> std::result::Result<(), String>, why: impl Fn(&str) -> String) {
        self.rows += 1;
        if self.broken.is_none() {
            let only_holes = self.only_holes();
            // What began with cells without a value, and goes on with words, lacks words.
            self.broken = take(self).err().map(|reason| only_holes.unwrap_or_else(|| why(&reason)));
        }
    }

    /// Takes a cell without a value: NaN among numbers.
    pub(super) fn take_hole(&mut self, why: impl Fn(&str) -> String) {
        self.rows += 1;
        let said = || why("there is no value. Fill it, or leave the row out");
        if self.words.is_some() {
            self.broken.get_or_insert_with(said);
        } else {
            self.holes.0 += 1;
            self.holes.1.get_or_insert_with(said);
            self.numbers.push(f32::NAN);
        }
    }

    /// What is said of a column without any value, if it has none.
    fn only_holes(&self) -> Option<String> {
        self.holes.1.clone().filter(|_| self.holes.0 == self.numbers.len())
    }

    /// Takes a value as it is written.
    fn take(&mut self, text: &str) -> std::result::Result<(), String> {
        match text.parse::<f64>() {
            Ok(number) if !self.declared => match number as f32 {
                value if number.is_finite() && value.is_infinite() => Err(format!("`{text}` is beyond what 32-bit numbers hold")),
                value => self.take_number(value, text.contains(['.', 'e', 'E'])),
            },
            _ => self.take_word(text),
        }
    }

    /// Takes a number, of a type that has fractions or not.
    pub(super) fn take_number(&mut self, number: f32, fractions: bool) -> std::result::Result<(), String> {
        if let Some(word) = self.words.as_ref().and_then(|words| words.first()) {
            return Err(format!("{number} is a number, and the rows before have words, such as `{}`", shortened(word)));
        }
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

    /// Type, number of rows and values, or the reason why it cannot be used.
    pub(super) fn finish(self) -> (Element, usize, std::result::Result<TableValues, String>) {
        let broken = self.broken.clone().or_else(|| self.only_holes());
        match (broken, self.words) {
            (Some(why), _) => (Element::Word, self.rows, Err(why)),
            (None, Some(words)) => (Element::Word, self.rows, Ok(TableValues::Words(words))),
            (None, None) if self.fractions => (Element::Float, self.rows, Ok(TableValues::Numbers(self.numbers))),
            (None, None) => (Element::Integer, self.rows, Ok(TableValues::Numbers(self.numbers))),
        }
    }
}
