//! Archives that are written.

use std::collections::HashSet;
use std::io::{self, BufWriter, Seek, Write};
use std::mem::ManuallyDrop;
use std::path::Path;

use half::f16;
use npyz::WriterBuilder;
use zip::write::FileOptions;

use super::npy::{CHUNK, MAX_HEADER};
use crate::error::{Error, Result};
use crate::files;

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
    use super::super::archive::{Array, Npz};
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
        for wrong in [&[("a", &[2_usize][..], &[1.0_f32][..])][..], &[("a", &[1], &[1.0]), ("a", &[1], &[1.0])]] {
            assert!(matches!(write(&path, wrong), Err(Error::Internal(_))));
        }
        assert!(matches!(write(&folder.path().join("no/out.npz"), &arrays), Err(Error::CannotCreate(_))));
        assert!(matches!(Npz::open(&folder.path().join("no.npz")), Err(Error::MissingInput(text)) if text.contains("no.npz")));
        assert!(matches!(Npz::open(folder.path()), Err(Error::Data(_))));
    }
}
