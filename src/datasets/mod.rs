//! Data sets. Host only.

mod columns;
mod csv_file;
pub mod images;
pub mod integer_sequences;
pub mod linkages;
pub mod matrix;
pub mod mechanisms;
pub mod next_vectors;
pub mod npz;
#[cfg(feature = "parquet")]
mod parquet_file;
pub mod recall;
pub mod sample_reader;
pub mod samples;
pub mod scale;
pub mod tables;
pub mod tokenizer;
pub mod tokens;

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files;
use crate::random::{Random, stream};

/// Streams of random numbers for different uses, so that no two uses share any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum SampleStream {
    /// Training samples.
    Train = stream::TRAINING,
    /// Validation samples, which are fresh ones at each validation.
    Validation = stream::VALIDATION,
    /// Samples for `engine eval`.
    Test = stream::TEST,
}

/// Opens a regular file for reading. It refuses pipes and devices: opening a pipe would wait for a writer.
///
/// # Errors
/// `MissingInput`, `Io`, or `Data` for anything but a regular file; the message asks for `extension` instead.
pub(crate) fn open_regular(path: &Path, extension: &str) -> Result<File> {
    let failed = |e| Error::read(path, e);
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(Error::Data(format!("{} is no regular file: give {extension} file", path.display())));
    }
    File::open(path).map_err(failed)
}

/// The .npy files of a folder, in the order of their names; of a file, itself.
///
/// # Errors
/// `Io` when the folder cannot be read.
pub(crate) fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let failed = |e| Error::read(path, e);
    let mut found = vec![];
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        // Hidden files are not the user's, such as those that macOS puts beside others.
        let hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        found.extend((files::extension(&file) == "npy" && !hidden && !file.is_dir()).then_some(file));
    }
    found.sort();
    Ok(found)
}

/// Length and CRC-32C of a file, or of the .npy files of a folder with their names, enough to notice that it has changed.
///
/// # Errors
/// `MissingInput` or `Io`.
pub(crate) fn fingerprint(path: &Path) -> Result<String> {
    let (mut buffer, mut sum, mut length) = (vec![0; 1 << 20], 0, 0u64);
    for part in files_of(path)? {
        let failed = |e: std::io::Error| Error::read(&part, e);
        if part != path {
            sum = crc32c::crc32c_append(sum, part.file_name().unwrap_or_default().as_encoded_bytes());
        }
        let mut file = std::fs::File::open(&part).map_err(failed)?;
        loop {
            let n = file.read(&mut buffer).map_err(failed)?;
            if n == 0 {
                break;
            }
            sum = crc32c::crc32c_append(sum, &buffer[..n]);
            length += n as u64;
        }
    }
    Ok(format!("{length} bytes, {sum:08x}"))
}

/// Mark of an unchanged file, or of each .npy file of a folder, that needs no reading of it: path, length, time of the last change, and on
/// Unix device and inode.
pub(crate) type Stamp = Vec<(PathBuf, u64, Option<std::time::SystemTime>, [u64; 2])>;

/// Mark of a file as it is now.
///
/// # Errors
/// `MissingInput` or `Io`.
pub(crate) fn stamp(path: &Path) -> Result<Stamp> {
    let one = |path: PathBuf| {
        let found = path.metadata().map_err(|e| Error::read(&path, e))?;
        #[cfg(unix)]
        let place = [std::os::unix::fs::MetadataExt::dev(&found), std::os::unix::fs::MetadataExt::ino(&found)];
        #[cfg(not(unix))]
        let place = [0; 2];
        Ok((path, found.len(), found.modified().ok(), place))
    };
    files_of(path)?.into_iter().map(one).collect()
}

/// Data files of a run, watched for changes since they were read, because some are read again later.
#[derive(Debug)]
pub(crate) struct Watched(Vec<(PathBuf, Stamp, Option<String>)>);

impl Watched {
    /// Starts watching files, before they are read.
    ///
    /// # Errors
    /// `MissingInput` or `Io`.
    pub(crate) fn new<'a>(files: impl IntoIterator<Item = &'a Path>) -> Result<Self> {
        files.into_iter().map(|file| Ok((file.to_path_buf(), stamp(file)?, None))).collect::<Result<_>>().map(Watched)
    }

    /// Fingerprints of the files, which are those of the contents that were read.
    ///
    /// # Errors
    /// `Data` where a file has changed since.
    pub(crate) fn fingerprints(&mut self) -> Result<Vec<String>> {
        for (file, then, sum) in &mut self.0 {
            *sum = Some(fingerprint(file)?);
            if stamp(file)? != *then {
                return Err(Error::Data(format!("{} was changed while it was read: start again", file.display())));
            }
        }
        Ok(self.0.iter().filter_map(|(.., sum)| sum.clone()).collect())
    }

    /// Fails if a file no longer has the contents that were read.
    ///
    /// # Errors
    /// `Data` where a file has other contents now.
    pub(crate) fn check(&mut self) -> Result<()> {
        for (file, then, sum) in &mut self.0 {
            let now = stamp(file)?;
            if now == *then {
                continue;
            }
            // Touched, copied over itself: what it holds decides.
            if sum.as_ref() != Some(&fingerprint(file)?) {
                return Err(Error::Data(format!(
                    "{} was changed during the run, whose steps since then may have seen other data. Give the file of before, and go on from the \
                     newest checkpoint with --resume",
                    file.display()
                )));
            }
            *then = now;
        }
        Ok(())
    }
}

/// Length of a file and CRC-32C of its last 64 KiB, where an archive has the checksums of its members: enough to notice, without reading
/// the file, that another process reads another one.
///
/// # Errors
/// `MissingInput` or `Io`.
pub(crate) fn brief_fingerprint(path: &Path) -> Result<String> {
    let (mut all, mut sum) = (0, 0);
    for part in files_of(path)? {
        let failed = |e: std::io::Error| Error::read(&part, e);
        let mut file = std::fs::File::open(&part).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        file.seek(std::io::SeekFrom::Start(length.saturating_sub(1 << 16))).map_err(failed)?;
        let mut end = Vec::new();
        file.read_to_end(&mut end).map_err(failed)?;
        (all, sum) = (all + length, crc32c::crc32c_append(sum, &end));
    }
    Ok(format!("{all} bytes, {sum:08x} at its end"))
}

/// Splits the numbers 0 to n − 1 into training and validation samples: the last share of them validates, in order or, with a seed,
/// shuffled.
pub fn split(n: usize, share: f64, seed: Option<u64>) -> (Vec<usize>, Vec<usize>) {
    let mut order: Vec<usize> = (0..n).collect();
    if let Some(seed) = seed {
        shuffle(&mut order, Random::new(seed, stream::SPLIT, 0));
    }
    let validation = order.split_off(training_samples(n, share));
    (order, validation)
}

/// Splits as `split` does, but in blocks of successive samples, twenty of which are for validation. Training samples within `gap` of a
/// validation sample are left out, so that overlapping windows stay on one side.
pub fn split_blocks(n: usize, share: f64, seed: u64, gap: usize) -> (Vec<usize>, Vec<usize>) {
    const BLOCKS: usize = 20;
    let wanted = n - training_samples(n, share);
    let length = wanted.div_ceil(BLOCKS).max(1);
    let mut blocks: Vec<usize> = (0..n.div_ceil(length)).collect();
    shuffle(&mut blocks, Random::new(seed, stream::SPLIT, 1));
    let mut validates = vec![false; n];
    let mut left = wanted;
    for block in blocks {
        for i in (block * length..((block + 1) * length).min(n)).take(left) {
            validates[i] = true;
            left -= 1;
        }
    }
    let near = |i: usize| validates[i.saturating_sub(gap)..(i + gap + 1).min(n)].contains(&true);
    ((0..n).filter(|i| !near(*i)).collect(), (0..n).filter(|i| validates[*i]).collect())
}

/// Number of training samples, of `n` of which a share is for validation.
pub fn training_samples(n: usize, share: f64) -> usize {
    ((1.0 - share) * n as f64) as usize
}

/// Number of samples in a share of `samples`: at least one, if there are any.
pub fn share_of(samples: usize, share: f64) -> usize {
    if share >= 1.0 { samples } else { ((share * samples as f64).round() as usize).max(1).min(samples) }
}

/// Indices of a random share of `samples` samples, in order; a smaller share is part of a larger one with the same seed.
pub fn shared(samples: usize, share: f64, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..samples).collect();
    if share < 1.0 {
        shuffle(&mut order, Random::new(seed, stream::SPLIT, 2));
        order.truncate(share_of(samples, share));
        order.sort_unstable();
    }
    order
}

/// Samples with values that are NaN or infinite, in order; without `skip` the first is an error.
fn non_finite(path: &Path, skip: bool, arrays: &[(&str, &[f32], &[usize])]) -> Result<Vec<usize>> {
    let mut samples = std::collections::BTreeSet::new();
    for (name, values, shape) in arrays {
        let wrong: Vec<usize> = (0..values.len()).filter(|i| !values[*i].is_finite()).collect();
        if let (Some(first), false) = (wrong.first(), skip) {
            return Err(Error::Data(format!(
                "{}: {name} has {} values that are NaN or infinite, the first at {:?}. Mend the file, or leave such samples out with --set \
                 data.skip_non_finite=true",
                path.display(),
                wrong.len(),
                index(*first, shape)
            )));
        }
        samples.extend(wrong.into_iter().map(|i| i / (values.len() / shape[0])));
    }
    Ok(samples.into_iter().collect())
}

/// Indices along each axis of element i of an array.
pub(crate) fn index(i: usize, shape: &[usize]) -> Vec<usize> {
    let mut left = i;
    let mut out: Vec<usize> = shape.iter().rev().map(|n| (left % n, left /= n).0).collect();
    out.reverse();
    out
}

/// Shuffles the items by Fisher and Yates.
fn shuffle<T>(items: &mut [T], mut random: Random) {
    for i in (1..items.len()).rev() {
        items.swap(i, random.between(0, i as i64) as usize);
    }
}

/// Order in which the `n` items of an epoch are visited: a permutation drawn from (seed, epoch).
pub fn epoch_order(seed: u64, epoch: u64, n: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    shuffle(&mut order, Random::new(seed, stream::ORDER, epoch));
    order
}
