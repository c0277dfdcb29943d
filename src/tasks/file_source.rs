//! A file that samples come from, before they are read.

use std::path::{Path, PathBuf};

use super::data::Purpose;
use super::epochs::Sets;
use crate::error::{Error, Result};

/// A file of samples, known by its header, with their split into training and validation samples.
#[derive(Debug, Clone)]
pub struct FileSource {
    /// Path of the file.
    pub path: PathBuf,
    /// Number of samples in the file, if it exists.
    pub samples: Option<usize>,
    /// Split of the samples.
    pub sets: Sets,
    purpose: Purpose,
}

impl FileSource {
    /// A file that nothing is known of, with the split of its samples.
    pub fn new(path: &Path, mut sets: Sets, purpose: Purpose) -> Self {
        sets.tests = purpose != Purpose::Train;
        FileSource { path: path.to_path_buf(), samples: None, sets, purpose }
    }

    /// Reads the number of samples and their size with `header`; gives no size where no file is read, or none is there.
    ///
    /// # Errors
    /// Those of `header`.
    pub fn read_header<T>(&mut self, header: impl FnOnce(&Path) -> Result<(usize, T)>) -> Result<Option<T>> {
        if self.purpose == Purpose::Predict || !self.path.exists() {
            return Ok(None);
        }
        let (samples, size) = header(&self.path)?;
        self.sets.expect(samples);
        self.samples = Some(samples);
        Ok(Some(size))
    }

    /// Splits this number of samples, which were loaded.
    ///
    /// # Errors
    /// `Data` when they do not fill a batch.
    pub fn take(&mut self, samples: usize) -> Result<()> {
        self.sets.take(samples)?;
        self.samples = Some(samples);
        Ok(())
    }

    /// Fails if the file is not there, or if it has too few samples to fill a batch by its header.
    ///
    /// # Errors
    /// `MissingInput`, which says `how` to get one, or `Data`.
    pub fn expect(&self, how: &str) -> Result<()> {
        if !self.path.exists() {
            return Err(Error::MissingInput(format!("no data file {}. {how}", self.path.display()).into()));
        }
        if self.samples.is_some() { self.sets.expect_batch() } else { Ok(()) }
    }

    /// Description of the file: `found` of its samples, or that sizes are `assumed` while there is none.
    pub fn describe(&self, found: impl FnOnce(usize) -> String, assumed: &str) -> String {
        let file = self.path.display();
        match self.samples {
            Some(samples) => format!("{file}: {}", found(samples)),
            None => format!("{file} is not there: estimated for {assumed}"),
        }
    }
}
