//! Mechanisms: latents of coupler curves and types, with the joints to be predicted, from .npz files.

use std::path::Path;

use super::index;
use super::linkages;
use super::matrix::Values;
use super::npz::{Array, Npz};
use crate::error::{Error, Result};

/// Largest number of joints of a mechanism.
pub const JOINTS: usize = linkages::JOINTS;

/// Largest number of types that a model can have.
const MOST_TYPES: f32 = 65_536.0;

/// Samples of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct MechanismData {
    /// Latent vectors, shape (samples, width).
    pub latents: Vec<f32>,
    /// Number of features of a latent vector.
    pub width: usize,
    /// Type of each sample.
    pub types: Vec<u32>,
    /// Joints in mm, shape (samples, 8, 2); 0 after the last valid one.
    pub joints: Vec<f32>,
    /// Number of valid joints of each sample.
    pub counts: Vec<usize>,
    /// True if the types are those of `linkages::KINDS`, because the file was made by `engine data`.
    pub linkages: bool,
}

/// Use of the joints in a file, which a model is to predict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joints {
    /// The file must hold joints: a model is trained on them or evaluated with them.
    Needed,
    /// The file need not hold joints, and none are read: a model generates them.
    Unread,
}

/// Ways to treat samples with numbers that are not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NonFinite {
    /// Such samples are an error.
    Refused,
    /// Such samples are left out, and a note says so.
    LeftOut,
}

impl NonFinite {
    /// The choice of the key `data.skip_non_finite`.
    pub fn of(skip: bool) -> Self {
        if skip { NonFinite::LeftOut } else { NonFinite::Refused }
    }
}

/// Number of samples and width of the latents, from the headers of a file alone.
///
/// # Errors
/// `MissingInput` without the file, `Data` when it does not hold what a run needs.
pub fn header(path: &Path, wanted: Joints) -> Result<(usize, usize)> {
    let mut npz = Npz::open(path)?;
    let names = npz.names();
    let needed = if wanted == Joints::Needed { &["latents", "types", "joints", "mask"][..] } else { &["latents", "types"] };
    for name in needed {
        if !names.iter().any(|n| n == name) {
            let hint = if *name == "latents" && names.iter().any(|n| n == "images") { ". Make them with `engine encode`" } else { "" };
            return Err(Error::Data(format!("{}: no member {name}. There are: {}{hint}", path.display(), names.join(", "))));
        }
    }
    let (latents, types) = (npz.shape("latents")?, npz.shape("types")?);
    let n = types.first().copied().unwrap_or(0);
    let (mut joints, mut mask) = (vec![n, JOINTS, 2], vec![n, JOINTS]);
    if wanted == Joints::Needed {
        (joints, mask) = (npz.shape("joints")?, npz.shape("mask")?);
    }
    match latents[..] {
        [n, width] if n * width > 0 && types == [n] && joints == [n, JOINTS, 2] && mask == [n, JOINTS] => Ok((n, width)),
        _ => Err(Error::Data(format!(
            "{}: latents has shape {latents:?}, types {types:?}, joints {joints:?}, mask {mask:?}; expected (N, L), (N), (N, {JOINTS}, 2) and \
             (N, {JOINTS})",
            path.display()
        ))),
    }
}

fn check_types(path: &Path, kinds: &Values) -> Result<()> {
    let out_of_range = |i: &usize| !(0.0..MOST_TYPES).contains(&kinds.get(*i)) || kinds.get(*i).fract() != 0.0;
    (0..kinds.len()).find(out_of_range).map_or(Ok(()), |i| {
        let (path, found, most) = (path.display(), kinds.get(i), MOST_TYPES - 1.0);
        Err(Error::Data(format!("{path}: types[{i}] is {found}; expected whole numbers from 0 to {most}")))
    })
}

/// Number of valid joints of each sample; there is at least one if joints are needed.
fn joints_of_each(path: &Path, mask: &Values, wanted: Joints) -> Result<Vec<usize>> {
    let samples = mask.len() / JOINTS;
    let wrong = |what: String| Err(Error::Data(format!("{}: {what}", path.display())));
    if let Some(i) = (0..mask.len()).find(|i| mask.get(*i) != 0.0 && mask.get(*i) != 1.0) {
        return wrong(format!("mask{:?} is {}; expected 0 or 1", index(i, &[samples, JOINTS]), mask.get(i)));
    }
    let mut counts = Vec::with_capacity(samples);
    for i in 0..samples {
        let valid = |j: &usize| mask.get(i * JOINTS + j) == 1.0;
        let count = (0..JOINTS).take_while(valid).count();
        if (wanted == Joints::Needed && count == 0) || (count..JOINTS).any(|j| valid(&j)) {
            return wrong(format!("mask[{i}] is no run of ones followed by zeros: valid joints come first, at least one"));
        }
        counts.push(count);
    }
    Ok(counts)
}

/// Fails on an array (types, joints or mask) beside this number of images that `load` would refuse.
///
/// # Errors
/// `Data` with the first element that is wrong.
pub fn check_beside(path: &Path, samples: usize, name: &str, Array { shape: found, values }: &Array) -> Result<()> {
    let shape = match name {
        "types" => vec![samples],
        "joints" => vec![samples, JOINTS, 2],
        "mask" => vec![samples, JOINTS],
        _ => return Ok(()),
    };
    if *found != shape {
        return Err(Error::Data(format!("{}: {name} has shape {found:?} beside {samples} images; expected {shape:?}", path.display())));
    }
    match name {
        "types" => check_types(path, values),
        "mask" => joints_of_each(path, values, Joints::Needed).map(drop),
        _ => super::non_finite(path, false, &[(name, &values.to_f32(), &shape)]).map(drop),
    }
}

/// Reads a file, and gives notes for the user. If joints are not read, no sample has any.
///
/// # Errors
/// `MissingInput` or `Data`.
pub fn load(path: &Path, wanted: Joints, non_finite: NonFinite) -> Result<(MechanismData, Vec<String>)> {
    let (samples, width) = header(path, wanted)?;
    let mut npz = Npz::open(path)?;
    let linkages = npz.names().iter().any(|n| n == linkages::MARK);
    let mut read = |name: &str| -> Result<Values> { Ok(npz.array(name)?.values) };
    let (latents, kinds) = (read("latents")?, read("types")?);
    let (joints, mask) = if wanted == Joints::Needed {
        (read("joints")?, read("mask")?)
    } else {
        (Values::F32(vec![0.0; samples * JOINTS * 2]), Values::F32(vec![0.0; samples * JOINTS]))
    };
    check_types(path, &kinds)?;
    let counts = joints_of_each(path, &mask, wanted)?;
    let mut joints = joints.to_f32();
    for (joints, count) in joints.chunks_mut(JOINTS * 2).zip(&counts) {
        joints[count * 2..].fill(0.0);
    }
    let latents = latents.to_f32();
    let left_out = non_finite == NonFinite::LeftOut;
    let bad = super::non_finite(path, left_out, &[("latents", &latents, &[samples, width]), ("joints", &joints, &[samples, JOINTS, 2])])?;
    let kept: Vec<usize> = (0..samples).filter(|i| bad.binary_search(i).is_err()).collect();
    let rows = |values: &[f32], n: usize| -> Vec<f32> { kept.iter().flat_map(|i| &values[i * n..(i + 1) * n]).copied().collect() };
    let notes = if bad.is_empty() { vec![] } else { vec![format!("{} of {samples} samples are left out: not finite", bad.len())] };
    let (latents, joints) = (rows(&latents, width), rows(&joints, JOINTS * 2));
    let types = kept.iter().map(|i| kinds.get(*i) as u32).collect();
    let counts = kept.iter().map(|i| counts[*i]).collect();
    Ok((MechanismData { latents, width, types, joints, counts, linkages }, notes))
}

impl MechanismData {
    /// Valid joints of a sample, in mm.
    pub fn joints_of(&self, i: usize) -> Vec<[f64; 2]> {
        self.joints[i * JOINTS * 2..].chunks(2).take(self.counts[i]).map(|p| [f64::from(p[0]), f64::from(p[1])]).collect()
    }

    /// Mean and standard deviation of the joints of these samples, by axis.
    pub fn statistics(&self, numbers: &[usize]) -> [[f64; 2]; 2] {
        let joints = || numbers.iter().flat_map(|i| self.joints_of(*i));
        let count = joints().count().max(1) as f64;
        let mean = [0, 1].map(|axis| joints().map(|p| p[axis]).sum::<f64>() / count);
        let deviation = [0, 1].map(|axis| (joints().map(|p| (p[axis] - mean[axis]).powi(2)).sum::<f64>() / count).sqrt().max(1e-6));
        [mean, deviation]
    }
}

#[cfg(test)]
mod tests {
    use super::super::npz::write;
    use super::*;

    fn file(path: &Path, change: impl Fn(&mut [Vec<f32>; 4])) -> Result<MechanismData> {
        let mut mask = vec![1.0; 3 * JOINTS];
        mask[5..8].fill(0.0);
        let mut arrays = [vec![0.5; 3 * 4], vec![0.0, 1.0, 2.0], (0..3 * 16).map(|i| i as f32).collect(), mask];
        change(&mut arrays);
        let [latents, types, joints, mask] = &arrays;
        let n = types.len();
        write(path, &[("latents", &[3, 4], latents), ("types", &[n], types), ("joints", &[3, 8, 2], joints), ("mask", &[3, 8], mask)])?;
        Ok(load(path, Joints::Needed, NonFinite::Refused)?.0)
    }

    #[test]
    fn files_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.npz");
        let data = file(&path, |_| {}).unwrap();
        assert_eq!((data.counts.clone(), data.width, data.joints_of(0).len()), (vec![5, 8, 8], 4, 5));
        assert_eq!(data.joints[9..12], [9.0, 0.0, 0.0]);
        // What is masked is no data.
        assert_eq!(file(&path, |a| a[2][11] = f32::NAN).unwrap(), data);
        file(&path, |a| a[0][6] = f32::NAN).unwrap_err();
        let (left, notes) = load(&path, Joints::Needed, NonFinite::LeftOut).unwrap();
        assert_eq!((left.counts, left.types, notes.len()), (vec![5, 8], vec![0, 2], 1));
        let [mean, deviation] = data.statistics(&[0]);
        assert_eq!((mean, deviation), ([4.0, 5.0], [8f64.sqrt(); 2]));
        for (what, change) in [
            ("types[2] is 65536", (|a| a[1][2] = 65_536.0) as fn(&mut [Vec<f32>; 4])),
            ("types[0] is 0.5", |a| a[1][0] = 0.5),
            ("mask[0, 1] is 2", |a| a[3][1] = 2.0),
            ("mask[1] is no run", |a| a[3][9] = 0.0),
            ("mask[2] is no run", |a| a[3][16..].fill(0.0)),
            ("latents has 1 values that are NaN or infinite, the first at [1, 2]", |a| a[0][6] = f32::NAN),
            ("types [2]", |a| a[1].truncate(2)),
            ("joints has 1 values that are NaN or infinite, the first at [0, 4, 1]", |a| a[2][9] = f32::INFINITY),
        ] {
            let error = file(&path, change).unwrap_err();
            assert!(error.exit_code() == 65 && error.to_string().contains(what), "{what}: {error}");
        }
    }
}
