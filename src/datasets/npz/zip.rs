//! The zip directory, and the members that it leads to.

use std::io::{self, Read, Seek, SeekFrom};

use flate2::read::DeflateDecoder;

/// Largest ratio of unpacked to packed bytes in Deflate: 258 bytes from two bits.
const MAX_RATIO: u64 = 1032;

pub(super) const STORED: u16 = 0;
pub(super) const DEFLATED: u16 = 8;

/// Lengths of the zip records' fixed parts.
const LOCAL: u64 = 30;
const CENTRAL: u64 = 46;
const END: u64 = 22;
const END64: u64 = 56;
const LOCATOR64: u64 = 20;

/// Failure below the level at which file and member are known.
#[derive(Debug)]
pub(super) enum Fault {
    /// Reading failed.
    Io(io::Error),
    /// The data are damaged or not supported, with the reason.
    Bad(String),
    /// The memory is full, with an explanation.
    Full(String),
}

pub(super) type Found<T> = std::result::Result<T, Fault>;

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

pub(super) fn bad<T>(why: impl Into<String>) -> Found<T> {
    Err(Fault::Bad(why.into()))
}

/// A name from a file, safe to print: escaped and short.
pub(super) fn quoted(text: &str) -> String {
    let short = text.chars().take(80).collect::<String>();
    format!("{short:?}{}", if short.len() < text.len() { "…" } else { "" })
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// A member, as the zip directory describes it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    name_bytes: u16,
    encrypted: bool,
    pub(super) method: u16,
    pub(super) crc: u32,
    pub(super) packed: u64,
    pub(super) size: u64,
    offset: u64,
    /// Conflict with another member, if there is one.
    clash: Option<&'static str>,
}

impl Entry {
    /// Name of the array, if the member is one.
    pub(super) fn array(&self) -> Option<&str> {
        self.name.strip_suffix(".npy")
    }

    /// Smallest byte offset after the member; the length of its extra field is not known yet.
    fn end(&self) -> u64 {
        self.offset.saturating_add(LOCAL + u64::from(self.name_bytes)).saturating_add(self.packed)
    }

    /// Refuses a member that cannot be read, or whose sizes cannot be true, by the directory alone.
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

/// Decodes a name. Names are compared only with names written by the same rules, so the old code page for non-ASCII ones is not needed.
fn decoded(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// Reason why a file without the end record is no zip archive.
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

/// Reads the zip directory: its byte offset and its entries.
pub(super) fn directory<R: Read + Seek>(reader: &mut R) -> Found<(u64, Vec<Entry>)> {
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

/// Reads exactly `length` bytes into a buffer that is reused.
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

/// Marks members with the same name, and members that share bytes of the file: zip bombs with the highest ratios are made of those.
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

/// Unpacked bytes of a member, with their checksum so far.
pub(super) struct Body<'a> {
    reader: Box<dyn Read + 'a>,
    crc: crc32fast::Hasher,
}

impl<'a> Body<'a> {
    /// Opens a member, after all checks that its two zip records allow.
    pub(super) fn new<R: Read + Seek>(reader: &'a mut R, entry: &Entry, directory: u64) -> Found<Self> {
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

    /// The bytes that a reader gives.
    pub(super) fn of(reader: &'a mut impl Read) -> Self {
        Body { reader: Box::new(reader), crc: crc32fast::Hasher::new() }
    }

    /// Fills the buffer with the next bytes.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Found<()> {
        self.reader.read_exact(buffer)?;
        self.crc.update(buffer);
        Ok(())
    }

    /// Checks that the member ends here and has the right checksum.
    pub(super) fn finish(mut self, crc: u32) -> Found<()> {
        match self.reader.read_exact(&mut [0]) {
            Ok(()) => return bad("its data go on after the size in the zip directory: damaged or forged"),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(e) => return Err(e.into()),
        }
        let found = self.crc.finalize();
        if found == crc { Ok(()) } else { bad(format!("its checksum is {found:08x}, expected {crc:08x}: the file is damaged")) }
    }
}
