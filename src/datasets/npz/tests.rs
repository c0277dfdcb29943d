//! What the reader makes of archives, whole and broken.

use std::io::{Cursor, Write};

use half::f16;

use super::archive::{Array, Npz};
use super::npy::{CHUNK, MAX_HEADER};
use crate::datasets::matrix::Values;
use crate::error::{Error, Result};

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
        directory.extend([CENTRAL_MARK, &[20, 0, 20, 0], &both, &[0; 10], &(file.len() as u32).to_le_bytes(), name.as_bytes()].concat());
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
        ("lying size", patched(packed.clone(), CENTRAL_MARK, 24, &[1, 16, 0, 0]), &["\"x\"", "but it has 4097"]),
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
        ("payload short", shape("(4,)"), &["[4] of <f4", "but it has"]),
        ("payload long", shape("(2,)"), &["[2] of <f4", "but it has"]),
        ("payload of another size", dtype("<f8"), &["[3] of <f8", "but it has"]),
        ("objects", dtype("|O"), &["\"|O\"", "Python objects", "np.unique"]),
        ("bytes", dtype("|S4"), &["\"|S4\"", "text", "np.unique"]),
        ("text", dtype("<U1"), &["text", "np.unique"]),
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
