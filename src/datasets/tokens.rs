//! A long row of tokens: in memory, or in its file where it stays.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::npz::NpyFile;
use super::open_regular;
use crate::error::{Error, Result};
use crate::files::extension;

/// First number of a .bin file of llm.c.
const MAGIC: u32 = 20_240_520;

/// Length of the header of such a file in bytes: 256 numbers of 32 bits.
const HEADER: u64 = 1024;

/// Number of tokens that are read at a time where a whole row is looked at.
const PIECE: usize = 1 << 18;

/// A row of tokens.
#[derive(Debug)]
pub struct Tokens {
    store: Store,
    len: usize,
}

#[derive(Debug)]
enum Store {
    Memory(Vec<u32>),
    File(Stored),
}

/// Whole numbers in a file, one after another.
#[derive(Debug)]
struct Stored {
    /// File handle with a position of its own, which nobody else moves.
    file: Mutex<File>,
    path: PathBuf,
    /// Byte at which the first number starts.
    start: u64,
    /// Bytes of a number.
    size: usize,
    signed: bool,
    big_endian: bool,
}

impl Stored {
    fn read(&self, range: Range<usize>) -> Result<Vec<u32>> {
        let mut bytes = vec![0; range.len() * self.size];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let read = file.seek(SeekFrom::Start(self.start + (range.start * self.size) as u64)).and_then(|_| file.read_exact(&mut bytes));
        read.map_err(|e| Error::read(&self.path, e))?;
        let number = |(at, bytes): (usize, &[u8])| {
            let mut wide = [0; 8];
            wide[..self.size].copy_from_slice(bytes);
            if self.big_endian {
                wide[..self.size].reverse();
            }
            let negative = self.signed && wide[self.size - 1] & 0x80 != 0;
            u32::try_from(u64::from_le_bytes(wide)).ok().filter(|_| !negative).ok_or_else(|| {
                let (path, at) = (self.path.display(), range.start + at);
                Error::Data(format!("{path}: number {at} is negative or has more than 32 bits, and is no token"))
            })
        };
        bytes.chunks_exact(self.size).enumerate().map(number).collect()
    }
}

/// True if a file holds tokens and no text, by its name: `.bin` or `.npy`.
pub fn holds_tokens(path: &Path) -> bool {
    ["bin", "npy"].contains(&extension(path).as_str())
}

impl Tokens {
    /// A row in memory.
    pub fn new(tokens: Vec<u32>) -> Self {
        Tokens { len: tokens.len(), store: Store::Memory(tokens) }
    }

    /// The bytes of a file as tokens, read when they are asked for.
    ///
    /// # Errors
    /// `MissingInput`, `Io`, or `Data` for anything but a regular file.
    pub fn bytes(path: &Path) -> Result<Self> {
        let file = open_regular(path, "a text")?;
        let len = file.metadata().map_err(|e| Error::read(path, e))?.len() as usize;
        Ok(Tokens::stored(file, path, 0, 1, len))
    }

    /// The tokens of a file, read when they are asked for: a .npy of one axis of integers, a .bin of llm.c (256 numbers of 32 bits, the
    /// first of them 20240520, the version 1 and the number of tokens), or any other .bin, which has unsigned numbers of 16 bits from its
    /// first byte on, as nanoGPT writes it.
    ///
    /// # Errors
    /// `MissingInput` or `Io`; `Data` when the file has another form or is cut off.
    pub fn open(path: &Path) -> Result<Self> {
        if extension(path) == "npy" {
            return Tokens::of_npy(path);
        }
        let wrong = |why: &str| Error::Data(format!("{} is no usable row of tokens: {why}", path.display()));
        let mut file = open_regular(path, "a .bin")?;
        let size = file.metadata().map_err(|e| Error::read(path, e))?.len();
        let mut head = vec![];
        Read::by_ref(&mut file).take(12).read_to_end(&mut head).map_err(|e| Error::read(path, e))?;
        let word = |at: usize| head.get(4 * at..4 * at + 4).and_then(|bytes| bytes.first_chunk()).map(|bytes| u32::from_le_bytes(*bytes));
        if word(0) != Some(MAGIC) || size < HEADER {
            if !size.is_multiple_of(2) {
                return Err(wrong(&format!("it has {size} bytes, an odd number, and tokens have two bytes each")));
            }
            return Ok(Tokens::stored(file, path, 0, 2, size as usize / 2));
        }
        let (version, count) = (word(1).unwrap_or_default(), u64::from(word(2).unwrap_or_default()));
        if version != 1 {
            return Err(wrong(&format!("its header has version {version}, and version 1 has tokens of 16 bits, which are read here")));
        }
        if HEADER + 2 * count != size {
            let there = (size - HEADER) / 2;
            return Err(wrong(&format!("its header promises {count} tokens, and there are {there}: it is cut off or was written twice")));
        }
        Ok(Tokens::stored(file, path, HEADER, 2, count as usize))
    }

    fn of_npy(path: &Path) -> Result<Self> {
        let (shape, dtype) = NpyFile::open(path)?.shape()?;
        let (kind, size) = match *dtype.as_bytes() {
            [_, kind, digit @ b'1'..=b'8'] => (kind, usize::from(digit - b'0')),
            _ => (b' ', 0),
        };
        let &[len] = &shape[..] else {
            return Err(Error::Data(format!("{} has shape {shape:?}; a row of tokens has one axis", path.display())));
        };
        if !matches!(kind, b'i' | b'u') {
            return Err(Error::Data(format!(
                "{} has the dtype {dtype}; tokens are integers, as in tokens.astype(np.uint16)",
                path.display()
            )));
        }
        let file = open_regular(path, "a .npy")?;
        // The length of the file is that of the header and the numbers, which was looked at.
        let start = file.metadata().map_err(|e| Error::read(path, e))?.len() - (len * size) as u64;
        let mut tokens = Tokens::stored(file, path, start, size, len);
        if let Store::File(stored) = &mut tokens.store {
            (stored.signed, stored.big_endian) = (kind == b'i', dtype.starts_with('>'));
        }
        Ok(tokens)
    }

    fn stored(file: File, path: &Path, start: u64, size: usize, len: usize) -> Self {
        let stored = Stored { file: Mutex::new(file), path: path.into(), start, size, signed: false, big_endian: false };
        Tokens { store: Store::File(stored), len }
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The tokens at these places, which are below the number of tokens.
    ///
    /// # Errors
    /// `Io` when the file has been cut or its disk has gone, `Data` for a number that is no token.
    pub fn read(&self, range: Range<usize>) -> Result<Vec<u32>> {
        match &self.store {
            Store::Memory(tokens) => Ok(tokens[range].to_vec()),
            Store::File(stored) => stored.read(range),
        }
    }

    /// Gives the tokens at these places to a function, piece by piece, with the place of the first of each piece.
    ///
    /// # Errors
    /// As `read`, and those of the function.
    pub fn pieces(&self, range: Range<usize>, mut each: impl FnMut(usize, &[u32]) -> Result<()>) -> Result<()> {
        range.clone().step_by(PIECE).try_for_each(|at| each(at, &self.read(at..(at + PIECE).min(range.end))?))
    }

    /// How often each token below `vocabulary` occurs at these places.
    ///
    /// # Errors
    /// As `read`, and `Data` for a token that is not below `vocabulary`.
    pub fn counts(&self, range: Range<usize>, vocabulary: usize) -> Result<Vec<u64>> {
        let mut counts = vec![0; vocabulary];
        self.pieces(range, |at, tokens| {
            for (place, token) in (at..).zip(tokens) {
                let count = counts.get_mut(*token as usize).ok_or_else(|| self.beyond(place, *token, vocabulary))?;
                *count += 1;
            }
            Ok(())
        })?;
        Ok(counts)
    }

    fn beyond(&self, place: usize, token: u32, vocabulary: usize) -> Error {
        let name = match &self.store {
            Store::Memory(_) => "the text".to_string(),
            Store::File(stored) => stored.path.display().to_string(),
        };
        Error::Data(format!(
            "{name}: token {place} is {token}, and the vocabulary has the tokens 0 to {}. Raise data.vocabulary, or name the tokenizer that \
             the file was made with",
            vocabulary.saturating_sub(1)
        ))
    }
}

/// A stretch of a row of tokens.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// The row.
    pub(crate) tokens: Arc<Tokens>,
    /// Where the stretch is.
    pub(crate) range: Range<usize>,
}

impl Part {
    /// The whole of a row.
    pub(crate) fn all(tokens: Arc<Tokens>) -> Self {
        Part { range: 0..tokens.len(), tokens }
    }

    /// Number of its tokens.
    pub(crate) fn len(&self) -> usize {
        self.range.len()
    }

    /// Up to so many tokens from a place on.
    ///
    /// # Errors
    /// Those of `Tokens::read`.
    pub(crate) fn read(&self, at: usize, count: usize) -> Result<Vec<u32>> {
        let first = self.range.start + at;
        self.tokens.read(first..(first + count).min(self.range.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    fn llm_c(version: u32, count: u32, tokens: &[u16]) -> Vec<u8> {
        let mut head = vec![0u32; 256];
        head[..3].copy_from_slice(&[MAGIC, version, count]);
        let head = head.into_iter().flat_map(u32::to_le_bytes);
        head.chain(tokens.iter().flat_map(|token| token.to_le_bytes())).collect()
    }

    #[test]
    fn reads_every_form() {
        let plain: Vec<u8> = [5u16, 0, 65_535].into_iter().flat_map(u16::to_le_bytes).collect();
        let (_a, nano) = file("train.bin", &plain);
        assert_eq!(Tokens::open(&nano).unwrap().read(0..3).unwrap(), [5, 0, 65_535]);
        let (_b, llm) = file("train.bin", &llm_c(1, 3, &[7, 8, 9]));
        assert_eq!(Tokens::open(&llm).unwrap().read(1..3).unwrap(), [8, 9]);
        let npy = |dtype: &str, bytes: &[u8]| {
            let mut text = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': (2,), }}");
            text += &" ".repeat(117 - text.len());
            text.push('\n');
            [b"\x93NUMPY\x01\x00\x76\x00".as_slice(), text.as_bytes(), bytes].concat()
        };
        for (dtype, bytes) in [("|u1", &[1u8, 2][..]), (">i2", &[0, 1, 0, 2]), ("<i4", &[1, 0, 0, 0, 2, 0, 0, 0])] {
            let (_c, path) = file("train.npy", &npy(dtype, bytes));
            assert_eq!(Tokens::open(&path).unwrap().read(0..2).unwrap(), [1, 2], "{dtype}");
        }
        let (_d, negative) = file("train.npy", &npy("<i2", &[1, 0, 255, 255]));
        let told = Tokens::open(&negative).unwrap().read(0..2).unwrap_err().to_string();
        assert!(told.contains("number 1 is negative"), "{told}");
        let (_e, floats) = file("train.npy", &npy("<f4", &[0; 8]));
        assert!(matches!(Tokens::open(&floats), Err(Error::Data(_))));
    }

    #[test]
    fn refuses_what_is_cut_off() {
        for (bytes, words) in [
            (vec![1, 2, 3], "odd number"),
            (llm_c(1, 4, &[7, 8, 9]), "promises 4 tokens, and there are 3"),
            (llm_c(2, 3, &[7, 8, 9]), "version 2"),
        ] {
            let (_folder, path) = file("train.bin", &bytes);
            let told = Tokens::open(&path).unwrap_err().to_string();
            assert!(told.contains(words), "{told}");
        }
    }

    #[test]
    fn counts_and_names_a_token_beyond_the_vocabulary() {
        let tokens = Tokens::new(vec![0, 2, 2, 1]);
        assert_eq!(tokens.counts(1..4, 3).unwrap(), [0, 1, 2]);
        assert!(tokens.counts(0..4, 2).unwrap_err().to_string().contains("token 1 is 2"));
    }
}
