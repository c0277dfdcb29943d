//! TensorBoard event files: TFRecord frames (length, masked CRC-32C, payload, masked CRC-32C) of `Event` messages
//! (tensorflow/core/util/event.proto) with scalars, and with texts as its plugin `text` reads them.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};
use crate::fault;
use crate::metrics::indented;

/// Writer of one event file, for scalars and texts.
#[derive(Debug)]
pub struct EventWriter {
    file: BufWriter<File>,
    path: std::path::PathBuf,
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a length-delimited field.
fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// Encodes an `Event` with wall time (1), step (2) and one more field.
fn event(step: u64, number: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![1 << 3 | 1];
    out.extend_from_slice(&now().to_le_bytes());
    out.push(2 << 3);
    varint(&mut out, step);
    field(&mut out, number, payload);
    out
}

fn masked_crc(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

impl EventWriter {
    /// Creates an event file in `folder`, for steps after `first_step`: TensorBoard ignores later steps in earlier files of the folder.
    ///
    /// # Errors
    /// `CannotCreate` when the file cannot be made.
    pub fn new(folder: &Path, first_step: u64) -> Result<Self> {
        let path = folder.join(format!("events.out.tfevents.{:.6}.{}.engine", now(), std::process::id()));
        let file = File::create_new(&path).map_err(|e| Error::create(&path, e))?;
        let mut writer = EventWriter { file: BufWriter::new(file), path };
        writer.frame(&event(0, 3, b"brain.Event:2"))?;
        // SessionLog { status: START }.
        writer.frame(&event(first_step + 1, 7, &[1 << 3, 1]))?;
        Ok(writer)
    }

    fn frame(&mut self, payload: &[u8]) -> Result<()> {
        let length = (payload.len() as u64).to_le_bytes();
        let parts: [&[u8]; 4] = [&length, &masked_crc(&length), payload, &masked_crc(payload)];
        parts.iter().try_for_each(|part| self.file.write_all(part)).map_err(|e| Error::write(&self.path, e))
    }

    /// Appends one scalar.
    ///
    /// # Errors
    /// `Io` when writing fails.
    pub fn scalar(&mut self, tag: &str, step: u64, value: f64) -> Result<()> {
        let mut inner = Vec::new();
        field(&mut inner, 1, tag.as_bytes());
        inner.push(2 << 3 | 5);
        inner.extend_from_slice(&(value as f32).to_le_bytes());
        self.summary(step, &inner)
    }

    /// Appends one text, which TensorBoard shows as it is: its Markdown keeps lines that begin with four spaces.
    ///
    /// # Errors
    /// `Io` when writing fails.
    pub fn text(&mut self, tag: &str, step: u64, text: &str) -> Result<()> {
        let nested = |numbers: &[u8], bytes: &[u8]| {
            numbers.iter().rev().fold(bytes.to_vec(), |inner, number| {
                let mut out = Vec::new();
                field(&mut out, *number, &inner);
                out
            })
        };
        // DT_STRING, of shape (1).
        let mut tensor = vec![1 << 3, 7];
        tensor.extend(nested(&[2, 2], &[1 << 3, 1]));
        tensor.extend(nested(&[8], indented(text, 4).as_bytes()));
        let mut inner = Vec::new();
        field(&mut inner, 1, tag.as_bytes());
        inner.extend(nested(&[9, 1, 1], b"text"));
        inner.extend(nested(&[8], &tensor));
        self.summary(step, &inner)
    }

    /// Appends a summary of one value.
    fn summary(&mut self, step: u64, value: &[u8]) -> Result<()> {
        let mut summary = Vec::new();
        field(&mut summary, 1, value);
        self.frame(&event(step, 5, &summary))
    }

    /// Flushes the buffer to the operating system.
    ///
    /// # Errors
    /// `Io` when writing fails.
    pub fn flush(&mut self) -> Result<()> {
        fault::file("write").and_then(|()| self.file.flush()).map_err(|e| Error::write(&self.path, e))
    }
}
