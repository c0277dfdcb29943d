//! Contexts of vectors and the vectors that follow them, from .npz files.

use std::collections::HashSet;
use std::hash::Hasher;
use std::path::Path;
use std::sync::Arc;

use super::matrix::{IN_MEMORY, Matrix, Values};
use super::npz::{Look, Npz};
use crate::error::{Error, Result};
use crate::random::{Random, stream};
use crate::ranks::Ranks;

/// Accepted names of an array of contexts.
pub const CONTEXTS: &[&str] = &["context_sequences", "contexts", "train_context_sequences"];

/// Accepted names of the arrays with contexts and targets: training, validation, out of distribution.
const MEMBERS: [[&[&str]; 2]; 3] = [
    [CONTEXTS, &["target_vectors", "targets", "train_target_vectors"]],
    [&["val_context_sequences"], &["val_target_vectors"]],
    [&["ood_context_sequences"], &["ood_target_vectors"]],
];

/// Options for reading a data file.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Leave out samples with numbers that are not finite, instead of failing on them.
    pub skip_non_finite: bool,
    /// Size in bytes above which an array stays in its file.
    pub in_memory: u64,
    /// Processes that each read the file; the first one checks all of it and tells the others what it found.
    pub ranks: Ranks,
}

impl Default for Reading {
    fn default() -> Self {
        Reading { skip_non_finite: false, in_memory: IN_MEMORY, ranks: Ranks::default() }
    }
}

/// Samples of one set: contexts and targets.
#[derive(Debug, Clone)]
pub struct VectorSet {
    /// Contexts as rows (context · dim), of these and other samples.
    contexts: Arc<Matrix>,
    /// Targets as rows (dim), of these and other samples.
    targets: Arc<Matrix>,
    /// Row of each sample in both.
    numbers: Arc<Vec<u32>>,
    /// Number of samples.
    pub samples: usize,
    /// Number of vectors in a context.
    pub context: usize,
    /// Number of features of a vector.
    pub dim: usize,
}

/// Sets of a run: training, validation and out of distribution.
#[derive(Debug, Clone)]
pub struct VectorData {
    /// Training set.
    pub train: VectorSet,
    /// Validation set.
    pub validation: VectorSet,
    /// Set of samples out of distribution, if there is one.
    pub ood: Option<VectorSet>,
}

/// Ways to choose the validation samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ValidationSplit {
    /// The file's own validation set.
    Given,
    /// The last samples, by share.
    Sequential(f64),
    /// Random samples, by share and seed.
    Random(f64, u64),
    /// Blocks of successive samples, by share and seed; training samples too near to a block are left out.
    Blocks(f64, u64),
    /// No split: training and validation set have all samples.
    Whole,
}

/// Leakage between training and validation: vectors that are equal bit by bit on both sides, as windows that slide over a text put them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Leakage {
    /// Number of validation samples.
    pub samples: usize,
    /// Number of validation samples with a training target in their context.
    pub contexts: usize,
    /// Number of validation samples whose target is in the context of a training sample.
    pub targets: usize,
}

impl Leakage {
    /// Sentence about the leakage, if there is any; if the split is not by `blocks`, it recommends that.
    pub fn sentence(&self, blocks: bool) -> Option<String> {
        let share = |n: usize| format!("{n} of {} ({:.0} %)", self.samples, 100.0 * n as f64 / self.samples.max(1) as f64);
        (self.contexts + self.targets > 0).then(|| {
            format!(
                "LEAKAGE: {} validation contexts hold a vector that is a training target, and the targets of {} stand in a training context: \
                 the validation is easier than new data{}",
                share(self.contexts),
                share(self.targets),
                if blocks { "" } else { ". data.split = \"blocks\" keeps overlapping windows apart" }
            )
        })
    }
}

/// Sizes and number format of a data file, from its headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Number of samples outside of the file's own validation set.
    pub samples: usize,
    /// Number of vectors in a context.
    pub context: usize,
    /// Number of features of a vector.
    pub dim: usize,
    /// True if the file has a validation set.
    pub has_validation: bool,
    /// True if contexts and targets are of half precision, and stay so on the device.
    pub half: bool,
}

fn find<'a>(names: &[String], choices: &[&'a str]) -> Option<&'a str> {
    choices.iter().copied().find(|c| names.iter().any(|n| n == c))
}

fn required<'a>(path: &Path, names: &[String], choices: &[&'a str]) -> Result<&'a str> {
    find(names, choices).ok_or_else(|| {
        let [contexts, targets] = [0, 1].map(|at| names.get(at).map_or("…", String::as_str));
        let save = format!("numpy.savez(\"vectors.npz\", contexts=a[\"{contexts}\"], targets=a[\"{targets}\"])");
        Error::Data(format!(
            "{}: no member {}. There are: {}. Save the contexts (N, context, D) and the targets (N, D) under these names, as in\n  \
                 python3 -c 'import numpy; a = numpy.load(\"{0}\"); {save}'",
            path.display(),
            choices.join(" or "),
            names.join(", ")
        ))
    })
}

fn check_shapes(path: &Path, names: [&str; 2], contexts: &[usize], targets: &[usize]) -> Result<[usize; 3]> {
    match (contexts, targets) {
        (&[n, context, dim], &[m, width]) if n == m && dim == width && n * context * dim > 0 => Ok([n, context, dim]),
        _ => Err(Error::Data(format!(
            "{}: {} has shape {contexts:?} and {} {targets:?}; expected (N, context, D) and (N, D) with the same N and D, none of them 0",
            path.display(),
            names[0],
            names[1]
        ))),
    }
}

/// Reads only the headers of a file.
///
/// # Errors
/// `MissingInput` without the file, `Data` when it does not hold what a run needs.
pub fn header(path: &Path) -> Result<Header> {
    let mut npz = Npz::open(path)?;
    let names = npz.names();
    let [contexts, targets] = MEMBERS[0];
    let members = [required(path, &names, contexts)?, required(path, &names, targets)?];
    let [samples, context, dim] = check_shapes(path, members, &npz.shape(members[0])?, &npz.shape(members[1])?)?;
    for [contexts, targets] in &MEMBERS[1..] {
        let (of, without) = match (find(&names, contexts), find(&names, targets)) {
            (Some(found), None) => (found, targets[0]),
            (None, Some(found)) => (found, contexts[0]),
            _ => continue,
        };
        return Err(Error::Data(format!("{}: there is {of} and no {without}. Add it, or leave both out", path.display())));
    }
    let has_validation = find(&names, MEMBERS[1][0]).is_some();
    let dtypes = npz.members()?.into_iter().filter(|m| members.contains(&m.name.as_str()));
    let half = dtypes.map(|m| m.dtype).all(|dtype| dtype.ends_with("f2"));
    Ok(Header { samples, context, dim, has_validation, half })
}

/// First rows of windows over `rows` vectors, `stride` apart; each window holds a context and the vector after it. If `documents` gives the
/// document number of each vector, each window lies within one document.
pub fn window_starts(rows: usize, context: usize, stride: usize, documents: Option<&[f32]>) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut first = 0;
    while first < rows {
        // Vectors of the document that begins here.
        let end = documents.map_or(rows, |of| (first..rows).find(|i| of[*i].to_bits() != of[first].to_bits()).unwrap_or(rows));
        starts.extend((first..end.saturating_sub(context)).step_by(stride));
        first = end;
    }
    starts
}

impl VectorSet {
    /// A set of two arrays, contexts and targets.
    ///
    /// # Errors
    /// `Data` when their shapes do not fit each other.
    fn new(path: &Path, names: [&str; 2], contexts: (Vec<usize>, Matrix), targets: (Vec<usize>, Matrix)) -> Result<VectorSet> {
        let [_, context, dim] = check_shapes(path, names, &contexts.0, &targets.0)?;
        Ok(VectorSet::of(contexts.1, targets.1, context, dim))
    }

    /// A set of contexts (samples, context · dim) and targets (samples, dim).
    pub fn of(contexts: Matrix, targets: Matrix, context: usize, dim: usize) -> VectorSet {
        let samples = contexts.rows().min(targets.rows());
        let numbers = Arc::new((0..samples as u32).collect());
        VectorSet { contexts: Arc::new(contexts), targets: Arc::new(targets), numbers, samples, context, dim }
    }

    /// Row of each sample in the arrays of its file.
    pub fn rows(&self) -> Vec<i32> {
        self.numbers.iter().map(|row| *row as i32).collect()
    }

    /// Context i: its vectors one after the other.
    pub fn context_of(&self, i: usize) -> Vec<f32> {
        self.contexts.row(self.numbers[i] as usize)
    }

    /// Writes context i into a slice of its length.
    pub fn read_context(&self, i: usize, to: &mut [f32]) {
        self.contexts.read_row(self.numbers[i] as usize, to);
    }

    /// Writes target i into a slice of its length.
    pub fn read_target(&self, i: usize, to: &mut [f32]) {
        self.targets.read_row(self.numbers[i] as usize, to);
    }

    /// Target vector i.
    pub fn target_of(&self, i: usize) -> Vec<f32> {
        self.targets.row(self.numbers[i] as usize)
    }

    /// Target vector i as f64.
    pub fn target(&self, i: usize) -> Vec<f64> {
        self.targets.row_f64(self.numbers[i] as usize)
    }

    /// True if contexts and targets are of half precision.
    pub fn half(&self) -> bool {
        self.contexts.half() && self.targets.half()
    }

    /// Fails if a sample could not be read from its file.
    ///
    /// # Errors
    /// `Io` or `MissingInput`.
    pub fn check(&self) -> Result<()> {
        self.contexts.check().and_then(|()| self.targets.check())
    }

    /// The subset with these samples.
    pub fn take(&self, numbers: &[usize]) -> VectorSet {
        let numbers: Vec<u32> = numbers.iter().map(|i| self.numbers[*i]).collect();
        VectorSet { samples: numbers.len(), numbers: Arc::new(numbers), ..self.clone() }
    }

    /// Removes samples that are not finite, or fails on them; the first of the processes looks for them.
    fn finite(self, path: &Path, names: [&str; 2], reading: Reading, notes: &mut Vec<String>) -> Result<VectorSet> {
        let found = if reading.ranks.leads() { self.not_finite(path, names, reading.skip_non_finite, notes)? } else { vec![] };
        reading.ranks.meet();
        let found = reading.ranks.broadcast(bytemuck::cast_slice(&found).to_vec());
        let bad: Vec<u32> = bytemuck::pod_collect_to_vec(&found);
        if bad.is_empty() {
            return Ok(self);
        }
        let kept: Vec<usize> = (0..self.samples).filter(|i| bad.binary_search(&(*i as u32)).is_err()).collect();
        Ok(self.take(&kept))
    }

    /// Numbers of the samples that are not finite, in order; an error unless `skip`.
    fn not_finite(&self, path: &Path, names: [&str; 2], skip: bool, notes: &mut Vec<String>) -> Result<Vec<u32>> {
        let (mut bad, mut wrong_in) = (Vec::new(), Vec::new());
        for (matrix, name, axes) in [(&self.contexts, names[0], 3), (&self.targets, names[1], 2)] {
            let (mut wrong, mut first) = (0, None);
            for i in 0..self.samples {
                let row = matrix.row(i);
                let in_row = row.iter().filter(|v| !v.is_finite()).count();
                if in_row > 0 {
                    let at = row.iter().position(|v| !v.is_finite()).unwrap_or(0);
                    first.get_or_insert(if axes == 2 { vec![i, at] } else { vec![i, at / self.dim, at % self.dim] });
                    wrong += in_row;
                    bad.push(i as u32);
                }
            }
            matrix.check()?;
            let Some(first) = first else { continue };
            if !skip {
                return Err(Error::Data(format!(
                    "{}: {name} has {wrong} values that are NaN or infinite, the first at {first:?}. Mend the file, or leave such samples out \
                     with --set data.skip_non_finite=true",
                    path.display(),
                )));
            }
            wrong_in.push(name);
        }
        bad.sort_unstable();
        bad.dedup();
        if !bad.is_empty() {
            notes.push(format!("{} of {} samples are left out: {} are not finite", bad.len(), self.samples, wrong_in.join(" and ")));
        }
        Ok(bad)
    }

    /// Mean norm of the targets; embeddings usually have norm 1.
    pub fn mean_norm(&self) -> f64 {
        let norm = |i: usize| self.target(i).iter().map(|v| v * v).sum::<f64>().sqrt();
        (0..self.samples).map(norm).sum::<f64>() / self.samples as f64
    }
}

/// Mean cosine of two different vectors of a list: (‖Σ xᵢ/‖xᵢ‖‖² − n) / (n² − n); none for fewer than two.
pub fn self_similarity(vectors: impl Iterator<Item = Vec<f64>>) -> Option<f64> {
    let (mut n, mut sum) = (0.0, Vec::new());
    for vector in vectors {
        sum.resize(vector.len(), 0.0);
        sum.iter_mut().zip(unit(vector)).for_each(|(s, v)| *s += v);
        n += 1.0;
    }
    let square = sum.iter().map(|s| s * s).sum::<f64>();
    (n > 1.0).then(|| (square - n) / (n * n - n))
}

/// A vector scaled to length 1.
fn unit(mut v: Vec<f64>) -> Vec<f64> {
    let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-12);
    v.iter_mut().for_each(|x| *x /= norm);
    v
}

/// True if a vector is finite and not zero.
pub(crate) fn has_direction(v: &[f32]) -> bool {
    v.iter().all(|x| x.is_finite()) && v.iter().any(|x| *x != 0.0)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Mean cosines of predictions that need no model; 0 if they are not computed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Baselines {
    /// Prediction of the normalised mean of the training targets, for every sample.
    pub mean_vector: f64,
    /// Prediction of the last vector of the context.
    pub last_vector: f64,
    /// Prediction of the mean of the context.
    pub context_mean: f64,
}

impl Baselines {
    /// Baselines of a set, with the mean of the training targets.
    pub fn of(train_mean: &[f64], set: &VectorSet) -> Baselines {
        let mean = unit(train_mean.to_vec());
        let mut sums = [0.0; 3];
        for i in 0..set.samples {
            let target = unit(set.target(i));
            for (sum, guess) in sums.iter_mut().zip([mean.clone(), unit(set.last(i)), unit(set.context_sum(i))]) {
                *sum += dot(&guess, &target);
            }
        }
        let [mean_vector, last_vector, context_mean] = sums.map(|s| s / set.samples as f64);
        Baselines { mean_vector, last_vector, context_mean }
    }
}

/// Linear regression t ≈ Σ_c a_c x_c + b m of a target t on the vectors x_c of its context and the mean target m: the numbers a_c and b
/// minimise the squared error over training samples. The mean vector, the last vector and the mean of the context are special cases.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Linear {
    /// Coefficients a by position of the context, then b.
    pub weights: Vec<f64>,
    mean: Vec<f64>,
}

impl Linear {
    /// Number of multiplications that are worth it: from larger sets, samples are picked at even distances.
    const PRODUCTS: usize = 2_000_000_000;

    /// Fits the regression to a training set with this mean target, by the normal equations.
    pub fn of(mean: &[f64], train: &VectorSet) -> Linear {
        let n = train.context + 1;
        let most = (Self::PRODUCTS / (n * n * train.dim)).max(4 * n);
        let step = train.samples.div_ceil(most).max(1);
        // Gram matrix of the inputs, with their products with the target in the last column.
        let mut rows = vec![vec![0.0; n + 1]; n];
        for i in (0..train.samples).step_by(step) {
            let context: Vec<f64> = train.context_of(i).iter().map(|v| f64::from(*v)).collect();
            let inputs: Vec<&[f64]> = context.chunks(train.dim).chain([mean]).collect();
            let target = train.target(i);
            for (a, row) in inputs.iter().zip(&mut rows) {
                for (b, sum) in inputs.iter().copied().chain([&target[..]]).zip(row) {
                    *sum += dot(a, b);
                }
            }
        }
        // Where inputs depend on each other, the smallest numbers that do.
        let ridge = (1e-9 * (0..n).map(|i| rows[i][i]).sum::<f64>()).max(f64::MIN_POSITIVE);
        (0..n).for_each(|i| rows[i][i] += ridge);
        for i in 0..n {
            let (above, below) = rows.split_at_mut(i + 1);
            let pivot = &above[i];
            for row in below {
                let factor = row[i] / pivot[i];
                row.iter_mut().zip(pivot).skip(i).for_each(|(v, p)| *v -= factor * p);
            }
        }
        let mut weights = vec![0.0; n];
        for i in (0..n).rev() {
            let known: f64 = (i + 1..n).map(|j| rows[i][j] * weights[j]).sum();
            weights[i] = (rows[i][n] - known) / rows[i][i];
        }
        Linear { weights, mean: mean.to_vec() }
    }

    /// Mean cosine of the predictions with the targets of a set.
    pub fn cosine(&self, set: &VectorSet) -> f64 {
        let cosines = (0..set.samples).map(|i| dot(&unit(self.predict(&set.context_of(i))), &unit(set.target(i))));
        cosines.sum::<f64>() / set.samples as f64
    }

    /// Prediction from a context, given as its vectors one after another; of a longer or shorter context the last vectors count.
    pub fn predict(&self, context: &[f32]) -> Vec<f64> {
        let dim = self.mean.len();
        let [positions @ .., b] = &self.weights[..] else { return vec![] };
        let mut sum: Vec<f64> = self.mean.iter().map(|m| b * m).collect();
        for (vector, a) in context.rchunks(dim).zip(positions.iter().rev()) {
            sum.iter_mut().zip(vector).for_each(|(sum, v)| *sum += a * f64::from(*v));
        }
        sum
    }
}

/// Retrieval metrics: how often a predicted vector finds its own target among those of a set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retrieval {
    /// Share of predictions whose own target is the nearest by cosine.
    pub recall_at_1: f64,
    /// Share of predictions whose own target is among the ten nearest.
    pub recall_at_10: f64,
    /// Median rank of the own target: 1 + the number of targets that are nearer.
    pub median_rank: f64,
}

/// Targets of a set to search for predicted vectors; from large sets they are picked at even distances.
#[derive(Debug)]
pub struct Candidates {
    /// Samples whose predictions are searched for.
    queries: Vec<usize>,
    /// Samples whose targets are searched; every query is among them.
    candidates: Vec<usize>,
    /// Targets of the candidates, scaled to unit length.
    units: Vec<f32>,
    dim: usize,
}

impl Candidates {
    /// Largest number of queries.
    const QUERIES: usize = 2_000;
    /// Largest number of candidates.
    const MOST: usize = 10_000;

    /// Candidates and queries of a set.
    pub fn of(set: &VectorSet) -> Candidates {
        let step = set.samples.div_ceil(Self::MOST).max(1);
        let candidates: Vec<usize> = (0..set.samples).step_by(step).collect();
        let queries = candidates.iter().copied().step_by(candidates.len().div_ceil(Self::QUERIES).max(1)).collect();
        let units = candidates.iter().flat_map(|i| unit(set.target(*i))).map(|v| v as f32).collect();
        Candidates { queries, candidates, units, dim: set.dim }
    }

    /// Searches for the vector that `guess` gives for each query; its length does not matter.
    pub fn look_up(&self, guess: impl Fn(usize) -> Vec<f64>) -> Retrieval {
        let product = |a: &[f32], b: &[f32]| {
            let mut sums = [0.0f32; 8];
            let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
            let rest: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(x, y)| x * y).sum();
            a8.zip(b8).for_each(|(x, y)| sums.iter_mut().zip(x.iter().zip(y)).for_each(|(sum, (x, y))| *sum += x * y));
            sums.iter().sum::<f32>() + rest
        };
        let rank = |sample: &usize| {
            let query: Vec<f32> = unit(guess(*sample)).into_iter().map(|v| v as f32).collect();
            // Without a direction it points to none of them.
            if !has_direction(&query) {
                return usize::MAX;
            }
            let products: Vec<f32> = self.units.chunks(self.dim).map(|target| product(&query, target)).collect();
            let own = self.candidates.binary_search(sample).map_or(f32::NEG_INFINITY, |at| products[at]);
            1 + products.iter().filter(|p| **p > own).count()
        };
        let mut ranks: Vec<usize> = self.queries.iter().map(rank).collect();
        ranks.sort_unstable();
        let within = |most: usize| ranks.partition_point(|r| *r <= most) as f64 / ranks.len().max(1) as f64;
        let middle = |at: usize| ranks.get(at).map_or(f64::NAN, |r| (*r).min(self.candidates.len()) as f64);
        let median_rank = (middle(ranks.len().saturating_sub(1) / 2) + middle(ranks.len() / 2)) / 2.0;
        Retrieval { recall_at_1: within(1), recall_at_10: within(10), median_rank }
    }

    /// Sentence with the numbers of candidates and queries.
    pub fn describe(&self) -> String {
        format!("recall and rank: the true next vector among {} targets, asked for {}", self.candidates.len(), self.queries.len())
    }
}

impl VectorSet {
    /// Last vector of context i.
    pub fn last(&self, i: usize) -> Vec<f64> {
        self.context_of(i)[(self.context - 1) * self.dim..].iter().map(|v| f64::from(*v)).collect()
    }

    /// Sum of the vectors of context i, which has the direction of their mean.
    pub fn context_sum(&self, i: usize) -> Vec<f64> {
        let context = self.context_of(i);
        (0..self.dim).map(|d| context.iter().skip(d).step_by(self.dim).map(|v| f64::from(*v)).sum()).collect()
    }
}

fn read(npz: &mut Npz<std::io::BufReader<std::fs::File>>, path: &Path, names: [&str; 2], reading: Reading) -> Result<VectorSet> {
    let mut matrix = |name| npz.matrix(name, reading.in_memory, if reading.ranks.leads() { Look::Here } else { Look::Elsewhere });
    VectorSet::new(path, names, matrix(names[0])?, matrix(names[1])?)
}

/// Reads a data file, and samples out of distribution from another. Gives the data and notes for the user.
///
/// # Errors
/// `MissingInput` or `Data`.
pub fn load(path: &Path, ood_path: Option<&Path>, split: ValidationSplit, reading: Reading) -> Result<(VectorData, Vec<String>)> {
    let mut notes = Vec::new();
    let mut npz = Npz::open(path)?;
    let names = npz.names();
    let members = [required(path, &names, MEMBERS[0][0])?, required(path, &names, MEMBERS[0][1])?];
    let all = read(&mut npz, path, members, reading)?.finite(path, members, reading, &mut notes)?;
    let same = |set: &VectorSet, name: &str| {
        if (set.context, set.dim) == (all.context, all.dim) {
            return Ok(());
        }
        Err(Error::Data(format!(
            "{}: {name} has contexts of {} vectors of {}, {} of {} of {}",
            path.display(),
            set.context,
            set.dim,
            members[0],
            all.context,
            all.dim
        )))
    };
    let mut optional = |npz: &mut Npz<_>, path: &Path, which: &[[&[&'static str]; 2]]| -> Result<Option<VectorSet>> {
        let names = npz.names();
        for [contexts, targets] in which {
            if let (Some(c), Some(t)) = (find(&names, contexts), find(&names, targets)) {
                let set = read(npz, path, [c, t], reading)?.finite(path, [c, t], reading, &mut notes)?;
                same(&set, c)?;
                return Ok(Some(set));
            }
        }
        Ok(None)
    };
    let given = if split == ValidationSplit::Given { optional(&mut npz, path, &MEMBERS[1..2])? } else { None };
    let ood = match ood_path {
        Some(other) => {
            let set = optional(&mut Npz::open(other)?, other, &[MEMBERS[2], MEMBERS[0]])?;
            Some(set.ok_or_else(|| Error::Data(format!("{}: no contexts with targets", other.display())))?)
        }
        None => optional(&mut npz, path, &MEMBERS[2..])?,
    };
    let (train, validation) = match (split, given) {
        (ValidationSplit::Given, Some(validation)) => (all, validation),
        (ValidationSplit::Given, None) => {
            let wanted = MEMBERS[1].map(|m| m[0]).join(" and ");
            return Err(Error::Data(format!("{}: no members {wanted}. Use --set data.split=sequential", path.display())));
        }
        (ValidationSplit::Whole, _) => (all.clone(), all),
        (ValidationSplit::Sequential(share) | ValidationSplit::Random(share, _) | ValidationSplit::Blocks(share, _), _) => {
            let (train, validation) = match split {
                ValidationSplit::Random(_, seed) => super::split(all.samples, share, Some(seed)),
                ValidationSplit::Blocks(_, seed) => super::split_blocks(all.samples, share, seed, all.context),
                _ => super::split(all.samples, share, None),
            };
            let left = all.samples - train.len() - validation.len();
            if left > 0 {
                notes.push(format!("blocks      {left} samples around those that validate are left out: their windows overlap"));
            }
            (all.take(&train), all.take(&validation))
        }
    };
    for (set, name) in [(&train, "training"), (&validation, "validation")] {
        if set.samples == 0 {
            return Err(Error::Data(format!("{}: the {name} set is empty. Change data.split or data.validation_share", path.display())));
        }
    }
    if !reading.ranks.leads() {
        return Ok((VectorData { train, validation, ood }, notes));
    }
    notes.extend(train.sentences());
    let data = VectorData { train, validation, ood };
    data.check()?;
    Ok((data, notes))
}

impl VectorSet {
    /// Notes for the user about a training set.
    fn sentences(&self) -> Vec<String> {
        let (norm, mut notes) = (self.mean_norm(), Vec::new());
        if let Some(similarity) = self_similarity((0..self.samples).map(|i| self.target(i))) {
            notes.push(format!("targets     mean norm {norm:.4}; two of them have a cosine of {similarity:.4} on average"));
        }
        if (norm - 1.0).abs() > 0.01 {
            notes.push(format!("the targets have a mean norm of {norm:.3}; vectors of this kind are expected to have norm 1"));
        }
        if self.contexts.is_in_file() {
            notes.push("memory      the contexts are left in their file and read batch by batch".into());
        }
        notes
    }
}

impl VectorData {
    /// Mean and unbiased standard deviation of each feature of the training targets.
    pub fn target_stats(&self) -> [Vec<f64>; 2] {
        let (n, dim) = (self.train.samples as f64, self.train.dim);
        let (mut mean, mut squares) = (vec![0.0; dim], vec![0.0; dim]);
        for i in 0..self.train.samples {
            self.train.target(i).iter().zip(&mut mean).for_each(|(v, m)| *m += v / n);
        }
        for i in 0..self.train.samples {
            for (d, v) in self.train.target(i).iter().enumerate() {
                squares[d] += (v - mean[d]).powi(2);
            }
        }
        let deviation = squares.iter().map(|s| (s / (n - 1.0).max(1.0)).sqrt()).collect();
        [mean, deviation]
    }

    /// Counts the vectors that training and validation samples share.
    pub fn leakage(&self) -> Leakage {
        let hash = |vector: &[f32]| {
            let mut hasher = std::hash::DefaultHasher::new();
            vector.iter().for_each(|v| hasher.write_u32(v.to_bits()));
            hasher.finish()
        };
        let hashes = |context: Vec<f32>| context.chunks(self.train.dim).map(hash).collect::<Vec<u64>>();
        let (train, validation) = (&self.train, &self.validation);
        let targets: HashSet<u64> = (0..train.samples).map(|i| hash(&train.target_of(i))).collect();
        let contexts: HashSet<u64> = (0..train.samples).flat_map(|i| hashes(train.context_of(i))).collect();
        let all = 0..validation.samples;
        Leakage {
            samples: validation.samples,
            contexts: all.clone().filter(|i| hashes(validation.context_of(*i)).iter().any(|v| targets.contains(v))).count(),
            targets: all.filter(|i| contexts.contains(&hash(&validation.target_of(*i)))).count(),
        }
    }

    /// Fails if a sample could not be read from its file.
    ///
    /// # Errors
    /// `Io` or `MissingInput`.
    pub fn check(&self) -> Result<()> {
        [Some(&self.train), Some(&self.validation), self.ood.as_ref()].into_iter().flatten().try_for_each(VectorSet::check)
    }

    /// Training target i, scaled to unit length.
    pub fn unit_target(&self, i: usize) -> Vec<f64> {
        unit(self.train.target(i))
    }

    /// Data of random unit vectors, each target near the mean of its context, for timing a model without data.
    pub fn random(samples: usize, context: usize, dim: usize, seed: u64) -> VectorData {
        let mut random = Random::new(seed, stream::MADE_UP_VECTORS, 1);
        let (mut contexts, mut targets) = (Vec::new(), Vec::new());
        for _ in 0..samples {
            let mut sum = vec![0.0; dim];
            for _ in 0..context {
                let v = unit((0..dim).map(|_| random.normal()).collect());
                sum.iter_mut().zip(&v).for_each(|(s, x)| *s += x);
                contexts.extend(v.iter().map(|x| *x as f32));
            }
            targets.extend(unit(sum).iter().map(|x| *x as f32));
        }
        let matrix = |values, cols| Matrix::new(Values::F32(values), cols);
        let set = VectorSet::of(matrix(contexts, context * dim), matrix(targets, dim), context, dim);
        VectorData { validation: set.clone(), train: set, ood: None }
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::super::npz::{Numbers, write, write_arrays};
    use super::*;

    /// `n` samples whose first target feature is their number.
    fn file(folder: &Path, name: &str, n: usize, prefix: &str) -> std::path::PathBuf {
        let path = folder.join(name);
        let targets: Vec<f32> = (0..n).flat_map(|i| [i as f32, 1.0]).collect();
        let contexts: Vec<f32> = (0..n).flat_map(|i| [i as f32, 2.0, 0.0, 1.0, 1.0, 0.0]).collect();
        let names = [format!("{prefix}context_sequences"), format!("{prefix}target_vectors")];
        write(&path, &[(&names[0], &[n, 3, 2], &contexts), (&names[1], &[n, 2], &targets)]).unwrap();
        path
    }

    fn numbers(set: &VectorSet) -> Vec<usize> {
        (0..set.samples).map(|i| set.target(i)[0] as usize).collect()
    }

    /// An array of any dtype has the same numbers if it is read into memory, left in its archive or unpacked beside it.
    #[test]
    fn files_too_large_for_memory_give_the_same_samples() {
        let folder = tempfile::tempdir().unwrap();
        let stored = windows(folder.path(), 400);
        let packed = folder.path().join("packed.npz");
        let halves: Vec<f16> = (0..2400).map(|i| f16::from_f32((f32::from(i as u16) * 0.1).sin())).collect();
        let targets: Vec<i32> = (0..800).map(|i| i % 7 - 3).collect();
        let arrays = [("contexts", &[400, 3, 2][..], Numbers::F16(&halves)), ("targets", &[400, 2][..], Numbers::I32(&targets))];
        write_arrays(&packed, &arrays).unwrap();
        for path in [stored, packed] {
            for split in
                [ValidationSplit::Whole, ValidationSplit::Sequential(0.1), ValidationSplit::Random(0.1, 7), ValidationSplit::Blocks(0.1, 7)]
            {
                let of = |in_memory| load(&path, None, split, Reading { in_memory, ..Reading::default() }).unwrap().0;
                let (whole, left) = (of(IN_MEMORY), of(0));
                assert!(!whole.train.contexts.is_in_file() && left.train.contexts.is_in_file() && left.train.targets.is_in_file());
                assert_eq!(
                    (whole.train.half(), whole.leakage(), whole.target_stats()),
                    (left.train.half(), left.leakage(), left.target_stats())
                );
                for (a, b) in [(&whole.train, &left.train), (&whole.validation, &left.validation)] {
                    assert_eq!(a.samples, b.samples);
                    for i in 0..a.samples {
                        assert_eq!((a.context_of(i), a.target_of(i)), (b.context_of(i), b.target_of(i)), "{path:?} {split:?} {i}");
                    }
                }
            }
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "temporary files go with the data");
    }

    /// A file that is cut while a run reads from it ends the run with its name, instead of training on rubbish.
    #[test]
    fn a_file_that_is_cut_later_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = windows(folder.path(), 400);
        let (data, _) = load(&path, None, ValidationSplit::Whole, Reading { in_memory: 0, ..Reading::default() }).unwrap();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1000).unwrap();
        assert_eq!(data.train.context_of(399), vec![0.0; 6]);
        let error = data.check().unwrap_err();
        assert!(error.exit_code() == 74 && error.to_string().contains("windows.npz"), "{error}");
    }

    #[test]
    fn a_guess_without_a_direction_is_the_last_of_all_ranks() {
        let folder = tempfile::tempdir().unwrap();
        let (data, _) = load(&windows(folder.path(), 8), None, ValidationSplit::Whole, Reading::default()).unwrap();
        let candidates = Candidates::of(&data.train);
        let found = |guess: &dyn Fn(usize) -> Vec<f64>| {
            let Retrieval { recall_at_1, recall_at_10, median_rank } = candidates.look_up(guess);
            (recall_at_1, recall_at_10, median_rank)
        };
        assert_eq!(found(&|i| data.train.target(i)), (1.0, 1.0, 1.0));
        for guess in [[0.0, 0.0], [f64::NAN, 1.0], [f64::INFINITY, 1.0]] {
            assert_eq!(found(&|_| guess.to_vec()), (0.0, 0.0, 8.0), "{guess:?}");
        }
    }

    #[test]
    fn splits_take_what_they_say() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path(), "a.npz", 21, "");
        let (data, _) = load(&path, None, ValidationSplit::Sequential(0.1), Reading::default()).unwrap();
        assert_eq!((numbers(&data.train), numbers(&data.validation)), ((0..18).collect(), vec![18, 19, 20]));
        let (data, _) = load(&path, None, ValidationSplit::Random(0.1, 7), Reading::default()).unwrap();
        assert_ne!(numbers(&data.validation), vec![18, 19, 20]);
        let mut all = [numbers(&data.train), numbers(&data.validation)].concat();
        all.sort_unstable();
        assert_eq!(all, Vec::from_iter(0..21));
        let (again, _) = load(&path, None, ValidationSplit::Random(0.1, 7), Reading::default()).unwrap();
        assert_eq!(numbers(&again.train), numbers(&data.train));
        assert!(load(&path, None, ValidationSplit::Given, Reading::default()).is_err());
        let other = file(folder.path(), "b.npz", 5, "ood_");
        let (data, _) = load(&path, Some(&other), ValidationSplit::Sequential(0.1), Reading::default()).unwrap();
        assert_eq!(data.ood.unwrap().samples, 5);
        assert_eq!(header(&path).unwrap(), Header { samples: 21, context: 3, dim: 2, has_validation: false, half: false });
    }

    /// Windows of 3 over one row of vectors that are all different.
    fn windows(folder: &Path, n: usize) -> std::path::PathBuf {
        let path = folder.join("windows.npz");
        let vector = |i: usize| [(i as f32 * 0.37).cos(), (i as f32 * 0.37).sin()];
        let contexts: Vec<f32> = (0..n).flat_map(|i| (i..i + 3).flat_map(vector)).collect();
        let targets: Vec<f32> = (0..n).flat_map(|i| vector(i + 3)).collect();
        write(&path, &[("contexts", &[n, 3, 2], &contexts), ("targets", &[n, 2], &targets)]).unwrap();
        path
    }

    #[test]
    fn random_splits_of_windows_leak_and_blocks_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = windows(folder.path(), 400);
        let leakage = |split| load(&path, None, split, Reading::default()).unwrap().0.leakage();
        let random = leakage(ValidationSplit::Random(0.1, 7));
        assert_eq!(random.samples, 40);
        assert!(random.contexts > 35 && random.targets > 35, "{random:?}");
        assert!(random.sentence(false).unwrap().contains("of 40"), "{random:?}");
        // The first window that validates begins three after the last that trains.
        assert_eq!(leakage(ValidationSplit::Sequential(0.1)), Leakage { samples: 40, contexts: 3, targets: 0 });
        let (data, _) = load(&path, None, ValidationSplit::Blocks(0.1, 7), Reading::default()).unwrap();
        assert_eq!(data.leakage(), Leakage { samples: 40, contexts: 0, targets: 0 });
        assert!(data.leakage().sentence(false).is_none() && (220..360).contains(&data.train.samples), "{}", data.train.samples);
        let whole = load(&path, None, ValidationSplit::Whole, Reading::default()).unwrap().0;
        assert_eq!((whole.train.samples, whole.validation.samples), (400, 400));
    }

    #[test]
    fn self_similarity_is_the_mean_of_all_pairs() {
        let of = |values: &[f32]| self_similarity(values.chunks(2).map(|v| v.iter().map(|v| f64::from(*v)).collect()));
        // (1, 0), (0, 2), (−1, 0): cosines 0, −1, 0.
        assert!((of(&[1.0, 0.0, 0.0, 2.0, -1.0, 0.0]).unwrap() + 1.0 / 3.0).abs() < 1e-12);
        assert_eq!((of(&[3.0, 4.0, 3.0, 4.0]).map(|s| (s * 1e9).round()), of(&[1.0, 0.0])), (Some(1e9), None));
    }

    #[test]
    fn the_true_target_is_found_where_the_guess_is_nearest() {
        let folder = tempfile::tempdir().unwrap();
        let set = load(&windows(folder.path(), 15), None, ValidationSplit::Whole, Reading::default()).unwrap().0.validation;
        let candidates = Candidates::of(&set);
        let right = candidates.look_up(|i| set.target(i));
        assert_eq!(right, Retrieval { recall_at_1: 1.0, recall_at_10: 1.0, median_rank: 1.0 });
        // Opposite to the target, it is the furthest of 15 or one of few that are further: never the nearest.
        let wrong = candidates.look_up(|i| set.target(i).iter().map(|v| -v).collect());
        assert!(wrong.recall_at_1 == 0.0 && wrong.median_rank > 10.0, "{wrong:?}");
        // A quarter of a turn away from one sample's target lies another's.
        let constant = candidates.look_up(|_| set.target(7));
        assert!((constant.recall_at_1 - 1.0 / 15.0).abs() < 1e-12 && constant.median_rank == 8.0, "{constant:?}");
        assert!(candidates.describe().contains("among 15 targets, asked for 15"));
    }

    #[test]
    fn baselines_are_cosines_of_what_needs_no_model() {
        let matrix = |v: &[f32], cols| Matrix::new(Values::F32(v.to_vec()), cols);
        // Contexts (1, 0), (0, 1) and (0, 1), (0, 1); targets (0, 1) and (1, 0).
        let contexts = matrix(&[1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0], 4);
        let set = VectorSet::of(contexts, matrix(&[0.0, 1.0, 1.0, 0.0], 2), 2, 2);
        let b = Baselines::of(&[3.0, 0.0], &set);
        let half = 0.5f64.sqrt();
        assert!((b.mean_vector - 0.5).abs() < 1e-12 && (b.last_vector - 0.5).abs() < 1e-12 && (b.context_mean - half / 2.0).abs() < 1e-12);
    }

    #[test]
    fn the_linear_prediction_finds_what_made_the_targets() {
        let mut random = Random::new(1, 2, 3);
        let contexts: Vec<f32> = (0..50 * 3 * 4).map(|_| random.normal() as f32).collect();
        let mean = [0.5f32, -1.0, 0.25, 2.0];
        let weights = [0.5f32, -2.0, 1.5, 3.0];
        let target = |context: &[f32], d: usize| (0..3).map(|c| weights[c] * context[c * 4 + d]).sum::<f32>() + weights[3] * mean[d];
        let targets: Vec<f32> = contexts.chunks(12).flat_map(|context| (0..4).map(move |d| target(context, d))).collect();
        let set = VectorSet::of(Matrix::new(Values::F32(contexts), 12), Matrix::new(Values::F32(targets), 4), 3, 4);
        let linear = Linear::of(&mean.map(f64::from), &set);
        let off = linear.weights.iter().zip(weights).map(|(found, made)| (found - f64::from(made)).abs()).fold(0.0, f64::max);
        assert!(off < 1e-5, "{:?}", linear.weights);
        let b = Baselines::of(&mean.map(f64::from), &set);
        assert!((linear.cosine(&set) - 1.0).abs() < 1e-9 && b.context_mean < 0.99, "{b:?}");
    }
}
