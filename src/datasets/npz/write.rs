//! Archives that are written.

use std::collections::HashSet;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use half::f16;
use npyz::{DType, WriteOptions, WriterBuilder};

use super::npy::CHUNK;
use super::zip::{DEFLATED, STORED};
use crate::error::{Error, Result};
use crate::files;

/// Smallest value that needs a zip64 field; its place in the record then holds all ones.
const WIDE: u64 = u32::MAX as u64;
/// Suffix that NumPy adds to the name of an array.
const NPY: &str = ".npy";
/// Largest number of members in the end record, and largest length of a name in bytes.
const MOST: usize = u16::MAX as usize;

/// Elements of an array that is written.
#[derive(Debug, Clone, Copy)]
pub enum Numbers<'a> {
    /// Floats of single precision, written as `<f4`.
    F32(&'a [f32]),
    /// Floats of half precision, written as `<f2`.
    F16(&'a [f16]),
    /// Integers of 32 bits, written as `<i4`.
    I32(&'a [i32]),
}

impl Numbers<'_> {
    fn len(self) -> usize {
        match self {
            Numbers::F32(v) => v.len(),
            Numbers::F16(v) => v.len(),
            Numbers::I32(v) => v.len(),
        }
    }

    /// dtype, and size of an element in bytes.
    fn dtype(self) -> (&'static str, u64) {
        match self {
            Numbers::F32(_) => ("<f4", 4),
            Numbers::F16(_) => ("<f2", 2),
            Numbers::I32(_) => ("<i4", 4),
        }
    }

    /// Calls `each` with the bytes of the elements, piece by piece.
    fn bytes(self, each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        match self {
            Numbers::F32(v) => pieces(v, |v| v.to_le_bytes(), each),
            Numbers::F16(v) => pieces(v, |v| v.to_le_bytes(), each),
            Numbers::I32(v) => pieces(v, |v| v.to_le_bytes(), each),
        }
    }
}

fn pieces<T, const N: usize>(values: &[T], bytes: impl Fn(&T) -> [u8; N], mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    values.chunks(CHUNK / N).try_for_each(|piece| each(&piece.iter().flat_map(&bytes).collect::<Vec<u8>>()))
}

/// Writes f32 arrays with `write_arrays`.
///
/// # Errors
/// As `write_arrays`.
pub fn write(path: &Path, arrays: &[(&str, &[usize], &[f32])]) -> Result<()> {
    write_arrays(path, &arrays.iter().map(|(name, shape, values)| (*name, *shape, Numbers::F32(values))).collect::<Vec<_>>())
}

/// Writes arrays (name, shape, values) as an .npz file that NumPy loads, through a temporary file in the same folder; the same arrays give
/// the same bytes.
///
/// # Errors
/// `CannotCreate` when the folder takes no file, `Io` when writing fails, `Internal` when a shape does not fit its values, or a
/// name repeats or is longer than a zip can hold.
pub fn write_arrays(path: &Path, arrays: &[(&str, &[usize], Numbers<'_>)]) -> Result<()> {
    let mut names = HashSet::new();
    for (name, shape, values) in arrays {
        if shape.iter().try_fold(1_usize, |n, axis| n.checked_mul(*axis)) != Some(values.len())
            || !names.insert(name)
            || name.len() + NPY.len() > MOST
        {
            return Err(Error::Internal(format!("array {name} of shape {shape:?} and {} values for {}", values.len(), path.display())));
        }
    }
    files::replace(path, Error::create, |file| pack(file, arrays))
}

/// A member of the archive; its checksum and packed size are known once it is written.
struct Part {
    name: String,
    method: u16,
    crc: u32,
    packed: u64,
    size: u64,
    offset: u64,
}

impl Part {
    /// True if the record before the data has a zip64 field. That is decided before the packed size is known: data that do not shrink grow
    /// by five bytes for each block of tens of thousands.
    fn wide(&self) -> bool {
        let most = if self.method == STORED { self.size } else { self.size + self.size / 64 };
        most >= WIDE
    }

    /// Part that both records of the member share, from the version needed to the length of the zip64 field.
    fn both(&self, packed: u64, size: u64, field: &[u8]) -> Vec<u8> {
        let version = if field.is_empty() { 20 } else { 45 };
        // A name beyond ASCII is said to be UTF-8.
        let flags = if self.name.is_ascii() { 0 } else { 1 << 11 };
        // No clock: time and date are those of the format's first day, 1980-01-01.
        let first = [version, flags, self.method, 0, 1 << 5 | 1].map(u16::to_le_bytes).concat();
        let lengths = [self.name.len(), field.len()].map(|n| (n as u16).to_le_bytes()).concat();
        [&first[..], &self.crc.to_le_bytes(), &narrow(packed), &narrow(size), &lengths].concat()
    }

    /// Local record, before the data. With a zip64 field it holds both sizes, whatever they are.
    fn local(&self) -> Vec<u8> {
        let (packed, size, field) =
            if self.wide() { (WIDE, WIDE, zip64(&[self.size, self.packed])) } else { (self.packed, self.size, Vec::new()) };
        [b"PK\x03\x04", &self.both(packed, size, &field)[..], self.name.as_bytes(), &field].concat()
    }

    /// Record of the member in the directory.
    fn central(&self) -> Vec<u8> {
        let Self { packed, size, offset, .. } = *self;
        let field = zip64(&[size, packed, offset].into_iter().filter(|figure| *figure >= WIDE).collect::<Vec<_>>());
        // By version 4.6 of the format on Unix, so that the mode counts. No comment, the first disk, no text.
        let (by, mode) = ([46, 3], (0o100_644_u32 << 16).to_le_bytes());
        let both = self.both(packed, size, &field);
        [b"PK\x01\x02", &by[..], &both, &[0; 6], &mode, &narrow(offset), self.name.as_bytes(), &field].concat()
    }
}

fn narrow(figure: u64) -> [u8; 4] {
    (figure.min(WIDE) as u32).to_le_bytes()
}

/// Zip64 field with the values that are too big for their record; empty if there are none.
fn zip64(figures: &[u64]) -> Vec<u8> {
    let bytes = figures.iter().flat_map(|figure| figure.to_le_bytes()).collect::<Vec<_>>();
    if bytes.is_empty() { bytes } else { [&[1, 0, bytes.len() as u8, 0], &bytes[..]].concat() }
}

/// Records that end an archive whose directory of `size` bytes begins at `offset`.
fn ending(count: usize, size: u64, offset: u64) -> Vec<u8> {
    let mut records = Vec::new();
    if count >= MOST || size >= WIDE || offset >= WIDE {
        let figures = [count as u64, count as u64, size, offset].map(u64::to_le_bytes).concat();
        records.extend([b"PK\x06\x06", &44_u64.to_le_bytes()[..], &[46, 3, 45, 0], &[0; 8], &figures].concat());
        records.extend([b"PK\x06\x07", &[0; 4], &(offset + size).to_le_bytes()[..], &[1, 0, 0, 0]].concat());
    }
    let count = (count.min(MOST) as u16).to_le_bytes();
    records.extend([b"PK\x05\x06", &[0; 4], &count[..], &count, &narrow(size), &narrow(offset), &[0; 2]].concat());
    records
}

/// The .npy header of an array.
fn header(dtype: &str, shape: &[usize]) -> io::Result<Vec<u8>> {
    let dtype = DType::new_scalar(dtype.parse().map_err(io::Error::other)?);
    let shape = shape.iter().map(|axis| *axis as u64).collect::<Vec<_>>();
    WriteOptions::new_header_only().dtype(dtype).shape(&shape).writer(Vec::new()).write_header_only()
}

/// Writes header and elements of an array, and gives their checksum.
fn content(writer: &mut impl Write, header: &[u8], values: Numbers<'_>) -> io::Result<u32> {
    let mut crc = crc32fast::Hasher::new();
    let mut put = |bytes: &[u8]| {
        crc.update(bytes);
        writer.write_all(bytes)
    };
    put(header)?;
    values.bytes(put)?;
    Ok(crc.finalize())
}

fn pack<W: Write + Seek>(writer: W, arrays: &[(&str, &[usize], Numbers<'_>)]) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(CHUNK, writer);
    let mut directory = Vec::new();
    for (name, shape, values) in arrays {
        let (dtype, width) = values.dtype();
        let header = header(dtype, shape)?;
        // Images are mostly zeros; floats do not shrink.
        let method = if matches!(values, Numbers::F16(_)) { DEFLATED } else { STORED };
        let size = header.len() as u64 + values.len() as u64 * width;
        let mut part = Part { name: format!("{name}{NPY}"), method, crc: 0, packed: 0, size, offset: file.stream_position()? };
        file.write_all(&part.local())?;
        let start = file.stream_position()?;
        part.crc = if method == STORED {
            content(&mut file, &header, *values)?
        } else {
            let mut packer = DeflateEncoder::new(&mut file, Compression::default());
            let crc = content(&mut packer, &header, *values)?;
            packer.finish()?;
            crc
        };
        let end = file.stream_position()?;
        part.packed = end - start;
        file.seek(SeekFrom::Start(part.offset))?;
        file.write_all(&part.local())?;
        file.seek(SeekFrom::Start(end))?;
        directory.extend(part.central());
    }
    let offset = file.stream_position()?;
    file.write_all(&directory)?;
    file.write_all(&ending(arrays.len(), directory.len() as u64, offset))?;
    file.flush()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::archive::{Array, Npz};
    use super::super::zip::{Body, directory};
    use super::*;
    use crate::datasets::matrix::Values;

    #[test]
    fn files_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.npz");
        let many = (0..40_000).map(|i| i as f32 * 0.5).collect::<Vec<_>>();
        let arrays: [(&str, &[usize], &[f32]); 4] =
            [("many", &[200, 200], &many), ("one", &[], &[f32::MIN]), ("none", &[0, 3], &[]), ("ключ", &[1], &[1.0])];
        write(&path, &arrays).unwrap();
        let first = std::fs::read(&path).unwrap();
        write(&path, &arrays).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), first);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let mut npz = Npz::open(&path).unwrap();
        assert_eq!(npz.names(), arrays.map(|a| a.0));
        for (name, shape, values) in arrays {
            assert_eq!(npz.array(name).unwrap(), Array { shape: shape.to_vec(), values: Values::F32(values.to_vec()) });
        }
        let long = "a".repeat(MOST - 3);
        for wrong in [&[("a", &[2_usize][..], &[1.0_f32][..])][..], &[("a", &[1], &[1.0]), ("a", &[1], &[1.0])], &[(&long, &[1], &[1.0])]] {
            assert!(matches!(write(&path, wrong), Err(Error::Internal(_))));
        }
        assert!(matches!(write(&folder.path().join("no/out.npz"), &arrays), Err(Error::CannotCreate(_))));
        assert!(
            matches!(Npz::open(&folder.path().join("no.npz")), Err(Error::MissingInput(failure)) if failure.to_string().contains("no.npz"))
        );
        assert!(matches!(Npz::open(folder.path()), Err(Error::Data(_))));
    }

    fn packed(arrays: &[(&str, &[usize], Numbers<'_>)]) -> Vec<u8> {
        let mut file = io::Cursor::new(Vec::new());
        pack(&mut file, arrays).unwrap();
        file.into_inner()
    }

    #[test]
    fn what_is_written_is_read_bit_for_bit() {
        // More than a chunk of each kind; every f16 there is.
        let floats = (0..20_000_u32).map(|i| f32::from_bits(i.wrapping_mul(0x9e37_79b9))).collect::<Vec<_>>();
        let halves = (0..=u16::MAX).map(f16::from_bits).collect::<Vec<_>>();
        let zeros = vec![f16::ZERO; 100_000];
        let whole = (0..20_000).map(|i| i * 100 - 1_000_000).collect::<Vec<i32>>();
        let arrays: [(&str, &[usize], Numbers<'_>); 10] = [
            ("floats", &[10, 2, 1000], Numbers::F32(&floats)),
            ("halves", &[256, 256], Numbers::F16(&halves)),
            ("folder/zeros", &[100_000], Numbers::F16(&zeros)),
            ("whole", &[20_000, 1], Numbers::I32(&whole)),
            ("float", &[], Numbers::F32(&[f32::NEG_INFINITY])),
            ("половина", &[], Numbers::F16(&[f16::NEG_ZERO])),
            ("int", &[], Numbers::I32(&[i32::MIN])),
            ("no floats", &[0], Numbers::F32(&[])),
            ("no halves", &[3, 0], Numbers::F16(&[])),
            ("", &[0, 0, 2], Numbers::I32(&[])),
        ];
        let file = packed(&arrays);
        // Without a clock; 1980-01-01 in each of its records.
        assert_eq!(file[10..14], [0, 0, 0x21, 0]);
        assert!(file.len() < 4 * (floats.len() + whole.len()) + 2 * halves.len() + 10_000, "{}: zeros shrink", file.len());
        let mut npz = Npz::new(io::Cursor::new(file), "test.npz").unwrap();
        assert_eq!(npz.names(), arrays.map(|a| a.0));
        for (member, (name, shape, values)) in npz.members().unwrap().into_iter().zip(arrays) {
            assert_eq!((member.dtype.as_str(), member.needed_problem), (values.dtype().0, None), "{name}");
            let read = npz.array(name).unwrap();
            assert_eq!(read.shape, shape, "{name}");
            let same = match (values, &read.values) {
                (Numbers::F32(a), Values::F32(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits()),
                (Numbers::F16(a), Values::F16(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits()),
                (Numbers::I32(a), Values::F32(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| *a as f32 == *b),
                _ => false,
            };
            assert!(same, "{name}");
        }
        assert!(Npz::new(io::Cursor::new(packed(&[])), "test.npz").unwrap().names().is_empty());
    }

    /// A file of zeros, but for what is at some of its places; the last is its end.
    struct Sparse {
        pieces: Vec<(u64, Vec<u8>)>,
        at: u64,
    }

    impl Read for Sparse {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let left = (self.pieces.last().map_or(0, |(start, bytes)| start + bytes.len() as u64)).saturating_sub(self.at);
            let read = left.min(buffer.len() as u64) as usize;
            for byte in &mut buffer[..read] {
                let here = |(start, bytes): &(u64, Vec<u8>)| bytes.get(usize::try_from(self.at.checked_sub(*start)?).ok()?).copied();
                *byte = self.pieces.iter().find_map(here).unwrap_or(0);
                self.at += 1;
            }
            Ok(read)
        }
    }

    impl Seek for Sparse {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            let length = self.pieces.last().map_or(0, |(start, bytes)| start + bytes.len() as u64);
            self.at = match to {
                SeekFrom::Start(at) => at,
                SeekFrom::End(by) => length.wrapping_add_signed(by),
                SeekFrom::Current(by) => self.at.wrapping_add_signed(by),
            };
            Ok(self.at)
        }
    }

    /// The records of members of several GiB, without their data.
    #[test]
    fn figures_beyond_32_bits_are_in_zip64_fields() {
        let (mut pieces, mut records, mut offset) = (Vec::new(), Vec::new(), 0);
        // Method, packed and plain size; length of the zip64 field before the data, and of that in the directory.
        let rows = [
            (STORED, WIDE - 1, WIDE - 1, 0, 0),
            (STORED, WIDE, WIDE, 20, 28),
            (STORED, 1 << 33, 1 << 33, 20, 28),
            (DEFLATED, 1 << 24, 1 << 34, 20, 20),
            (DEFLATED, WIDE - 1, WIDE - 2, 20, 12),
            (DEFLATED, 1000, 1000, 0, 12),
        ];
        for (i, (method, packed, size, near, far)) in rows.into_iter().enumerate() {
            let part = Part { name: format!("{i}.npy"), method, crc: 7, packed, size, offset };
            let (local, central) = (part.local(), part.central());
            assert_eq!((local.len(), central.len()), (30 + 5 + near, 46 + 5 + far), "{i}");
            assert_eq!((local[4], central[6]), (if near > 0 { 45 } else { 20 }, if far > 0 { 45 } else { 20 }), "{i}");
            if near > 0 {
                let field = [&[1, 0, 16, 0], &size.to_le_bytes()[..], &packed.to_le_bytes()].concat();
                assert_eq!((&local[18..26], &local[35..]), (&[0xff; 8][..], &field[..]), "{i}");
            }
            records.extend(central);
            pieces.push((offset, local));
            offset = pieces[i].0 + pieces[i].1.len() as u64 + packed;
        }
        let last = ending(rows.len(), records.len() as u64, offset);
        pieces.push((offset, [records, last].concat()));
        let mut file = Sparse { pieces, at: 0 };
        let (start, entries) = directory(&mut file).unwrap();
        assert_eq!((start, entries.len()), (offset, rows.len()));
        for (entry, (method, packed, size, ..)) in entries.iter().zip(rows) {
            assert_eq!((entry.method, entry.crc, entry.packed, entry.size), (method, 7, packed, size), "{}", entry.name);
            assert!(Body::new(&mut file, entry, start).is_ok(), "{}", entry.name);
        }
    }

    #[test]
    fn an_end_record_has_a_zip64_record_where_its_figures_are_too_big() {
        for (count, size, offset, length) in [(MOST - 1, WIDE - 1, WIDE - 1, 22), (MOST, 0, 0, 98), (0, WIDE, 0, 98), (0, 0, WIDE, 98)] {
            assert_eq!(ending(count, size, offset).len(), length);
        }
        let shape: &[usize] = &[0];
        let names = (0..=MOST).map(|i| i.to_string()).collect::<Vec<_>>();
        let arrays = names.iter().map(|name| (name.as_str(), shape, Numbers::F32(&[]))).collect::<Vec<_>>();
        for count in [MOST - 1, MOST + 1] {
            assert_eq!(Npz::new(io::Cursor::new(packed(&arrays[..count])), "test.npz").unwrap().names(), names[..count]);
        }
    }
}
