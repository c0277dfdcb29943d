//! Rows of numbers, in memory or in a file where they are too many for it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};

use half::f16;

use crate::error::{Error, Result};

/// Size in bytes up to which an array is read into memory; larger ones stay in their file.
pub const IN_MEMORY: u64 = 256 << 20;

/// Numbers of an array, in C order.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Half-precision floats, kept as they are.
    F16(Vec<f16>),
    /// Floats of single precision; all other numbers and booleans are rounded to the nearest.
    F32(Vec<f32>),
}

impl Values {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Values::F16(values) => values.len(),
            Values::F32(values) => values.len(),
        }
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Element `i`; like a slice it panics beyond the end.
    pub fn get(&self, i: usize) -> f32 {
        match self {
            Values::F16(values) => values[i].to_f32(),
            Values::F32(values) => values[i],
        }
    }

    /// All elements as f32.
    pub fn to_f32(&self) -> Vec<f32> {
        match self {
            Values::F16(values) => values.iter().map(|v| v.to_f32()).collect(),
            Values::F32(values) => values.clone(),
        }
    }
}

/// A matrix (rows, cols) of floats.
///
/// Rows of a matrix that lies in a file are read when they are asked for. A row that cannot be read, because the file was cut or its disk
/// has gone, is zeros; the reason is kept, and `check` reports it.
#[derive(Debug)]
pub struct Matrix {
    store: Store,
    rows: usize,
    cols: usize,
    failure: OnceLock<Error>,
}

#[derive(Debug)]
enum Store {
    Memory(Values),
    File(Packed),
}

/// Floats in a file, little-endian and in C order.
#[derive(Debug)]
pub(super) struct Packed {
    /// File handle with a position of its own, which nobody else moves.
    pub(super) file: Mutex<File>,
    /// Path of the file, for error messages.
    pub(super) source: PathBuf,
    /// Byte at which the first number starts.
    pub(super) start: u64,
    /// True for f16, false for f32.
    pub(super) half: bool,
}

impl Packed {
    fn read(&self, first: u64, bytes: &mut [u8]) -> std::io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.start + first))?;
        file.read_exact(bytes)
    }
}

impl Matrix {
    /// A matrix of values in memory, in rows of `cols`; an incomplete last row is left out.
    pub fn new(values: Values, cols: usize) -> Matrix {
        let rows = values.len() / cols.max(1);
        Matrix { store: Store::Memory(values), rows, cols, failure: OnceLock::new() }
    }

    pub(super) fn in_file(packed: Packed, rows: usize, cols: usize) -> Matrix {
        Matrix { store: Store::File(packed), rows, cols, failure: OnceLock::new() }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// True if the numbers are of half precision.
    pub fn half(&self) -> bool {
        match &self.store {
            Store::Memory(values) => matches!(values, Values::F16(_)),
            Store::File(packed) => packed.half,
        }
    }

    /// True if the numbers stay in their file.
    pub fn is_in_file(&self) -> bool {
        matches!(self.store, Store::File(_))
    }

    /// Row `i`; like a slice it panics beyond the end.
    pub fn row(&self, i: usize) -> Vec<f32> {
        let mut row = vec![0.0; self.cols];
        self.read_row(i, &mut row);
        row
    }

    /// Writes row `i` into a slice of its length; like slices it panics beyond the end.
    pub fn read_row(&self, i: usize, row: &mut [f32]) {
        assert!(i < self.rows && row.len() == self.cols, "row {i} of {} into {} of {}", self.rows, row.len(), self.cols);
        let range = i * self.cols..(i + 1) * self.cols;
        match &self.store {
            Store::Memory(Values::F16(values)) => row.iter_mut().zip(&values[range]).for_each(|(to, v)| *to = v.to_f32()),
            Store::Memory(Values::F32(values)) => row.copy_from_slice(&values[range]),
            Store::File(packed) => {
                let size = if packed.half { 2 } else { 4 };
                let mut bytes = vec![0; self.cols * size];
                if let Err(e) = packed.read((range.start * size) as u64, &mut bytes) {
                    bytes.fill(0);
                    // The first reason is the one that counts.
                    let _ = self.failure.set(Error::read(&packed.source, e));
                }
                match packed.half {
                    true => row.iter_mut().zip(bytes.as_chunks().0).for_each(|(to, b)| *to = f16::from_le_bytes(*b).to_f32()),
                    false => row.iter_mut().zip(bytes.as_chunks().0).for_each(|(to, b)| *to = f32::from_le_bytes(*b)),
                }
            }
        }
    }

    /// Row `i` as f64.
    pub fn row_f64(&self, i: usize) -> Vec<f64> {
        self.row(i).into_iter().map(f64::from).collect()
    }

    /// Fails if a row could not be read.
    ///
    /// # Errors
    /// `Io` or `MissingInput`, with the file.
    pub fn check(&self) -> Result<()> {
        self.failure.get().map_or(Ok(()), |error| Err(error.clone()))
    }
}
