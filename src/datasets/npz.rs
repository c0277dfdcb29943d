//! NumPy's .npz archives: a reader that trusts nothing it is given, and a writer.
//!
//! A file says how big it is in three places: the zip directory, the .npy header and the data. All three must agree exactly, and nothing is
//! allocated on the word of one alone. Only what is asked for is read, so that a pickle nobody needs is never looked at.

// The zip directory and the .npy header are parsed here, because the crates are not made for hostile files. zip 9.4: accepts what follows the
// end record, junk behind the directory and entries that run past it (of two archives one after the other it reads the first), keeps one of
// two members of a name, and reserves 166 times the file's length on a forged count. npyz 0.9: takes time exponential in the nesting of a
// dtype, allocates what a header claims, and multiplies its shape unchecked. Both are fine for writing.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::Mutex;

use flate2::read::DeflateDecoder;
use half::f16;
use npyz::WriterBuilder;
use zip::write::FileOptions;

use super::matrix::{Matrix, Packed, Values};
use crate::error::{Error, Result};
use crate::files;

/// Longest .npy header read; NumPy itself stops at 10,000 bytes.
const MAX_HEADER: usize = 64 << 10;
/// Most axes of an array, as in NumPy.
const MAX_AXES: usize = 64;
/// Deflate makes at most 1032 bytes of one: 258 bytes of two bits.
const MAX_RATIO: u64 = 1032;
/// Bytes decoded at a time; a multiple of every item size.
const CHUNK: usize = 64 << 10;

const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// Lengths of the zip records' fixed parts.
const LOCAL: u64 = 30;
const CENTRAL: u64 = 46;
const END: u64 = 22;
const END64: u64 = 56;
const LOCATOR64: u64 = 20;

/// An array that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Length of each axis; none for a single number.
    pub shape: Vec<usize>,
    /// Its numbers in C order: the last axis varies fastest.
    pub values: Values,
}

/// What a member of the archive says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Name without `.npy`; the whole name when the member is no array.
    pub name: String,
    /// dtype as NumPy writes it, such as `<f4`; empty when the header is unreadable.
    pub dtype: String,
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// Whether the first axis varies fastest in the file.
    pub fortran_order: bool,
    /// Bytes when unpacked, header included, by the zip directory.
    pub bytes: u64,
    /// Why it cannot be read as numbers, if so.
    pub needed_problem: Option<String>,
}

/// What went wrong below the level where file and member are known.
#[derive(Debug)]
enum Fault {
    /// The device's fault.
    Io(io::Error),
    /// The data's fault, and why.
    Bad(String),
    /// The memory's.
    Full(String),
}

type Found<T> = std::result::Result<T, Fault>;

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Fault::Bad("its data end too early: the file is truncated or damaged".to_string()),
            // The inflater reports broken data in these two kinds.
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => Fault::Bad(format!("its packed data are damaged ({error})")),
            _ => Fault::Io(error),
        }
    }
}

fn bad<T>(why: impl Into<String>) -> Found<T> {
    Err(Fault::Bad(why.into()))
}

/// A name from a file, safe to print: escaped and short.
fn quoted(text: &str) -> String {
    let short = text.chars().take(80).collect::<String>();
    format!("{short:?}{}", if short.len() < text.len() { "…" } else { "" })
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// A member as the zip directory has it.
#[derive(Debug)]
struct Entry {
    name: String,
    name_bytes: u16,
    encrypted: bool,
    method: u16,
    crc: u32,
    packed: u64,
    size: u64,
    offset: u64,
    /// What sets it at odds with another member.
    clash: Option<&'static str>,
}

impl Entry {
    /// The array's name, when it is one.
    fn array(&self) -> Option<&str> {
        self.name.strip_suffix(".npy")
    }

    /// First byte that surely comes after it; the length of its extra field is not known yet.
    fn end(&self) -> u64 {
        self.offset.saturating_add(LOCAL + u64::from(self.name_bytes)).saturating_add(self.packed)
    }

    /// Refuses what cannot be read, or cannot be true, by the directory alone.
    fn check(&self, directory: u64) -> Found<()> {
        let Self { packed, size, method, .. } = self;
        if let Some(clash) = self.clash {
            return bad(clash);
        }
        if self.encrypted {
            return bad("it is encrypted; save it without a password");
        }
        if self.end() > directory {
            return bad(format!(
                "it should end by byte {directory} of the file but its sizes lead to byte {}: damaged or forged",
                self.end()
            ));
        }
        match *method {
            STORED if packed != size => bad(format!("it is stored as {packed} bytes but claims {size}: damaged or forged")),
            DEFLATED if *size > packed.saturating_mul(MAX_RATIO) => {
                bad(format!("it claims {size} bytes but {packed} packed ones give at most {}: damaged or forged", packed * MAX_RATIO))
            }
            STORED | DEFLATED => Ok(()),
            _ => {
                bad(format!("its compression method is {method}, expected 0 (np.savez) or 8 (np.savez_compressed); re-save it with either"))
            }
        }
    }
}

/// Names are compared only with names written by the same rules, so the old code page for non-ASCII ones is not worth a table.
fn decoded(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// Why a file without the record that ends every zip is not one.
fn no_zip<R: Read + Seek>(reader: &mut R, length: u64) -> Found<&'static str> {
    let mut start = Vec::new();
    reader.seek(SeekFrom::Start(0))?;
    reader.take(6).read_to_end(&mut start)?;
    Ok(match start.as_slice() {
        _ if length == 0 => "it is empty",
        b"\x93NUMPY" => "it is a single .npy array; save it with np.savez",
        [b'P', b'K', 3, 4, ..] => "the directory at its end is missing: the file is truncated, or something was appended",
        _ => "it is not a zip archive; save it with np.savez or np.savez_compressed",
    })
}

/// Reads the zip directory: where it begins, and its entries.
fn directory<R: Read + Seek>(reader: &mut R) -> Found<(u64, Vec<Entry>)> {
    let length = reader.seek(SeekFrom::End(0))?;
    let mut tail = vec![0; length.min(END + u64::from(u16::MAX)) as usize];
    let tail_start = length - tail.len() as u64;
    reader.seek(SeekFrom::Start(tail_start))?;
    reader.read_exact(&mut tail)?;
    // The record is last, after it only a comment of the length that it states.
    let ends = |at: &usize| tail[*at..].starts_with(b"PK\x05\x06") && at + END as usize + usize::from(u16_at(&tail, at + 20)) == tail.len();
    let Some(at) = tail.len().checked_sub(END as usize).and_then(|last| (0..=last).rev().find(ends)) else {
        let why = no_zip(reader, length)?;
        return bad(why);
    };
    let record = &tail[at..];
    let mut directory_end = tail_start + at as u64;
    let (mut disks, mut count) = (u32::from(u16_at(record, 4) | u16_at(record, 6)), u64::from(u16_at(record, 10)));
    let (mut size, mut offset) = (u64::from(u32_at(record, 12)), u64::from(u32_at(record, 16)));
    // Figures too big for this record are in a second one, which a locator just before this one finds.
    if (count == u64::from(u16::MAX) || size == u64::from(u32::MAX) || offset == u64::from(u32::MAX))
        && let Some(locator_start) = directory_end.checked_sub(LOCATOR64)
    {
        let mut locator = [0; LOCATOR64 as usize];
        reader.seek(SeekFrom::Start(locator_start))?;
        reader.read_exact(&mut locator)?;
        if locator.starts_with(b"PK\x06\x07") {
            let start = u64_at(&locator, 8);
            let mut record = [0; END64 as usize];
            if start.checked_add(END64).is_none_or(|end| end > locator_start) {
                return bad(format!("its zip64 record should be before byte {locator_start}, but is said to be at byte {start}"));
            }
            reader.seek(SeekFrom::Start(start))?;
            reader.read_exact(&mut record)?;
            if !record.starts_with(b"PK\x06\x06") {
                return bad(format!("there is no zip64 record at byte {start}: damaged or forged"));
            }
            directory_end = start;
            disks = u32_at(&record, 16) | u32_at(&record, 20);
            (count, size, offset) = (u64_at(&record, 32), u64_at(&record, 40), u64_at(&record, 48));
        }
    }
    if disks != 0 {
        return bad("it is one part of an archive in several; save it as one file");
    }
    if offset.checked_add(size) != Some(directory_end) {
        return bad(format!(
            "its directory should end at byte {directory_end}, but is said to be {size} bytes from byte {offset}: truncated or damaged"
        ));
    }
    if count.checked_mul(CENTRAL).is_none_or(|least| least > size) {
        return bad(format!("its directory of {size} bytes cannot hold the {count} members that it claims"));
    }
    reader.seek(SeekFrom::Start(offset))?;
    let mut left = reader.take(size);
    let (mut entries, mut name, mut extra) = (Vec::new(), Vec::new(), Vec::new());
    for i in 0..count {
        entries.push(central(&mut left, &mut name, &mut extra, i)?);
    }
    if left.limit() != 0 {
        return bad(format!("its directory goes on for {} bytes after the {count} members that it claims", left.limit()));
    }
    mark_clashes(&mut entries);
    Ok((offset, entries))
}

/// Reads exactly `length` bytes into a buffer that is used again.
fn read_into<R: Read>(reader: &mut R, buffer: &mut Vec<u8>, length: u16) -> Found<()> {
    buffer.resize(usize::from(length), 0);
    Ok(reader.read_exact(buffer)?)
}

/// Reads one entry of the directory.
fn central<R: Read>(reader: &mut io::Take<R>, name: &mut Vec<u8>, extra: &mut Vec<u8>, i: u64) -> Found<Entry> {
    let mut fixed = [0; CENTRAL as usize];
    reader.read_exact(&mut fixed)?;
    if !fixed.starts_with(b"PK\x01\x02") {
        return bad(format!("entry {i} of its directory does not start with the mark of one: damaged"));
    }
    let claimed = [28, 30, 32].map(|at| u64::from(u16_at(&fixed, at))).iter().sum::<u64>();
    if claimed > reader.limit() {
        return bad(format!("entry {i} of its directory claims {claimed} more bytes, but the directory has {}: damaged", reader.limit()));
    }
    read_into(reader, name, u16_at(&fixed, 28))?;
    read_into(reader, extra, u16_at(&fixed, 30))?;
    let (mut size, mut packed, mut offset) = (u64::from(u32_at(&fixed, 24)), u64::from(u32_at(&fixed, 20)), u64::from(u32_at(&fixed, 42)));
    // The zip64 field has, in this order, those of the three that were too big.
    let mut rest = extra.as_slice();
    while rest.len() >= 4 {
        let (kind, length) = (u16_at(rest, 0), usize::from(u16_at(rest, 2)));
        let mut field = &rest[4..rest.len().min(4 + length)];
        rest = &rest[rest.len().min(4 + length)..];
        if kind != 1 {
            continue;
        }
        for value in [&mut size, &mut packed, &mut offset] {
            if *value == u64::from(u32::MAX) && field.len() >= 8 {
                *value = u64_at(field, 0);
                field = &field[8..];
            }
        }
    }
    // The comment says nothing of use.
    read_into(reader, extra, u16_at(&fixed, 32))?;
    Ok(Entry {
        name: decoded(name),
        name_bytes: u16_at(&fixed, 28),
        encrypted: u16_at(&fixed, 8) & 1 != 0,
        method: u16_at(&fixed, 10),
        crc: u32_at(&fixed, 16),
        packed,
        size,
        offset,
        clash: None,
    })
}

/// Marks members of the same name, and members that share bytes of the file: the bombs with the highest ratio are made of those.
fn mark_clashes(entries: &mut [Entry]) {
    let mut order = (0..entries.len()).collect::<Vec<_>>();
    order.sort_unstable_by(|a, b| entries[*a].name.cmp(&entries[*b].name));
    for pair in order.windows(2) {
        if entries[pair[0]].name == entries[pair[1]].name {
            pair.iter().for_each(|i| entries[*i].clash = Some("another member has the same name; save it under one of its own"));
        }
    }
    order.sort_unstable_by_key(|i| entries[*i].offset);
    let mut last: Option<usize> = None;
    for i in order {
        if let Some(before) = last
            && entries[before].end() > entries[i].offset
        {
            [before, i].iter().for_each(|i| entries[*i].clash = Some("it overlaps another member in the file: damaged or forged"));
        }
        if last.is_none_or(|before| entries[before].end() < entries[i].end()) {
            last = Some(i);
        }
    }
}

/// How the numbers of an array are written.
#[derive(Debug, Clone, Copy)]
struct Item {
    kind: u8,
    size: usize,
    big_endian: bool,
}

impl Item {
    fn is_half(self) -> bool {
        (self.kind, self.size) == (b'f', 2)
    }

    /// Understands a dtype such as `<f4`, or says why it is not one of numbers.
    fn new(dtype: &str) -> std::result::Result<Self, String> {
        let item = match *dtype.as_bytes() {
            [order, kind, digit @ b'1'..=b'8'] => Item { kind, size: usize::from(digit - b'0'), big_endian: order == b'>' },
            _ => Item { kind: *dtype.as_bytes().get(1).unwrap_or(&b' '), size: 0, big_endian: false },
        };
        let known = matches!((item.kind, item.size), (b'f', 2 | 4 | 8) | (b'i' | b'u', 1 | 2 | 4 | 8) | (b'b', 1));
        let ordered = dtype.starts_with(['<', '>']) || (dtype.starts_with('|') && item.size == 1);
        if known && ordered {
            return Ok(item);
        }
        let what = match item.kind {
            _ if dtype.starts_with(['[', '(']) => "structured records",
            b'O' => "Python objects",
            b'S' | b'a' | b'U' => "text",
            b'c' => "complex numbers",
            b'M' | b'm' => "dates or time spans",
            b'V' => "raw bytes",
            b'f' => "floats of an unusual size",
            _ => "nothing that is known here",
        };
        let hint = "re-save it as a numeric array, for example with np.asarray(x, dtype=np.float32)";
        Err(format!("its dtype {} holds {what}, expected floats of 2, 4 or 8 bytes, integers or booleans; {hint}", quoted(dtype)))
    }
}

/// A .npy header.
#[derive(Debug)]
struct Header {
    dtype: String,
    item: std::result::Result<Item, String>,
    shape: Vec<usize>,
    fortran_order: bool,
    /// Numbers in the array.
    count: usize,
}

/// What is left of a .npy header: the literal of a Python dictionary.
struct Literal<'a>(&'a str);

impl<'a> Literal<'a> {
    fn fails<T>(&self, expected: &str) -> Found<T> {
        bad(format!("its header has {} where {expected} should be", quoted(self.0.get(..self.0.len().min(24)).unwrap_or("other text"))))
    }

    fn eat(&mut self, token: &str) -> bool {
        self.0 = self.0.trim_start();
        let rest = self.0.strip_prefix(token);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn need(&mut self, token: &str) -> Found<()> {
        if self.eat(token) { Ok(()) } else { self.fails(token) }
    }

    fn string(&mut self) -> Found<&'a str> {
        for quote in ["'", "\""] {
            if self.eat(quote) {
                let Some((text, rest)) = self.0.split_once(quote) else { return self.fails("a closed string") };
                self.0 = rest;
                return Ok(text);
            }
        }
        self.fails("a string")
    }

    /// A string, or the text of a bracketed value: a structured dtype, which is only shown.
    fn dtype(&mut self) -> Found<&'a str> {
        self.0 = self.0.trim_start();
        if !self.0.starts_with(['[', '(']) {
            return self.string();
        }
        let (mut depth, mut quote) = (0_usize, None);
        let mut characters = self.0.char_indices();
        while let Some((i, c)) = characters.next() {
            match (quote, c) {
                // What a backslash escapes ends no string.
                (Some(_), '\\') => _ = characters.next(),
                (Some(q), _) if q == c => quote = None,
                (Some(_), _) => {}
                (None, '\'' | '"') => quote = Some(c),
                (None, '[' | '(') => depth += 1,
                (None, ']' | ')') => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                let (text, rest) = self.0.split_at(i + 1);
                self.0 = rest;
                return Ok(text);
            }
        }
        self.fails("a closed bracket")
    }

    fn boolean(&mut self) -> Found<bool> {
        if self.eat("True") {
            return Ok(true);
        }
        self.need("False").map(|()| false)
    }

    fn shape(&mut self) -> Found<Vec<usize>> {
        let mut shape = Vec::new();
        self.need("(")?;
        while !self.eat(")") {
            if shape.len() == MAX_AXES {
                return bad(format!("its shape has more than {MAX_AXES} axes"));
            }
            let digits = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
            let (number, rest) = self.0.split_at(digits);
            let Ok(axis) = number.parse() else { return self.fails("the length of an axis, 0 or more") };
            shape.push(axis);
            // Python 2 wrote lengths as 3L.
            self.0 = rest.strip_prefix('L').unwrap_or(rest);
            if !self.eat(",") {
                if shape.len() == 1 {
                    return self.fails(",");
                }
                self.need(")")?;
                break;
            }
        }
        Ok(shape)
    }
}

impl Header {
    fn new(text: &str) -> Found<Self> {
        let mut text = Literal(text);
        let (mut dtype, mut fortran_order, mut shape) = (None, None, None);
        text.need("{")?;
        while !text.eat("}") {
            let key = text.string()?;
            text.need(":")?;
            match key {
                "descr" if dtype.is_none() => dtype = Some(text.dtype()?),
                "fortran_order" if fortran_order.is_none() => fortran_order = Some(text.boolean()?),
                "shape" if shape.is_none() => shape = Some(text.shape()?),
                _ => return bad(format!("its header has an unknown or repeated key {}", quoted(key))),
            }
            if !text.eat(",") {
                text.need("}")?;
                break;
            }
        }
        if !text.0.trim_start().is_empty() {
            return text.fails("its end");
        }
        let (Some(dtype), Some(fortran_order), Some(shape)) = (dtype, fortran_order, shape) else {
            return bad("its header lacks one of descr, fortran_order and shape");
        };
        // Axes of length 0 count as 1 here, so that no product of any of the axes overflows anywhere.
        let Some(most) = shape.iter().try_fold(1_usize, |n, axis| n.checked_mul((*axis).max(1))).filter(|n| *n <= isize::MAX as usize / 8)
        else {
            return bad(format!("its shape {shape:?} is more than memory can hold"));
        };
        let count = if shape.contains(&0) { 0 } else { most };
        Ok(Header { dtype: dtype.to_string(), item: Item::new(dtype), shape, fortran_order, count })
    }
}

/// The unpacked bytes of a member, with their checksum so far.
struct Body<'a> {
    reader: Box<dyn Read + 'a>,
    crc: crc32fast::Hasher,
}

impl<'a> Body<'a> {
    /// Opens a member after every check that its two zip headers allow.
    fn new<R: Read + Seek>(reader: &'a mut R, entry: &Entry, directory: u64) -> Found<Self> {
        entry.check(directory)?;
        let mut local = [0; LOCAL as usize];
        reader.seek(SeekFrom::Start(entry.offset))?;
        reader.read_exact(&mut local)?;
        if !local.starts_with(b"PK\x03\x04") {
            return bad(format!("there is no member at byte {}, where the directory has it: damaged or forged", entry.offset));
        }
        let mut name = Vec::new();
        if u16_at(&local, 26) == entry.name_bytes {
            read_into(reader, &mut name, entry.name_bytes)?;
        }
        if decoded(&name) != entry.name || u16_at(&local, 8) != entry.method {
            return bad(format!("the member at byte {} differs from the directory's in name or method: damaged or forged", entry.offset));
        }
        let extra = u64::from(u16_at(&local, 28));
        if entry.end() + extra > directory {
            return bad(format!("its data should end by byte {directory} but would at byte {}: damaged or forged", entry.end() + extra));
        }
        reader.seek(SeekFrom::Start(entry.end() + extra - entry.packed))?;
        let packed = reader.take(entry.packed);
        let reader: Box<dyn Read + 'a> = match entry.method {
            DEFLATED => Box::new(DeflateDecoder::new_with_buf(packed, vec![0; entry.packed.clamp(1, 32 << 10) as usize])),
            _ => Box::new(packed),
        };
        Ok(Body { reader, crc: crc32fast::Hasher::new() })
    }

    /// Reads exactly a buffer full.
    fn fill(&mut self, buffer: &mut [u8]) -> Found<()> {
        self.reader.read_exact(buffer)?;
        self.crc.update(buffer);
        Ok(())
    }

    /// Reads the .npy header, and checks the size that it implies against the directory's.
    fn header(&mut self, size: u64) -> Found<Header> {
        let mut start = [0; 12];
        self.fill(&mut start[..8])?;
        if !start.starts_with(b"\x93NUMPY") {
            return bad("it does not start with the mark of a .npy file");
        }
        let width = match (start[6], start[7]) {
            (1, 0) => 2,
            (2 | 3, 0) => 4,
            (major, minor) => return bad(format!("its .npy version is {major}.{minor}, expected 1.0, 2.0 or 3.0")),
        };
        self.fill(&mut start[8..8 + width])?;
        let length = u32_at(&start, 8) as usize;
        let payload = 8 + width + length;
        if length > MAX_HEADER || payload as u64 > size {
            return bad(format!("its header should be {length} bytes long, expected at most {MAX_HEADER} and within its {size} bytes"));
        }
        let mut text = vec![0; length];
        self.fill(&mut text)?;
        let Ok(text) = str::from_utf8(&text) else { return bad("its header is no text") };
        let header = Header::new(text)?;
        if let Ok(item) = header.item {
            // At most 2⁶³: the count was checked against the widest item.
            let expected = payload as u64 + (header.count * item.size) as u64;
            if expected != size {
                let Header { dtype, shape, .. } = &header;
                return bad(format!("shape {shape:?} of {dtype} with its header is {expected} bytes, but the zip directory says {size}"));
            }
        }
        Ok(header)
    }

    /// Passes on `count` numbers piece by piece: halves as they are, everything else as f32, rounded to the nearest.
    fn numbers(&mut self, item: Item, count: usize, mut each: impl FnMut(Piece<'_>) -> Found<()>) -> Found<()> {
        let Item { kind, size, big_endian } = item;
        let mut chunk = vec![0; CHUNK.min(count * size)];
        let (mut halves, mut floats) = (Vec::new(), Vec::new());
        macro_rules! convert {
            ($bytes:ident, $into:ident, $type:ty, $value:ident => $result:expr) => {{
                let number = |b: &_| if big_endian { <$type>::from_be_bytes(*b) } else { <$type>::from_le_bytes(*b) };
                $into.extend($bytes.as_chunks().0.iter().map(number).map(|$value| $result))
            }};
        }
        let mut left = count;
        while left > 0 {
            let now = left.min(CHUNK / size);
            let bytes = &mut chunk[..now * size];
            self.fill(bytes)?;
            halves.clear();
            floats.clear();
            match (kind, size) {
                (b'f', 2) => convert!(bytes, halves, f16, v => v),
                (b'f', 4) => convert!(bytes, floats, f32, v => v),
                (b'f', _) => convert!(bytes, floats, f64, v => v as f32),
                (b'b', _) => convert!(bytes, floats, u8, v => f32::from(v != 0)),
                (b'i', 1) => convert!(bytes, floats, i8, v => v as f32),
                (b'i', 2) => convert!(bytes, floats, i16, v => v as f32),
                (b'i', 4) => convert!(bytes, floats, i32, v => v as f32),
                (b'i', _) => convert!(bytes, floats, i64, v => v as f32),
                (_, 1) => convert!(bytes, floats, u8, v => v as f32),
                (_, 2) => convert!(bytes, floats, u16, v => v as f32),
                (_, 4) => convert!(bytes, floats, u32, v => v as f32),
                _ => convert!(bytes, floats, u64, v => v as f32),
            }
            each(if halves.is_empty() { Piece::Floats(&floats) } else { Piece::Halves(&halves) })?;
            left -= now;
        }
        Ok(())
    }

    /// Makes sure that the member ends here, and that it is what was written.
    fn finish(mut self, crc: u32) -> Found<()> {
        match self.reader.read_exact(&mut [0]) {
            Ok(()) => return bad("its data go on after the size in the zip directory: damaged or forged"),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(e) => return Err(e.into()),
        }
        let found = self.crc.finalize();
        if found == crc { Ok(()) } else { bad(format!("its checksum is {found:08x}, expected {crc:08x}: the file is damaged")) }
    }
}

/// What keeps an array from being unpacked into a file.
fn no_room(error: io::Error) -> Fault {
    let hint = "save it with np.savez as float32 or float16, which needs no unpacking, or set TMPDIR to a folder with room";
    Fault::Io(io::Error::new(error.kind(), format!("unpacking an array into a temporary file: {error}; {hint}")))
}

/// Numbers of an array, as they come.
enum Piece<'a> {
    Halves(&'a [f16]),
    Floats(&'a [f32]),
}

/// Makes room for `total` values, or says that there is none.
fn reserve<T>(values: &mut Vec<T>, total: usize) -> Found<()> {
    let failed =
        |_| Fault::Full(format!("its {total} numbers do not fit in memory: close other programs, raise the limit, or split the array"));
    values.try_reserve_exact(total - values.len()).map_err(failed)
}

/// Adds a piece to `count` values that are to come; memory grows with what has arrived, not with what was promised.
fn append<T: Copy>(values: &mut Vec<T>, piece: &[T], count: usize) -> Found<()> {
    if values.capacity() - values.len() < piece.len() {
        let total = (values.len() * 2).clamp(values.len() + piece.len(), count);
        reserve(values, total)?;
    }
    values.extend_from_slice(piece);
    Ok(())
}

/// Turns Fortran order into C order.
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

impl Npz<BufReader<File>> {
    /// Opens a file and reads its directory.
    ///
    /// # Errors
    /// `MissingInput` without the file, `Io` when it cannot be read, `Data` when it is no whole zip archive.
    pub fn open(path: &Path) -> Result<Self> {
        let file = super::open_regular(path, "an .npz")?;
        Npz::new(BufReader::new(file), &path.display().to_string())
    }

    /// Reads an array of numbers as rows of what its axes but the first hold, and checks it to its last byte. Above `in_memory` bytes it stays where it
    /// is: in the archive if it is stored there as floats, else unpacked into a temporary file beside it that goes with the matrix. What stays in the archive
    /// is only looked through if `check`.
    ///
    /// # Errors
    /// As `array`; `Data` for one in Fortran order above the limit, `Io` when there is no room for the temporary file.
    pub fn matrix(&mut self, name: &str, in_memory: u64, check: bool) -> Result<(Vec<usize>, Matrix)> {
        let i = self.find(name)?;
        let cols = |shape: &[usize]| shape.iter().skip(1).product::<usize>();
        if self.entries[i].size <= in_memory {
            let Array { shape, values } = self.array(name)?;
            let matrix = Matrix::new(values, cols(&shape));
            return Ok((shape, matrix));
        }
        let (shape, packed) = self.leave(i, check).map_err(|fault| self.failed(name, fault))?;
        let matrix = Matrix::in_file(packed, shape.first().copied().unwrap_or(1), cols(&shape));
        Ok((shape, matrix))
    }

    /// Leaves the numbers of an array in the archive, looked through if `check`, or in a temporary file where they have to be unpacked or converted.
    fn leave(&mut self, i: usize, check: bool) -> Found<(Vec<usize>, Packed)> {
        let source = Path::new(&self.source).to_path_buf();
        let Entry { crc, method, .. } = self.entries[i];
        let (Header { item, shape, fortran_order, count, .. }, mut body) = self.header(i)?;
        let item = item.map_err(Fault::Bad)?;
        if fortran_order {
            return bad("it is in Fortran order and too large to turn around in memory; re-save it with np.ascontiguousarray");
        }
        let as_they_are = method == STORED && item.kind == b'f' && item.size <= 4 && !item.big_endian;
        let mut unpacked = None;
        if as_they_are && !check {
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
            Fault::Io(e) => Error::read(Path::new(source), &e),
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

    /// All members, with what is wrong with those that cannot be read as numbers; their data are not read.
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
            Fault::Io(e) => Error::read(Path::new(&self.source), &e),
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
        let (Header { item, shape, fortran_order, count, .. }, mut body) = self.header(i)?;
        let item = item.map_err(Fault::Bad)?;
        let (mut halves, mut floats) = (Vec::new(), Vec::new());
        body.numbers(item, count, |piece| match piece {
            Piece::Halves(piece) => append(&mut halves, piece, count),
            Piece::Floats(piece) => append(&mut floats, piece, count),
        })?;
        let values = if item.is_half() { Values::F16(halves) } else { Values::F32(floats) };
        body.finish(crc)?;
        let values = match values {
            Values::F16(values) if fortran_order => Values::F16(transposed(values, &shape)?),
            Values::F32(values) if fortran_order => Values::F32(transposed(values, &shape)?),
            values => values,
        };
        Ok(Array { shape, values })
    }
}

/// Numbers to write.
#[derive(Debug, Clone, Copy)]
pub enum Numbers<'a> {
    /// As `<f4`.
    F32(&'a [f32]),
    /// As `<f2`.
    F16(&'a [f16]),
    /// As `<i4`.
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
}

/// `write_arrays` of f32.
///
/// # Errors
/// As `write_arrays`.
pub fn write(path: &Path, arrays: &[(&str, &[usize], &[f32])]) -> Result<()> {
    write_arrays(path, &arrays.iter().map(|(name, shape, values)| (*name, *shape, Numbers::F32(values))).collect::<Vec<_>>())
}

/// Writes arrays (name, shape, values) as an .npz file that NumPy loads, by way of a temporary file in the same folder; the same arrays
/// give the same bytes.
///
/// # Errors
/// `CannotCreate` when the folder takes no file, `Io` when writing fails, `Internal` when a shape does not fit its values or a
/// name repeats.
pub fn write_arrays(path: &Path, arrays: &[(&str, &[usize], Numbers<'_>)]) -> Result<()> {
    let mut names = HashSet::new();
    for (name, shape, values) in arrays {
        if shape.iter().try_fold(1_usize, |n, axis| n.checked_mul(*axis)) != Some(values.len()) || !names.insert(name) {
            return Err(Error::Internal(format!("array {name} of shape {shape:?} and {} values for {}", values.len(), path.display())));
        }
    }
    files::replace(path, Error::create, |file| pack(file, arrays))
}

fn pack<W: Write + Seek>(writer: W, arrays: &[(&str, &[usize], Numbers<'_>)]) -> io::Result<()> {
    // One that is dropped before its end tries to end the file, and prints that it cannot.
    let mut zip = ManuallyDrop::new(zip::ZipWriter::new(BufWriter::with_capacity(CHUNK, writer)));
    for (name, shape, values) in arrays {
        // Images are mostly zeros; floats do not shrink.
        let method = if matches!(values, Numbers::F16(_)) { zip::CompressionMethod::Deflated } else { zip::CompressionMethod::Stored };
        // Zip64 fields only where needed, and no clock: the date stays that of the format's first day.
        let options = FileOptions::default()
            .compression_method(method)
            .last_modified_time(zip::DateTime::default())
            .large_file(4 * values.len() as u64 + MAX_HEADER as u64 > u64::from(u32::MAX));
        zip.start_file(npyz::npz::file_name_from_array_name(name), options)?;
        match values {
            Numbers::F32(v) => pack_array(&mut *zip, shape, v, |v| v.to_ne_bytes())?,
            Numbers::F16(v) => pack_array(&mut *zip, shape, v, |v| v.to_ne_bytes())?,
            Numbers::I32(v) => pack_array(&mut *zip, shape, v, |v| v.to_ne_bytes())?,
        }
    }
    zip.finish()?.into_inner().map_err(|e| e.into_error())?;
    drop(ManuallyDrop::into_inner(zip));
    Ok(())
}

/// Header and numbers of one array. npyz would hand over one number at a time.
fn pack_array<T: npyz::AutoSerialize, const N: usize>(
    zip: &mut impl Write,
    shape: &[usize],
    values: &[T],
    bytes: impl Fn(&T) -> [u8; N],
) -> io::Result<()> {
    let shape = shape.iter().map(|axis| *axis as u64).collect::<Vec<_>>();
    npyz::WriteOptions::<T>::new().default_dtype().shape(&shape).writer(&mut *zip).write_header_only()?;
    values.chunks(CHUNK / N).try_for_each(|chunk| zip.write_all(&chunk.iter().flat_map(&bytes).collect::<Vec<u8>>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    const LOCAL_MARK: &[u8] = b"PK\x03\x04";
    const CENTRAL_MARK: &[u8] = b"PK\x01\x02";
    const END_MARK: &[u8] = b"PK\x05\x06";

    /// A .npy file of any header and payload.
    fn npy(header: &str, payload: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(payload);
        bytes
    }

    fn header(dtype: &str, order: &str, shape: &str) -> String {
        format!("{{'descr': '{dtype}', 'fortran_order': {order}, 'shape': {shape}, }}  \n")
    }

    fn f4(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    /// Three numbers, by the name `x`.
    fn simple() -> Vec<u8> {
        npy(&header("<f4", "False", "(3,)"), &f4(&[1.0, 2.0, 3.0]))
    }

    /// A zip of (name, content, deflated).
    fn archive(members: &[(&str, &[u8], bool)]) -> Vec<u8> {
        let (mut file, mut directory) = (Vec::new(), Vec::new());
        for (name, plain, deflated) in members {
            let mut packed = plain.to_vec();
            if *deflated {
                let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
                encoder.write_all(plain).unwrap();
                packed = encoder.finish().unwrap();
            }
            let mut both = vec![0, 0, if *deflated { 8 } else { 0 }, 0, 0, 0, 0, 0];
            both.extend(crc32fast::hash(plain).to_le_bytes());
            both.extend((packed.len() as u32).to_le_bytes());
            both.extend((plain.len() as u32).to_le_bytes());
            both.extend((name.len() as u16).to_le_bytes());
            both.extend([0, 0]);
            directory
                .extend([CENTRAL_MARK, &[20, 0, 20, 0], &both, &[0; 10], &(file.len() as u32).to_le_bytes(), name.as_bytes()].concat());
            file.extend([LOCAL_MARK, &[20, 0], &both, name.as_bytes(), &packed].concat());
        }
        let (offset, count) = (file.len() as u32, members.len() as u16);
        file.extend(&directory);
        file.extend([END_MARK, &[0; 4], &count.to_le_bytes(), &count.to_le_bytes()].concat());
        file.extend([&(directory.len() as u32).to_le_bytes()[..], &offset.to_le_bytes(), &[0, 0]].concat());
        file
    }

    fn one(npy: &[u8]) -> Vec<u8> {
        archive(&[("x.npy", npy, false)])
    }

    /// Overwrites bytes `at` after the first mark.
    fn patched(mut file: Vec<u8>, mark: &[u8], at: usize, with: &[u8]) -> Vec<u8> {
        let start = file.windows(mark.len()).position(|w| w == mark).unwrap() + at;
        file[start..start + with.len()].copy_from_slice(with);
        file
    }

    fn open(file: Vec<u8>) -> Result<Npz<Cursor<Vec<u8>>>> {
        Npz::new(Cursor::new(file), "test.npz")
    }

    fn array(file: Vec<u8>) -> Result<Array> {
        open(file)?.array("x")
    }

    /// Asserts a data error of a file that names it and each of the words.
    fn refused(what: &str, file: Vec<u8>, words: &[&str]) {
        let error = array(file).expect_err(what);
        let text = error.to_string();
        assert_eq!(error.exit_code(), 65, "{what}: {text}");
        for word in words.iter().chain(&["test.npz"]) {
            assert!(text.contains(word), "{what}: {text:?} lacks {word:?}");
        }
    }

    #[test]
    fn reads_every_numeric_dtype() {
        macro_rules! row {
            ($name:literal, $type:ty, $values:expr) => {
                [("<", <$type>::to_le_bytes as fn($type) -> _), (">", <$type>::to_be_bytes)].map(|(order, bytes)| {
                    let values: [$type; 3] = $values;
                    let expected = values.map(|v| v as f32).to_vec();
                    (format!("{order}{}", $name), values.into_iter().flat_map(bytes).collect::<Vec<u8>>(), expected)
                })
            };
        }
        let mut rows = Vec::new();
        rows.extend(row!("f4", f32, [1.5, -0.0, f32::INFINITY]));
        rows.extend(row!("f8", f64, [0.1, -1e300, 1e-46]));
        rows.extend(row!("i1", i8, [-128, 0, 127]));
        rows.extend(row!("i2", i16, [i16::MIN, 1, i16::MAX]));
        rows.extend(row!("i4", i32, [i32::MIN, 16_777_217, i32::MAX]));
        rows.extend(row!("i8", i64, [i64::MIN, -1, i64::MAX]));
        rows.extend(row!("u1", u8, [0, 1, 255]));
        rows.extend(row!("u2", u16, [0, 258, u16::MAX]));
        rows.extend(row!("u4", u32, [0, 1, u32::MAX]));
        rows.extend(row!("u8", u64, [0, 1, u64::MAX]));
        rows.push(("|b1".to_string(), vec![0, 1, 2], vec![0.0, 1.0, 1.0]));
        rows.push(("|u1".to_string(), vec![0, 1, 255], vec![0.0, 1.0, 255.0]));
        for (dtype, payload, expected) in rows {
            for deflated in [false, true] {
                let npy = npy(&header(&dtype, "False", "(3,)"), &payload);
                let read = array(archive(&[("x.npy", &npy, deflated)])).unwrap();
                assert_eq!((read.shape, read.values), (vec![3], Values::F32(expected.clone())), "{dtype}");
            }
        }
        for (order, bytes) in [("<", f16::to_le_bytes as fn(f16) -> _), (">", f16::to_be_bytes)] {
            let values = [1.5, -0.25, 65504.0].map(f16::from_f32);
            let payload = values.into_iter().flat_map(bytes).collect::<Vec<u8>>();
            let read = array(one(&npy(&header(&format!("{order}f2"), "False", "(3,)"), &payload))).unwrap().values;
            assert_eq!(read, Values::F16(values.to_vec()));
            assert_eq!((read.len(), read.is_empty(), read.get(1), read.to_f32()), (3, false, -0.25, vec![1.5, -0.25, 65504.0]));
        }
    }

    #[test]
    fn reads_every_shape_and_order() {
        let count = |n: usize| (0..n).map(|i| i as f32).collect::<Vec<_>>();
        // Shape, order, and the positions in the file of the C-ordered numbers.
        let rows: [(&str, &str, &[usize], Vec<f32>); 9] = [
            ("()", "False", &[], vec![0.0]),
            ("()", "True", &[], vec![0.0]),
            ("(4,)", "True", &[4], count(4)),
            ("(2, 3)", "False", &[2, 3], count(6)),
            ("(2, 3)", "True", &[2, 3], vec![0.0, 2.0, 4.0, 1.0, 3.0, 5.0]),
            ("(2L, 3L)", "True", &[2, 3], vec![0.0, 2.0, 4.0, 1.0, 3.0, 5.0]),
            ("(2, 2, 3)", "True", &[2, 2, 3], vec![0.0, 4.0, 8.0, 2.0, 6.0, 10.0, 1.0, 5.0, 9.0, 3.0, 7.0, 11.0]),
            ("(3, 1, 2,)", "True", &[3, 1, 2], vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0]),
            ("(2, 0, 3)", "True", &[2, 0, 3], vec![]),
        ];
        for (text, order, shape, expected) in rows {
            let read = array(one(&npy(&header("<f4", order, text), &f4(&count(expected.len()))))).unwrap();
            assert_eq!(read, Array { shape: shape.to_vec(), values: Values::F32(expected) }, "{text} {order}");
        }
        // More than one chunk.
        let many = count(3 * CHUNK / 4 + 5);
        let npy = npy(&header("<f4", "False", &format!("({},)", many.len())), &f4(&many));
        for deflated in [false, true] {
            assert_eq!(array(archive(&[("x.npy", &npy, deflated)])).unwrap().values, Values::F32(many.clone()));
        }
    }

    #[test]
    fn reads_every_header_version_and_layout() {
        let simple = simple();
        let text = std::str::from_utf8(&simple[10..simple.len() - 12]).unwrap();
        let payload = &simple[simple.len() - 12..];
        for version in [2, 3] {
            let wide = [b"\x93NUMPY", &[version, 0][..], &(text.len() as u32).to_le_bytes(), text.as_bytes(), payload].concat();
            assert_eq!(array(one(&wide)).unwrap().shape, [3]);
        }
        for text in
            ["{'shape':(3,),'fortran_order':False,'descr':'<f4'}", "{ \"descr\" : \"<f4\" , 'shape': ( 3 , ), 'fortran_order': False }\n\n"]
        {
            assert_eq!(array(one(&npy(text, payload))).unwrap().shape, [3], "{text}");
        }
    }

    #[test]
    fn refuses_broken_zips() {
        let file = one(&simple());
        let packed = archive(&[("x.npy", &npy(&header("<f4", "False", "(999,)"), &f4(&[7.0; 999])), true)]);
        let central = |at, with: &[u8]| patched(file.clone(), CENTRAL_MARK, at, with);
        let end = |at, with: &[u8]| patched(file.clone(), END_MARK, at, with);
        let payload = file.windows(12).position(|w| w == &f4(&[1.0, 2.0, 3.0])[..]).unwrap();
        let mut flipped = file.clone();
        flipped[payload] ^= 1;
        let mut unpackable = packed.clone();
        unpackable[35..60].fill(0xff);
        let appended = [&file[..], b"more"].concat();
        let max = u32::MAX.to_le_bytes();
        let clash = archive(&[("x.npy", &simple(), false), ("x.npy", &simple(), false)]);
        let two = archive(&[("x.npy", &simple(), false), ("y.npy", &simple(), false)]);
        let second = two.windows(4).rposition(|w| w == CENTRAL_MARK).unwrap();
        let mut overlapping = two.clone();
        overlapping[second + 42..second + 46].fill(0);
        let rows: Vec<(&str, Vec<u8>, &[&str])> = vec![
            ("empty", vec![], &["empty"]),
            ("text", b"x,y\n1,2\n".to_vec(), &["not a zip", "np.savez"]),
            ("npy", simple(), &["single .npy", "np.savez"]),
            ("truncated", file[..file.len() - 1].to_vec(), &["truncated"]),
            ("half", file[..file.len() / 2].to_vec(), &["truncated"]),
            ("appended", appended, &["appended"]),
            ("cut in front", file[5..].to_vec(), &["directory should end"]),
            ("several disks", end(4, &[1]), &["several"]),
            ("count too high", end(10, &[0xff, 0]), &["cannot hold the 255 members"]),
            ("count too low", end(10, &[0, 0]), &["goes on"]),
            ("directory size", end(12, &[9]), &["directory should end"]),
            ("directory at the end of the world", end(16, &max), &["directory should end"]),
            ("directory mark", central(0, b"PX"), &["entry 0", "mark"]),
            ("local mark", patched(file.clone(), LOCAL_MARK, 0, b"PX"), &["no member at byte 0"]),
            ("local name", patched(file.clone(), LOCAL_MARK, 30, b"z"), &["differs"]),
            ("local method", patched(file.clone(), LOCAL_MARK, 8, &[8]), &["differs"]),
            ("local extra", patched(file.clone(), LOCAL_MARK, 28, &[0xff, 0xff]), &["should end by byte"]),
            ("offset", central(42, &max), &["should end by byte"]),
            ("name runs over", central(28, &[0xff, 0xff]), &["claims 65535 more bytes", "has 5"]),
            ("encrypted", central(8, &[1]), &["\"x\"", "encrypted"]),
            ("bzip2", patched(central(10, &[12]), LOCAL_MARK, 8, &[12]), &["\"x\"", "method is 12", "np.savez"]),
            ("checksum", central(16, &[1, 2, 3, 4]), &["\"x\"", "checksum", "expected 04030201", "damaged"]),
            ("flipped bit", flipped, &["\"x\"", "checksum"]),
            ("packed size", central(20, &[1]), &["\"x\"", "damaged or forged"]),
            ("stored size", central(24, &[1, 0, 0, 0]), &["\"x\"", "claims 1"]),
            ("stored size huge", central(24, &max), &["\"x\"", "claims 4294967295"]),
            ("bomb", patched(packed.clone(), CENTRAL_MARK, 24, &max), &["\"x\"", "claims 4294967295", "at most"]),
            ("lying size", patched(packed.clone(), CENTRAL_MARK, 24, &[1, 16, 0, 0]), &["\"x\"", "zip directory says 4097"]),
            ("unpackable", unpackable, &["\"x\"", "damaged"]),
            ("same name", clash, &["\"x\"", "same name"]),
            ("overlap", overlapping, &["\"x\"", "overlaps"]),
        ];
        for (what, file, words) in rows {
            refused(what, file, words);
        }
        for n in 0..packed.len() {
            refused("any truncation", packed[..n].to_vec(), &[]);
        }
    }

    #[test]
    fn refuses_broken_arrays() {
        let good = header("<f4", "False", "(3,)");
        let payload = f4(&[1.0, 2.0, 3.0]);
        let dict = |text: &str| npy(text, &payload);
        let shape = |shape: &str| dict(&header("<f4", "False", shape));
        let dtype = |dtype: &str| dict(&header(dtype, "False", "(3,)"));
        let wide = |length: u32| [b"\x93NUMPY\x02\x00", &length.to_le_bytes()[..], good.as_bytes(), &payload].concat();
        let axes = format!("({})", "1,".repeat(65));
        let rows: Vec<(&str, Vec<u8>, &[&str])> = vec![
            ("no content", vec![], &["truncated"]),
            ("magic", dict(&good).split_off(1), &["mark of a .npy"]),
            ("version", [b"\x93NUMPY\x04\x00", &simple()[8..]].concat(), &["version is 4.0", "expected 1.0"]),
            ("header beyond the member", wide(1000), &["1000 bytes long"]),
            ("header beyond the cap", wide(MAX_HEADER as u32 + 1), &["65537 bytes long", "at most 65536"]),
            ("header beyond everything", wide(u32::MAX), &["4294967295 bytes long"]),
            ("header not text", npy("{'\u{e9}", &payload).into_iter().filter(|b| *b != 0xc3).collect(), &["is no text"]),
            ("no dictionary", dict("[1, 2]"), &["should be"]),
            ("not closed", dict("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)"), &["} should be"]),
            ("string not closed", dict("{'descr"), &["closed string"]),
            ("key missing", dict("{'descr': '<f4', 'shape': (3,)}"), &["lacks"]),
            ("key repeated", dict("{'descr': '<f4', 'descr': '<f4'}"), &["repeated key \"descr\""]),
            ("key unknown", dict("{'evil': 1}"), &["\"evil\""]),
            ("text behind", dict(&format!("{good} + 1")), &["its end"]),
            ("order", dict(&good.replace("False", "0")), &["False should be"]),
            ("shape negative", shape("(-3,)"), &["length of an axis"]),
            ("shape nested", shape("((3,),)"), &["length of an axis"]),
            ("shape of a float", shape("(3.0,)"), &["should be"]),
            ("shape no tuple", shape("3"), &["( should be"]),
            ("shape in brackets only", shape("(3)"), &[", should be"]),
            ("shape longer than a number", shape("(99999999999999999999999,)"), &["length of an axis"]),
            ("shape overflows", shape("(4294967296, 4294967296)"), &["more than memory"]),
            ("shape overflows behind a zero", shape("(0, 4294967296, 4294967296)"), &["more than memory"]),
            ("shape overflows bytes", shape("(2305843009213693952,)"), &["more than memory"]),
            ("shape of many axes", shape(&axes), &["64 axes"]),
            ("payload short", shape("(4,)"), &["[4] of <f4", "but the zip directory says"]),
            ("payload long", shape("(2,)"), &["[2] of <f4", "but the zip directory says"]),
            ("payload of another size", dtype("<f8"), &["[3] of <f8", "but the zip directory says"]),
            ("objects", dtype("|O"), &["\"|O\"", "Python objects", "re-save it as a numeric array"]),
            ("bytes", dtype("|S4"), &["\"|S4\"", "text", "re-save"]),
            ("text", dtype("<U1"), &["text", "re-save"]),
            ("complex", dtype("<c8"), &["complex", "re-save"]),
            ("dates", dtype("<M8[ns]"), &["dates", "re-save"]),
            ("void", dtype("|V4"), &["raw bytes", "re-save"]),
            ("long double", dtype("<f16"), &["re-save"]),
            ("three bytes", dtype("<f3"), &["re-save"]),
            ("no byte order", dtype("f4"), &["re-save"]),
            ("byte order missing", dtype("|f4"), &["re-save"]),
            ("no dtype", dtype(""), &["re-save"]),
            ("records", dict(&good.replace("'<f4'", "[('a)\\')]', '<f4'), ('b', '<i4', (2,))]")), &["structured", "re-save"]),
            ("records not closed", dict(&good.replace("'<f4'", "[('a'")), &["closed bracket"]),
        ];
        for (what, npy, words) in rows {
            refused(what, one(&npy), &[words, &["\"x\""]].concat());
            refused(what, archive(&[("x.npy", &npy, true)]), words);
        }
        // The directory and the header agree on a size, the packed data do not.
        for (values, words) in [(&[1.0_f32; 2][..], "too early"), (&[1.0; 4], "go on after")] {
            let file = archive(&[("x.npy", &npy(&good, &f4(values)), true)]);
            refused("packed data", patched(file, CENTRAL_MARK, 24, &(simple().len() as u32).to_le_bytes()), &["\"x\"", words]);
        }
    }

    #[test]
    fn what_nobody_needs_does_no_harm() {
        let pickle = npy(&header("|O", "False", "(2,)"), b"\x80\x04cos\nsystem\n");
        let fortran = npy(&header("<f8", "True", "(1, 1)"), &[0; 8]);
        let file = archive(&[
            ("objects.npy", &pickle, true),
            ("x.npy", &simple(), true),
            ("broken.npy", b"nonsense", false),
            ("readme.txt", b"hello", false),
            ("folder/y.npy", &fortran, false),
        ]);
        let mut npz = open(file).unwrap();
        assert_eq!(npz.names(), ["objects", "x", "broken", "folder/y"]);
        assert_eq!(npz.shape("x").unwrap(), [3]);
        assert_eq!(npz.array("x").unwrap().values, Values::F32(vec![1.0, 2.0, 3.0]));
        let members = npz.members().unwrap();
        let shown = members.iter().map(|m| (m.name.as_str(), m.dtype.as_str(), m.shape.as_slice(), m.fortran_order)).collect::<Vec<_>>();
        let expected: [(&str, &str, &[usize], bool); 5] = [
            ("objects", "|O", &[2], false),
            ("x", "<f4", &[3], false),
            ("broken", "", &[], false),
            ("readme.txt", "", &[], false),
            ("folder/y", "<f8", &[1, 1], true),
        ];
        assert_eq!(shown, expected);
        assert_eq!(members.iter().map(|m| m.bytes).collect::<Vec<_>>()[1..4], [simple().len() as u64, 8, 5]);
        let problems = members.iter().map(|m| m.needed_problem.clone().unwrap_or_default()).collect::<Vec<_>>();
        for (problem, word) in problems.iter().zip(["Python objects", "", "mark of a .npy", "no .npy", ""]) {
            assert!(problem.contains(word) && problem.is_empty() == word.is_empty(), "{problem}");
        }
        for (name, words) in [("z", r#"no array "z"; it has "objects", "x", "broken", "folder/y""#), ("objects", "Python objects")] {
            for error in [npz.array(name).unwrap_err(), npz.shape(name).unwrap_err()] {
                assert!(matches!(&error, Error::Data(text) if text.contains(words)), "{error}");
            }
        }
        assert!(open(archive(&[])).unwrap().array("x").unwrap_err().to_string().contains("no arrays at all"));
    }

    #[test]
    fn reads_zip64() {
        let npy = simple();
        let mut file = one(&npy);
        let central = file.windows(4).position(|w| w == CENTRAL_MARK).unwrap();
        let end = file.windows(4).position(|w| w == END_MARK).unwrap();
        let mut entry = file[central..end].to_vec();
        file.truncate(central);
        // Sizes and offset move to the extra field, count and place of the directory to the zip64 record.
        for (at, with) in [(20, u32::MAX), (24, u32::MAX), (30, 28), (42, u32::MAX)] {
            let width = if at == 30 { 2 } else { 4 };
            entry[at..at + width].copy_from_slice(&with.to_le_bytes()[..width]);
        }
        let length = (npy.len() as u64).to_le_bytes();
        entry.extend([&[1, 0, 24, 0], &length[..], &length, &0_u64.to_le_bytes()].concat());
        file.extend(&entry);
        let record = file.len() as u64;
        let figures = [1, 1, entry.len() as u64, central as u64].map(u64::to_le_bytes).concat();
        file.extend([b"PK\x06\x06", &44_u64.to_le_bytes()[..], &[45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0], &figures].concat());
        file.extend([b"PK\x06\x07\0\0\0\0", &record.to_le_bytes()[..], &[1, 0, 0, 0]].concat());
        file.extend([END_MARK, &[0; 4], &[0xff; 12], &[0, 0]].concat());
        assert_eq!(array(file.clone()).unwrap().shape, [3]);
        let far = u64::MAX.to_le_bytes();
        let rows = [
            ("locator", &b"PK\x06\x07"[..], 8, &far[..], "zip64 record should be before"),
            ("record", b"PK\x06\x07", 8, &[0; 8], "no zip64 record at byte 0"),
            ("count", b"PK\x06\x06", 32, &far, "cannot hold"),
            ("size", b"PK\x06\x06", 40, &far, "directory should end"),
            ("offset", b"PK\x06\x06", 48, &far, "directory should end"),
            ("sizes", &[1, 0, 24, 0], 4, &far, "claims 18446744073709551615"),
        ];
        for (what, mark, at, with, word) in rows {
            refused(what, patched(file.clone(), mark, at, with), &[word]);
        }
    }

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
        for wrong in [&[("a", &[2_usize][..], &[1.0_f32][..])][..], &[("a", &[1], &[1.0]), ("a", &[1], &[1.0])]] {
            assert!(matches!(write(&path, wrong), Err(Error::Internal(_))));
        }
        assert!(matches!(write(&folder.path().join("no/out.npz"), &arrays), Err(Error::CannotCreate(_))));
        assert!(matches!(Npz::open(&folder.path().join("no.npz")), Err(Error::MissingInput(text)) if text.contains("no.npz")));
        assert!(matches!(Npz::open(folder.path()), Err(Error::Data(_))));
    }
}
