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
    pub(super) broken: Option<String>,
    rows: usize,
    /// True if a number was no integer.
    fractions: bool,
}

impl Column {
    /// A column that is words whatever they look like, or what its values are.
    pub(super) fn of(words: bool) -> Self {
        Column { words: words.then(Vec::new), declared: words, ..Column::default() }
    }

    /// Takes a value as it is written, or keeps the first reason why it cannot.
    pub(super) fn take_or_break(&mut self, text: &str, why: impl Fn(&str) -> String) {
        self.rows += 1;
        if self.broken.is_none() {
            self.broken = self.take(text).err().map(|reason| why(&reason));
        }
    }

    /// Takes a value as it is written.
    fn take(&mut self, text: &str) -> std::result::Result<(), String> {
        if text.is_empty() {
            return Err("there is no value. Fill it, or leave the row out".into());
        }
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

    /// Type, number of rows and values.
    pub(super) fn finish(self) -> (Element, usize, TableValues) {
        if self.broken.is_some() {
            return (Element::Word, self.rows, TableValues::Words(vec![]));
        }
        match self.words {
            Some(words) => (Element::Word, words.len(), TableValues::Words(words)),
            None if self.fractions => (Element::Float, self.numbers.len(), TableValues::Numbers(self.numbers)),
            None => (Element::Integer, self.numbers.len(), TableValues::Numbers(self.numbers)),
        }
    }
}
