//! Grey images from .npz files.

use std::path::Path;

use super::index;
use super::matrix::Values;
use super::npz::Npz;
use crate::error::{Error, Result};

/// Images of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageData {
    /// Pixel values from 0 to 1, shape (samples, side, side).
    pub pixels: Values,
    /// Number of images.
    pub samples: usize,
    /// Side of an image in pixels.
    pub side: usize,
}

/// Number of images and their side in pixels, from the headers of a file alone.
///
/// # Errors
/// `MissingInput` without the file, `Data` when it has no square images.
pub fn header(path: &Path) -> Result<(usize, usize)> {
    let mut npz = Npz::open(path)?;
    let names = npz.names();
    if !names.iter().any(|n| n == "images") {
        let first = names.first().map_or("…", String::as_str);
        return Err(Error::Data(format!(
            "{0}: no member images. There are: {1}. Save the images (N, S, S) under this name, as in\n  \
             python3 -c 'import numpy; a = numpy.load(\"{0}\"); numpy.savez(\"images.npz\", images=a[\"{first}\"])'",
            path.display(),
            names.join(", ")
        )));
    }
    match npz.shape("images")?[..] {
        [n, side, other] if n * side > 0 && side == other => Ok((n, side)),
        ref shape => Err(Error::Data(format!("{}: images has shape {shape:?}; expected (N, S, S)", path.display()))),
    }
}

/// Reads all images of a file.
///
/// # Errors
/// `MissingInput` or `Data`.
pub fn load(path: &Path) -> Result<ImageData> {
    let (samples, side) = header(path)?;
    let array = Npz::open(path)?.array("images")?;
    // NaN is outside, too.
    let outside = |i: &usize| !(0.0..=1.0).contains(&array.values.get(*i));
    if let Some(i) = (0..array.values.len()).find(outside) {
        return Err(Error::Data(format!(
            "{}: images{:?} is {}; expected numbers from 0 to 1. Divide grey levels by 255",
            path.display(),
            index(i, &array.shape),
            array.values.get(i)
        )));
    }
    Ok(ImageData { pixels: array.values, samples, side })
}
