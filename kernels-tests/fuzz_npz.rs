//! Feeds the .npz reader mutated files, the same ones at each run, and fails on a panic, on memory out of proportion to the file, or on a
//! contradiction between what the reader says and what it does. Twenty thousand of them, ten times as many in `make test-all`;
//! `cargo test --test fuzz-npz -- 10000000 5` runs ten million from seed 5.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Cursor, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use engine::datasets::npz::Npz;

/// Live bytes, and the most there were.
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// Input at hand, for a message when the process is about to end.
static INPUT: AtomicU64 = AtomicU64::new(0);
/// One allocation above this is wrong whatever the input: the corpus has no file of 4 KiB.
const HUGE: usize = 64 << 20;

struct Counting;

fn grow(size: usize) {
    if size > HUGE {
        eprintln!("input {} asks for {size} bytes at once", INPUT.load(Relaxed));
        std::process::abort();
    }
    let live = LIVE.fetch_add(size, Relaxed) + size;
    PEAK.fetch_max(live, Relaxed);
}

// SAFETY: every call goes to the system's allocator unchanged; only counters are added. `realloc` stays the trait's: allocate, copy, free.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promise for this function is the one needed.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promise for this function is the one needed.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise for this function is the one needed.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Most bytes that the reader may hold for a file.
///
/// In units of the file's length: 1 for its tail, 6 for its directory (an entry, its name twice, its place in a map, while vectors grow),
/// 1 for the chunk at hand, and 8 for the numbers: a byte becomes an f32, and growth or transposition holds two copies. Deflate multiplies
/// the last two by 1032. Besides: messages, and 43 KiB of the inflater.
fn bound(file: &[u8]) -> usize {
    let deflated = file.windows(12).any(|w| w.starts_with(b"PK\x01\x02") && w[10] == 8);
    if deflated { (52 << 10) + (7 + 9 * 1032) * file.len() } else { (4 << 10) + 16 * file.len() }
}

struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        // One round of SplitMix64, so that neighbouring seeds have nothing in common.
        let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Random((z ^ (z >> 31)) | 1)
    }

    /// Less than `n`; 0 for an `n` of 0.
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 32) as usize * n) >> 32
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.below(256) as u8).collect()
    }
}

const VALUES: [u64; 20] = [
    0,
    1,
    2,
    8,
    12,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x3ff,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    0x1_0001,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    u64::MAX >> 1,
    u64::MAX,
];
const TOKENS: [&str; 34] = [
    "(",
    ")",
    ",",
    "'",
    "\"",
    "True",
    "False",
    "'descr'",
    "'shape'",
    "'fortran_order'",
    ":",
    "{",
    "}",
    "[",
    "]",
    "-",
    "0",
    "1",
    "9",
    "64",
    "65536",
    "4294967296",
    "99999999999999999999",
    "18446744073709551615",
    "<f2",
    ">f4",
    "<f8",
    "|b1",
    "|O",
    "[('a', '<f4')]",
    "\\",
    "L",
    "\n",
    "é",
];
const DTYPES: [(&str, usize); 20] = [
    ("<f2", 2),
    (">f2", 2),
    ("<f4", 4),
    (">f4", 4),
    ("<f8", 8),
    (">f8", 8),
    ("|b1", 1),
    ("|i1", 1),
    ("|u1", 1),
    ("<i2", 2),
    (">u2", 2),
    ("<i4", 4),
    (">u4", 4),
    ("<i8", 8),
    (">u8", 8),
    ("<u8", 8),
    ("|O", 8),
    ("|S3", 3),
    ("<c8", 8),
    ("=f4", 4),
];

/// A .npy file.
fn npy(version: u8, text: &str, payload: &[u8]) -> Vec<u8> {
    let length = (text.len() as u32).to_le_bytes();
    [b"\x93NUMPY", &[version, 0][..], &length[..if version == 1 { 2 } else { 4 }], text.as_bytes(), payload].concat()
}

/// A .npy file of random dtype, shape and order, its size right most of the time.
fn random_npy(random: &mut Random) -> Vec<u8> {
    let (dtype, size) = *random.pick(&DTYPES);
    let shape = (0..random.below(5)).map(|_| random.below(6)).collect::<Vec<_>>();
    let mut length = shape.iter().product::<usize>() * size;
    if random.below(8) == 0 {
        length = (length + random.below(5)).saturating_sub(2);
    }
    let axes = shape.iter().map(|axis| format!("{axis}, ")).collect::<String>();
    let order = random.pick(&["False", "True"]);
    let text = format!("{{'descr': '{dtype}', 'fortran_order': {order}, 'shape': ({axes}), }}{}\n", " ".repeat(random.below(20)));
    npy(1 + random.below(3) as u8, &text, &random.bytes(length))
}

/// A member to be: its content as .npy and as packed in the file.
#[derive(Clone)]
struct Part {
    name: String,
    plain: Vec<u8>,
    packed: Vec<u8>,
    method: u8,
}

impl Part {
    fn new(name: &str, plain: Vec<u8>, deflated: bool) -> Self {
        let mut packed = plain.clone();
        if deflated {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(&plain).expect("a vector takes all");
            packed = encoder.finish().expect("a vector takes all");
        }
        Part { name: name.to_string(), plain, packed, method: if deflated { 8 } else { 0 } }
    }

    /// Takes other content; a deflated member packs it as one stored block, which costs nothing.
    fn set(&mut self, plain: Vec<u8>) {
        self.packed = plain.clone();
        if self.method == 8 && plain.len() <= 0xffff {
            let length = plain.len() as u16;
            self.packed = [&[1], &length.to_le_bytes()[..], &(!length).to_le_bytes(), &plain].concat();
        }
        self.plain = plain;
    }
}

/// A zip of the parts, every field right; `wide` puts sizes and offsets into zip64 fields.
fn zip(parts: &[Part], wide: bool) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::with_capacity(4096), Vec::<u8>::with_capacity(1024));
    let max = u32::MAX.to_le_bytes();
    for Part { name, plain, packed, method } in parts {
        let offset = file.len() as u64;
        let narrow = |value: u64| if wide { max } else { (value as u32).to_le_bytes() };
        let mut both = vec![0, 0, *method, 0, 0, 0, 0, 0];
        both.extend(crc32fast::hash(plain).to_le_bytes());
        both.extend(narrow(packed.len() as u64));
        both.extend(narrow(plain.len() as u64));
        both.extend((name.len() as u16).to_le_bytes());
        for piece in [b"PK\x03\x04\x2d\x00", &both[..], &[0, 0], name.as_bytes(), packed] {
            file.extend(piece);
        }
        let extra = [&[1, 0, 24, 0], &(plain.len() as u64).to_le_bytes()[..], &(packed.len() as u64).to_le_bytes(), &offset.to_le_bytes()];
        let extra = if wide { extra.concat() } else { Vec::new() };
        let more = [extra.len() as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for piece in [b"PK\x01\x02\x2d\x00\x2d\x00", &both[..], &more, &narrow(offset), name.as_bytes(), &extra] {
            directory.extend(piece);
        }
    }
    let (count, offset) = (parts.len() as u16, file.len() as u64);
    file.extend(&directory);
    if wide {
        let start = file.len() as u64;
        let figures = [u64::from(count), u64::from(count), directory.len() as u64, offset].map(u64::to_le_bytes).concat();
        file.extend([b"PK\x06\x06", &44_u64.to_le_bytes()[..], &[45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0], &figures].concat());
        file.extend([b"PK\x06\x07\0\0\0\0", &start.to_le_bytes()[..], &[1, 0, 0, 0], b"PK\x05\x06\0\0\0\0", &[0xff; 12], &[0, 0]].concat());
    } else {
        for piece in [b"PK\x05\x06\0\0\0\0", &count.to_le_bytes()[..], &count.to_le_bytes(), &(directory.len() as u32).to_le_bytes()] {
            file.extend(piece);
        }
        file.extend(&(offset as u32).to_le_bytes()[..]);
        file.extend([0, 0]);
    }
    file
}

/// The files to mutate: the first half stored, the second deflated.
fn corpus() -> Vec<Vec<Part>> {
    let random = &mut Random::new(0);
    let mut text = |dtype: &str, order: &str, shape: &str, bytes: usize| {
        let text = format!("{{'descr': {dtype}, 'fortran_order': {order}, 'shape': {shape}, }}");
        let padded = format!("{text:<117}\n");
        npy(1, &padded, &random.bytes(bytes))
    };
    let mut corpus = Vec::new();
    for deflated in [false, true] {
        let part = |name: &str, plain: Vec<u8>| Part::new(name, plain, deflated);
        corpus.push(vec![part("x.npy", text("'<f4'", "False", "(3, 4)", 48))]);
        corpus.push(vec![part("x.npy", text("'<f2'", "True", "(5, 2, 3)", 60)), part("y.npy", text("'>f8'", "False", "(2,)", 16))]);
        corpus.push(vec![part("folder/i.npy", text("'<i8'", "True", "(2, 3)", 48)), part("b.npy", text("'|b1'", "False", "(9,)", 9))]);
        corpus.push(vec![part("s.npy", text("'>u4'", "False", "()", 4)), part("e.npy", text("'<f4'", "True", "(4, 0)", 0))]);
        corpus.push(vec![part("o.npy", text("'|O'", "False", "(2,)", 30)), part("x.npy", text("'|u1'", "False", "(8, 1)", 8))]);
        corpus
            .push(vec![part("r.npy", text("[('a', '<f4'), ('b', '<i4', (2,))]", "False", "(2,)", 24)), part("readme.txt", b"hi".to_vec())]);
        corpus.push(vec![]);
        let zeros = if deflated { 3_000 } else { 300 };
        let text = format!("{{'descr': '|u1', 'fortran_order': True, 'shape': ({}, 10), }}\n", zeros / 10);
        corpus.push(vec![part("zeros.npy", npy(2, &text, &vec![0; zeros]))]);
    }
    corpus
}

/// Puts a value of 1, 2, 4 or 8 bytes somewhere.
fn put(random: &mut Random, bytes: &mut [u8], at: usize, width: usize) {
    let mut value = *random.pick(&VALUES);
    if random.below(3) == 0 {
        // Near the length of the file, where the comparisons are.
        value = (bytes.len() as u64 + random.below(64) as u64).saturating_sub(random.below(128) as u64);
    }
    for (byte, with) in bytes.iter_mut().skip(at).take(width).zip(value.to_le_bytes()) {
        *byte = with;
    }
}

/// One mutation of bytes of any kind.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = random.below(bytes.len());
    let end = (at + 1 + random.below(40)).min(bytes.len());
    match random.below(10) {
        0 | 1 => bytes.iter_mut().skip(at).take(1).for_each(|b| *b ^= 1 << random.below(8)),
        2 | 3 => {
            let width = 1 << random.below(4);
            put(random, bytes, at, width);
        }
        4 => bytes.truncate(at),
        5 => drop(bytes.drain(at.min(end)..end)),
        6 => {
            let length = random.below(20);
            let new = random.bytes(length);
            drop(bytes.splice(at..at, new));
        }
        7 => {
            let copy = bytes[at.min(end)..end].to_vec();
            let to = random.below(bytes.len());
            drop(bytes.splice(to..to, copy));
        }
        8 => {
            let from = random.below(other.len());
            let to = (from + random.below(100)).min(other.len());
            drop(bytes.splice(at..end.max(at), other[from..to].iter().copied()));
        }
        _ => {
            let token = random.pick(&TOKENS).as_bytes();
            drop(bytes.splice(at..(at + random.below(3)).min(bytes.len()).max(at), token.iter().copied()));
        }
    }
}

/// Changes the text of a .npy header, and most of the time its length field with it.
fn mutate_header(random: &mut Random, plain: &mut Vec<u8>) {
    let start = if plain.get(6) == Some(&1) { 10 } else { 12 };
    let Some(end) = plain.iter().position(|b| *b == b'\n').filter(|end| *end > start) else { return };
    let before = plain.len();
    for _ in 0..1 + random.below(2) {
        let digits = (start..end).filter(|i| plain[*i].is_ascii_digit()).collect::<Vec<_>>();
        if random.below(3) == 0 && !digits.is_empty() {
            plain[*random.pick(&digits)] = b'0' + random.below(10) as u8;
        } else {
            let at = start + random.below(end - start);
            let token = random.pick(&TOKENS).as_bytes();
            drop(plain.splice(at..(at + random.below(token.len() + 2)).min(end), token.iter().copied()));
        }
    }
    if random.below(8) == 0 {
        let width = if start == 10 { 2 } else { 4 };
        put(random, plain, 8, width);
    } else {
        let length = (end + 1 + plain.len()).saturating_sub(before + start) as u16;
        plain[8..10].copy_from_slice(&length.to_le_bytes());
    }
}

/// Fields of the zip records: mark, place and width.
const FIELDS: [(&[u8], usize, usize); 34] = [
    (b"PK\x01\x02", 8, 2),
    (b"PK\x01\x02", 10, 2),
    (b"PK\x01\x02", 16, 4),
    (b"PK\x01\x02", 20, 4),
    (b"PK\x01\x02", 24, 4),
    (b"PK\x01\x02", 20, 4),
    (b"PK\x01\x02", 24, 4),
    (b"PK\x01\x02", 28, 2),
    (b"PK\x01\x02", 30, 2),
    (b"PK\x01\x02", 32, 2),
    (b"PK\x01\x02", 42, 4),
    (b"PK\x01\x02", 46, 8),
    (b"PK\x03\x04", 8, 2),
    (b"PK\x03\x04", 26, 2),
    (b"PK\x03\x04", 28, 2),
    (b"PK\x03\x04", 30, 4),
    (b"PK\x05\x06", 4, 2),
    (b"PK\x05\x06", 8, 2),
    (b"PK\x05\x06", 10, 2),
    (b"PK\x05\x06", 12, 4),
    (b"PK\x05\x06", 16, 4),
    (b"PK\x05\x06", 20, 2),
    (b"PK\x06\x07", 8, 8),
    (b"PK\x06\x06", 16, 4),
    (b"PK\x06\x06", 32, 8),
    (b"PK\x06\x06", 40, 8),
    (b"PK\x06\x06", 48, 8),
    (b"\x01\0\x18\0", 2, 2),
    (b"\x01\0\x18\0", 4, 8),
    (b"\x01\0\x18\0", 12, 8),
    (b"\x01\0\x18\0", 20, 8),
    (b"\x93NUMPY", 6, 2),
    (b"\x93NUMPY", 8, 2),
    (b"\x93NUMPY", 8, 4),
];

/// The input of a seed.
fn input(seed: u64, corpus: &[Vec<Part>], other: &[u8]) -> Vec<u8> {
    let random = &mut Random::new(seed);
    // Three in eight are deflated, since unpacking takes most of the time.
    let (stored, deflated) = corpus.split_at(corpus.len() / 2);
    let mut parts = if random.below(8) < 3 { random.pick(deflated).clone() } else { random.pick(stored).clone() };
    let wide = random.below(6) == 0;
    let kind = random.below(10);
    if let Some(at) = parts.len().checked_sub(1).map(|last| random.below(last + 1)) {
        let part = &mut parts[at];
        match kind {
            0..3 => {
                let mut plain = part.plain.clone();
                mutate_header(random, &mut plain);
                part.set(plain);
            }
            3 => {
                let mut plain = part.plain.clone();
                mutate(random, &mut plain, other);
                part.set(plain);
            }
            4 => part.set(random_npy(random)),
            5 => {
                // Other packed data; half of the time with the size and checksum of what they unpack to.
                mutate(random, &mut part.packed, other);
                if random.below(2) == 0 && part.method == 8 {
                    let mut plain = Vec::with_capacity(8192);
                    _ = flate2::Decompress::new(false).decompress_vec(&part.packed, &mut plain, flate2::FlushDecompress::Finish);
                    part.plain = plain;
                }
            }
            _ => {}
        }
    }
    let mut file = zip(&parts, wide);
    match kind {
        6 | 7 => {
            for _ in 0..1 + random.below(2) {
                let (mark, place, width) = *random.pick(&FIELDS);
                let found = file.windows(mark.len()).enumerate().filter(|(_, w)| *w == mark).map(|(i, _)| i).collect::<Vec<_>>();
                if !found.is_empty() {
                    let at = *random.pick(&found) + place;
                    put(random, &mut file, at, width);
                }
            }
        }
        8 | 9 => (0..1 + random.below(4)).for_each(|_| mutate(random, &mut file, other)),
        _ if random.below(8) == 0 => mutate(random, &mut file, other),
        _ => {}
    }
    file
}

/// Reads all that the reader offers, as a program would; says whether all of it is usable.
fn read(file: &[u8]) -> bool {
    let Ok(mut npz) = Npz::new(Cursor::new(file), "fuzz.npz") else { return false };
    let members = npz.members().expect("memory has no I/O errors");
    let mut usable = true;
    for member in &members {
        let array = npz.array(&member.name);
        usable &= array.is_ok();
        assert!(array.is_err() || member.needed_problem.is_none(), "an array is read that has a problem: {member:?}");
        if let Ok(array) = array {
            assert_eq!((&array.shape, array.values.len()), (&member.shape, member.shape.iter().product()));
        }
    }
    if let Some((name, shape)) = npz.names().first().map(|name| (name, npz.shape(name))) {
        let same = members.iter().any(|m| m.name == *name && m.needed_problem.is_none() == shape.is_ok());
        assert!(same, "members() and shape() differ on {name:?}: {shape:?}");
    }
    usable
}

fn main() {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    if arguments.iter().any(|argument| argument == "--list") {
        return;
    }
    let mut numbers = arguments.iter().filter_map(|argument| argument.parse::<u64>().ok());
    let most = if std::env::var("ENGINE_TESTS").is_ok_and(|what| what == "all") { 200_000 } else { 20_000 };
    let (count, first) = (numbers.next().unwrap_or(most), numbers.next().unwrap_or(0));
    let corpus = corpus();
    let other = zip(&corpus[1], true);
    let (mut accepted, mut peak, mut nearest) = (0_u64, 0, 0.0_f64);
    let start = Instant::now();
    for seed in first..first + count {
        INPUT.store(seed, Relaxed);
        let file = input(seed, &corpus, &other);
        let before = LIVE.load(Relaxed);
        PEAK.store(before, Relaxed);
        let usable = catch_unwind(AssertUnwindSafe(|| read(&file)));
        let (used, most) = (PEAK.load(Relaxed) - before, bound(&file));
        let fault = match usable {
            Ok(usable) => {
                accepted += u64::from(usable);
                (used > most).then(|| format!("{used} bytes of memory for a file of {}, expected at most {most}", file.len()))
            }
            Err(_) => Some("a panic".to_string()),
        };
        if let Some(fault) = fault {
            eprintln!("fuzz-npz: input {seed} leads to {fault}; run it alone with `-- 1 {seed}`");
            std::process::exit(1);
        }
        peak = peak.max(used);
        nearest = nearest.max(used as f64 / most as f64);
    }
    let (seconds, percent) = (start.elapsed().as_secs_f64(), nearest * 100.0);
    println!(
        "fuzz-npz: {count} inputs, {accepted} accepted, peak memory {} KiB (at most {percent:.0} % of the bound), {seconds:.1} s, {:.0}/s",
        peak >> 10,
        count as f64 / seconds
    );
}
