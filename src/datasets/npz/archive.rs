//! An archive of arrays, open to be read.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::npy::{CHUNK, Header, Piece};
use super::zip::{Body, Entry, Fault, Found, STORED, bad, directory, quoted};
use crate::datasets::matrix::{Matrix, Packed, Values};
use crate::datasets::open_regular;
use crate::error::{Error, Result};
use crate::files;

/// An array that was read from an archive.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Length of each axis; empty for a single number.
    pub shape: Vec<usize>,
    /// Elements in C order: the last axis varies fastest.
    pub values: Values,
}

/// Description of a member of an archive, from the directory and its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Name without `.npy`; the whole name when the member is no array.
    pub name: String,
    /// dtype as NumPy writes it, such as `<f4`; empty when the header is unreadable.
    pub dtype: String,
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// True if the first axis varies fastest in the file.
    pub fortran_order: bool,
    /// Size when unpacked, header included, in bytes, by the zip directory.
    pub bytes: u64,
    /// Reason why it cannot be read as numbers, if there is one.
    pub needed_problem: Option<String>,
}

/// Error for an array that cannot be unpacked into a file.
fn no_room(error: io::Error) -> Fault {
    let hint = "save it with np.savez as float32 or float16, which needs no unpacking, or set TMPDIR to a folder with room";
    Fault::Io(io::Error::new(error.kind(), format!("unpacking an array into a temporary file: {error}; {hint}")))
}

/// Reserves memory for `total` values, or fails if there is none.
fn reserve<T>(values: &mut Vec<T>, total: usize) -> Found<()> {
    let failed =
        |_| Fault::Full(format!("its {total} numbers do not fit in memory: close other programs, raise the limit, or split the array"));
    values.try_reserve_exact(total - values.len()).map_err(failed)
}

/// Appends a piece to `count` values in all; memory grows with the data that have arrived, not with the count that was promised.
fn append<T: Copy>(values: &mut Vec<T>, piece: &[T], count: usize) -> Found<()> {
    if values.capacity() - values.len() < piece.len() {
        let total = (values.len() * 2).clamp(values.len() + piece.len(), count);
        reserve(values, total)?;
    }
    values.extend_from_slice(piece);
    Ok(())
}

/// Converts values from Fortran order to C order.
fn transposed<T: Copy>(values: Vec<T>, shape: &[usize]) -> Found<Vec<T>> {
    let Some((last, leading)) = shape.split_last().filter(|_| !values.is_empty()) else { return Ok(values) };
    let last_stride = leading.iter().product::<usize>();
    let mut result = Vec::new();
    reserve(&mut result, values.len())?;
    let (mut at, mut start) = (vec![0; leading.len()], 0);
    for _ in 0..last_stride {
        result.extend((0..*last).map(|i| values[start + i * last_stride]));
        // The next row in C order: the rightmost leading axis that is not at its end moves on, those right of it start again.
        let mut stride = last_stride;
        for (i, length) in at.iter_mut().zip(leading).rev() {
            stride /= length;
            *i += 1;
            start += stride;
            if *i < *length {
                break;
            }
            start -= stride * length;
            *i = 0;
        }
    }
    Ok(result)
}

/// An open .npz archive.
#[derive(Debug)]
pub struct Npz<R> {
    reader: R,
    source: String,
    directory: u64,
    entries: Vec<Entry>,
    arrays: HashMap<String, usize>,
}

/// Process that checks the numbers of a large array which stays in its archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// This process, to the last byte.
    Here,
    /// Another process, which reads the same file.
    Elsewhere,
}

impl Npz<BufReader<File>> {
    /// Opens a file and reads its directory.
    ///
    /// # Errors
    /// `MissingInput` without the file, `Io` when it cannot be read, `Data` when it is no whole zip archive.
    pub fn open(path: &Path) -> Result<Self> {
        let file = open_regular(path, "an .npz")?;
        Npz::new(BufReader::new(file), &path.display().to_string())
    }

    /// Reads an array of numbers as a matrix with a row for each index of the first axis, and checks it to its last byte. Above `in_memory`
    /// bytes the array stays in the archive if it is stored there as floats; otherwise it is unpacked into a temporary file beside it,
    /// which is deleted with the matrix. An array that stays in the archive may be checked elsewhere, as `look` says.
    ///
    /// # Errors
    /// As `array`; `Data` for one in Fortran order above the limit, `Io` when there is no room for the temporary file.
    pub fn matrix(&mut self, name: &str, in_memory: u64, look: Look) -> Result<(Vec<usize>, Matrix)> {
        let i = self.find(name)?;
        let cols = |shape: &[usize]| shape.iter().skip(1).product::<usize>();
        if self.entries[i].size <= in_memory {
            let Array { shape, values } = self.array(name)?;
            let matrix = Matrix::new(values, cols(&shape));
            return Ok((shape, matrix));
        }
        let (shape, packed) = self.leave(i, look).map_err(|fault| self.failed(name, fault))?;
        let matrix = Matrix::in_file(packed, shape.first().copied().unwrap_or(1), cols(&shape));
        Ok((shape, matrix))
    }

    /// Leaves the numbers of an array in the archive, checked here or elsewhere, or unpacks and converts them into a temporary file.
    fn leave(&mut self, i: usize, look: Look) -> Found<(Vec<usize>, Packed)> {
        let source = Path::new(&self.source).to_path_buf();
        let Entry { crc, method, .. } = self.entries[i];
        let (Header { item, shape, fortran_order, count, .. }, mut body) = self.header(i)?;
        let item = item.map_err(Fault::Bad)?;
        if fortran_order {
            return bad("it is in Fortran order and too large to turn around in memory; re-save it with np.ascontiguousarray");
        }
        let as_they_are = method == STORED && item.kind == b'f' && item.size <= 4 && !item.big_endian;
        let mut unpacked = None;
        if as_they_are && look == Look::Elsewhere {
            drop(body);
            let start = self.reader.stream_position()?;
            return Ok((shape, Packed { file: Mutex::new(File::open(&source)?), source, start, half: item.is_half() }));
        }
        if !as_they_are {
            // Beside the archive, where there is room for large files; else wherever the system keeps temporary ones.
            let file = tempfile::tempfile_in(files::folder_of(&source)).or_else(|_| tempfile::tempfile()).map_err(no_room)?;
            unpacked = Some(BufWriter::with_capacity(CHUNK, file));
        }
        body.numbers(item, count, |piece| {
            let Some(file) = &mut unpacked else { return Ok(()) };
            let written = match piece {
                Piece::Halves(piece) => piece.iter().try_for_each(|v| file.write_all(&v.to_le_bytes())),
                Piece::Floats(piece) => piece.iter().try_for_each(|v| file.write_all(&v.to_le_bytes())),
            };
            written.map_err(no_room)
        })?;
        body.finish(crc)?;
        let (file, start) = match unpacked {
            Some(file) => (file.into_inner().map_err(|e| no_room(e.into_error()))?, 0),
            // The numbers are the last of the member's bytes; finishing it has read up to their end.
            None => (File::open(&source)?, self.reader.stream_position()? - (count * item.size) as u64),
        };
        Ok((shape, Packed { file: Mutex::new(file), source, start, half: item.is_half() }))
    }
}

impl<R: Read + Seek> Npz<R> {
    /// Reads the directory of an archive; `source` names the file in errors.
    ///
    /// # Errors
    /// `Io` when it cannot be read, `Data` when it is no whole zip archive.
    pub fn new(mut reader: R, source: &str) -> Result<Self> {
        let (directory, entries) = directory(&mut reader).map_err(|fault| match fault {
            Fault::Io(e) => Error::read(Path::new(source), e),
            Fault::Bad(why) => Error::Data(format!("{source} is no usable .npz file: {why}")),
            Fault::Full(why) => Error::TryAgain(format!("{source}: {why}")),
        })?;
        let arrays = entries.iter().enumerate().filter_map(|(i, e)| Some((e.array()?.to_string(), i))).collect();
        Ok(Npz { reader, source: source.to_string(), directory, entries, arrays })
    }

    /// Names of the arrays, in the order of the file.
    pub fn names(&self) -> Vec<String> {
        self.entries.iter().filter_map(|e| Some(e.array()?.to_string())).collect()
    }

    /// All members, with the reason if one cannot be read as numbers; their data are not read.
    ///
    /// # Errors
    /// `Io` when the file cannot be read.
    pub fn members(&mut self) -> Result<Vec<Member>> {
        let mut members = Vec::new();
        for i in 0..self.entries.len() {
            let entry = &self.entries[i];
            let mut member = Member {
                name: entry.array().unwrap_or(&entry.name).to_string(),
                dtype: String::new(),
                shape: Vec::new(),
                fortran_order: false,
                bytes: entry.size,
                needed_problem: None,
            };
            if entry.array().is_none() {
                member.needed_problem = Some("it is no .npy array".to_string());
                members.push(member);
                continue;
            }
            match self.header(i).map(|(header, _)| header) {
                Ok(header) => {
                    Header { dtype: member.dtype, shape: member.shape, fortran_order: member.fortran_order, .. } = header;
                    member.needed_problem = header.item.err();
                }
                Err(Fault::Bad(why)) => member.needed_problem = Some(why),
                Err(fault) => return Err(self.failed(&member.name, fault)),
            }
            members.push(member);
        }
        Ok(members)
    }

    /// Shape of an array of numbers, from its header alone.
    ///
    /// # Errors
    /// `Data` when there is none of this name, or its headers are damaged or not of numbers; `Io` when the file cannot be read.
    pub fn shape(&mut self, name: &str) -> Result<Vec<usize>> {
        let i = self.find(name)?;
        let shape = self.header(i).and_then(|(header, _)| header.item.map(|_| header.shape).map_err(Fault::Bad));
        shape.map_err(|fault| self.failed(name, fault))
    }

    /// Reads an array of numbers, and checks it to its last byte.
    ///
    /// # Errors
    /// `Data` when there is none of this name, or it is damaged or not of numbers; `Io` when the file cannot be read.
    pub fn array(&mut self, name: &str) -> Result<Array> {
        let i = self.find(name)?;
        self.read(i).map_err(|fault| self.failed(name, fault))
    }

    fn find(&self, name: &str) -> Result<usize> {
        let missing = || {
            let shown = self.entries.iter().filter_map(Entry::array).take(12).map(quoted).collect::<Vec<_>>().join(", ");
            let more = if self.arrays.len() > 12 { format!(" and {} more", self.arrays.len() - 12) } else { String::new() };
            let there = if shown.is_empty() { "no arrays at all".to_string() } else { format!("{shown}{more}") };
            Error::Data(format!("{} has no array {}; it has {there}", self.source, quoted(name)))
        };
        self.arrays.get(name).copied().ok_or_else(missing)
    }

    fn failed(&self, name: &str, fault: Fault) -> Error {
        match fault {
            Fault::Io(e) => Error::read(Path::new(&self.source), e),
            Fault::Bad(why) => Error::Data(format!("{}: array {} cannot be used: {why}", self.source, quoted(name))),
            Fault::Full(why) => Error::TryAgain(format!("{}: array {}: {why}", self.source, quoted(name))),
        }
    }

    fn header(&mut self, i: usize) -> Found<(Header, Body<'_>)> {
        let entry = &self.entries[i];
        let mut body = Body::new(&mut self.reader, entry, self.directory)?;
        Ok((body.header(entry.size)?, body))
    }

    fn read(&mut self, i: usize) -> Found<Array> {
        let crc = self.entries[i].crc;
        let (header, body) = self.header(i)?;
        array_of(header, body, |body| body.finish(crc))
    }
}

/// Reads the array behind a header; `finish` checks that it ends there.
fn array_of(header: Header, mut body: Body<'_>, finish: impl FnOnce(Body<'_>) -> Found<()>) -> Found<Array> {
    let Header { item, shape, fortran_order, count, .. } = header;
    let item = item.map_err(Fault::Bad)?;
    let (mut halves, mut floats) = (Vec::new(), Vec::new());
    body.numbers(item, count, |piece| match piece {
        Piece::Halves(piece) => append(&mut halves, piece, count),
        Piece::Floats(piece) => append(&mut floats, piece, count),
    })?;
    let values = if item.is_half() { Values::F16(halves) } else { Values::F32(floats) };
    finish(body)?;
    let values = match values {
        Values::F16(values) if fortran_order => Values::F16(transposed(values, &shape)?),
        Values::F32(values) if fortran_order => Values::F32(transposed(values, &shape)?),
        values => values,
    };
    Ok(Array { shape, values })
}

/// A .npy file: one array by itself.
#[derive(Debug)]
pub struct NpyFile {
    file: BufReader<File>,
    path: PathBuf,
}

impl NpyFile {
    /// Opens a file.
    ///
    /// # Errors
    /// `MissingInput` without the file, `Io` when it cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(NpyFile { file: BufReader::new(open_regular(path, "a .npy")?), path: path.to_path_buf() })
    }

    fn header(&mut self) -> Found<(Header, Body<'_>)> {
        let size = self.file.get_ref().metadata()?.len();
        self.file.rewind()?;
        let mut body = Body::of(&mut self.file);
        Ok((body.header(size)?, body))
    }

    fn failed(&self, fault: Fault) -> Error {
        let path = &self.path;
        match fault {
            Fault::Io(e) => Error::read(path, e),
            Fault::Bad(why) => Error::Data(format!("{} cannot be used: {why}", path.display())),
            Fault::Full(why) => Error::TryAgain(format!("{}: {why}", path.display())),
        }
    }

    /// Shape of the array and its dtype, as NumPy writes it.
    ///
    /// # Errors
    /// `Data` when the header is damaged or not of numbers, `Io` when the file cannot be read.
    pub fn shape(&mut self) -> Result<(Vec<usize>, String)> {
        let found = self.header().and_then(|(header, _)| header.item.map(|_| (header.shape, header.dtype)).map_err(Fault::Bad));
        found.map_err(|fault| self.failed(fault))
    }

    /// Reads the array.
    ///
    /// # Errors
    /// `Data` when it is damaged or not of numbers, `Io` when the file cannot be read.
    pub fn array(&mut self) -> Result<Array> {
        // Its length is that of the header and the numbers, so it ends where they do.
        let read = self.header().and_then(|(header, body)| array_of(header, body, |_| Ok(())));
        read.map_err(|fault| self.failed(fault))
    }
}
