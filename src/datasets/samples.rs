//! Samples of named fields, from the arrays or columns of a file: whole rows, or windows that are cut out of long series.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scale::{Normalization, Scale};

/// Windows that are cut out of series: `context` moments, and the `horizon` moments after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Number of moments that are input.
    #[schemars(range(min = 1, max = 1 << 16))]
    pub context: usize,
    /// Number of moments that are predicted.
    #[schemars(range(min = 1, max = 1 << 16))]
    pub horizon: usize,
    /// Number of moments from the start of a window to that of the next.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[schemars(!skip_serializing_if, range(min = 1, max = 1 << 16))]
    pub stride: usize,
}

fn one() -> usize {
    1
}

fn is_one(stride: &usize) -> bool {
    *stride == 1
}

impl Window {
    /// Number of windows in a series of so many moments.
    pub fn count(&self, moments: usize) -> usize {
        (moments + 1).saturating_sub(self.context + self.horizon).div_ceil(self.stride)
    }

    /// Number of windows after one that share moments with it.
    pub fn overlap(&self) -> usize {
        (self.context + self.horizon - 1) / self.stride
    }
}

/// Ways to normalise the numbers of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Normalize {
    /// As they are.
    #[default]
    None,
    /// Mean 0 and standard deviation 1, by feature.
    Standard,
    /// From 0 to 1, by feature.
    Minmax,
    /// Vectors of length 1.
    Unit,
}

/// Sizes of a field, which a file has told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Shape of a sample.
    pub shape: Vec<usize>,
    /// Number that all integers are below; none for numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<usize>,
    /// True if each position of a sequence of unequal length has a value of its own: those after its end do not count.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schemars(!skip_serializing_if)]
    pub each: bool,
    /// Number that the integers of each column are below, where several columns have rows of their own in one table; empty for one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counts: Vec<usize>,
    /// Words of each column that has words, in the order of their numbers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub words: BTreeMap<String, Vec<String>>,
}

/// Part that a field has in a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Input of the model, as numbers.
    Input,
    /// Input of the model, as integers or words for an embedding.
    Integers,
    /// Target, as numbers.
    Numbers,
    /// Target, as the number or word of a class.
    Classes,
}

/// Request for a field: its name, and the arrays or columns that it consists of.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Name of the field.
    pub name: &'a str,
    /// Names of its arrays or columns.
    pub columns: &'a [String],
    /// Part in a sample.
    pub part: Part,
}

/// A field of all samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Sizes and words.
    pub known: Known,
    /// Values, such that a sample has successive ones.
    pub values: Vec<f32>,
    /// Index of the first value of each sample.
    pub(super) starts: Arc<[usize]>,
    /// Number of values of a sample.
    pub(super) len: usize,
}

impl Column {
    /// A field with these values, sample after sample.
    pub fn made_up(known: Known, values: Vec<f32>) -> Self {
        let len = known.shape.iter().product();
        let starts = (0..values.len() / len).map(|i| i * len).collect();
        Column { known, values, starts, len }
    }

    /// Values of a sample.
    pub fn sample(&self, i: usize) -> &[f32] {
        &self.values[self.starts[i]..][..self.len]
    }

    /// Number of features: the length of the last axis.
    pub fn features(&self) -> usize {
        self.known.shape.last().copied().unwrap_or(1)
    }

    /// Statistics of these samples for this kind of normalisation; none where it needs none. A row that several windows share counts once,
    /// and positions after the end of a sequence do not.
    pub fn scale(&self, kind: Normalize, samples: &[usize], lengths: Option<&[u32]>) -> Option<Scale> {
        let features = self.features();
        let lengths = lengths.filter(|_| self.known.each);
        let mut used = vec![false; self.values.len() / features];
        for i in samples {
            let first = self.starts[*i] / features;
            let count = lengths.map_or(self.len / features, |lengths| lengths[*i] as usize);
            used[first..first + count].fill(true);
        }
        let rows = || self.values.chunks(features).zip(&used).filter(|(_, used)| **used).map(|(row, _)| row);
        let count = rows().count().max(1) as f64;
        let mut mean = vec![0f64; features];
        match kind {
            Normalize::None | Normalize::Unit => None,
            Normalize::Standard => {
                rows().for_each(|row| mean.iter_mut().zip(row).for_each(|(m, v)| *m += f64::from(*v) / count));
                let mut variance = vec![0f64; features];
                rows().for_each(|row| {
                    variance.iter_mut().zip(row).zip(&mean).for_each(|((s, v), m)| *s += (f64::from(*v) - m).powi(2) / count);
                });
                Some(Scale::new(&mean, &variance.iter().map(|v| v.sqrt()).collect::<Vec<_>>()))
            }
            Normalize::Minmax => {
                let (mut least, mut most) = (vec![f64::INFINITY; features], vec![f64::NEG_INFINITY; features]);
                rows().for_each(|row| {
                    for (c, v) in row.iter().enumerate() {
                        (least[c], most[c]) = (least[c].min(f64::from(*v)), most[c].max(f64::from(*v)));
                    }
                });
                let span: Vec<f64> = least.iter().zip(&most).map(|(least, most)| most - least).collect();
                Some(Scale::new(&least, &span))
            }
        }
    }

    /// Normalises all values.
    pub fn normalize(&mut self, how: &Normalization) {
        let features = self.features();
        how.apply(&mut self.values, features);
    }
}

/// All samples of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    /// Fields, in the order of the requests.
    pub fields: Vec<Column>,
    /// Number of positions of each sample that count; none where all do.
    pub lengths: Option<Vec<u32>>,
    /// Index in the file of each sample, or of the first moment of its window.
    pub rows: Vec<usize>,
    /// Number of samples that were left out, as some of their numbers are not finite.
    pub left_out: usize,
}

impl Samples {
    /// Number of samples.
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// Values of a field of a sample that count: those before the end of its sequence.
    pub fn counted<'a>(&'a self, column: &'a Column, i: usize) -> &'a [f32] {
        let values = column.sample(i);
        match (&self.lengths, column.known.shape.first()) {
            (Some(lengths), Some(positions)) if column.known.each => &values[..values.len() / positions * lengths[i] as usize],
            _ => values,
        }
    }
}
