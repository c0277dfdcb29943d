//! Batches of samples of one's own.

use crate::batch::{Batch, Fields, Normalization};
use crate::datasets::samples::Samples;
use crate::losses::IGNORED;

/// Layout of samples in a batch.
#[derive(Debug, Clone)]
pub(super) struct Packing {
    pub(super) fields: Fields,
    /// Number of positions of a sample that have a target each; none if a sample has one target.
    pub(super) positions: Option<usize>,
    /// True if a mask says which positions count.
    pub(super) masked: bool,
    /// Weight of each class; empty without weights.
    pub(super) class_weights: Vec<f64>,
    pub(super) time_major: bool,
}

impl Packing {
    /// Normalisation of the input field with this number.
    pub(super) fn normalization(&self, field: usize) -> &Normalization {
        let mut columns = self.fields.0.iter().filter(|field| field.name != "lengths");
        columns.nth(field).map_or(&Normalization::None, |field| &field.normalization)
    }

    /// Number of positions of each sample that count.
    fn counts(&self, samples: &Samples, numbers: &[usize]) -> Vec<usize> {
        let Some(positions) = self.positions else { return vec![1; numbers.len()] };
        let Some(column) = samples.fields.last() else { return vec![] };
        let per_position = (column.sample(0).len() / positions).max(1);
        numbers.iter().map(|i| samples.counted(column, *i).len() / per_position).collect()
    }

    /// Number of rows of a batch of samples, and of those that count.
    pub(super) fn sizes(&self, samples: &Samples, numbers: &[usize]) -> (usize, usize) {
        (numbers.len() * self.positions.unwrap_or(1), self.counts(samples, numbers).iter().sum())
    }

    /// Packs the samples with these numbers into a batch of `batch`; the rest is zeros.
    pub(super) fn pack(&self, samples: &Samples, numbers: &[usize], batch: usize) -> Batch {
        let mut inputs = vec![];
        let columns = self.fields.0.iter().filter(|field| field.name != "lengths").zip(&samples.fields);
        for (field, column) in columns {
            let mut words = vec![0u32; batch * field.len()];
            let turned = self.time_major && !field.answer && field.shape.len() == 2;
            for (b, i) in numbers.iter().enumerate() {
                let counted = samples.counted(column, *i).len();
                for (at, value) in column.sample(*i).iter().enumerate() {
                    let to = match turned {
                        true => (at / field.shape[1] * batch + b) * field.shape[1] + at % field.shape[1],
                        false => b * field.len() + at,
                    };
                    words[to] = match field.below {
                        Some(_) if field.answer && at >= counted => IGNORED,
                        Some(_) => *value as u32,
                        None => value.to_bits(),
                    };
                }
            }
            inputs.push((field.name, words));
        }
        let (positions, counts) = (self.positions.unwrap_or(1), self.counts(samples, numbers));
        let count = counts.iter().sum();
        if let Some(lengths) = &samples.lengths {
            let mut words: Vec<u32> = numbers.iter().map(|i| lengths[*i]).collect();
            words.resize(batch, 1);
            inputs.push(("lengths", words));
        }
        let each = |value: &dyn Fn(usize, usize) -> f32| {
            let mut words = vec![0u32; batch * positions];
            for (b, count) in counts.iter().enumerate() {
                (0..*count).for_each(|t| words[b * positions + t] = value(b, t).to_bits());
            }
            words
        };
        if self.masked {
            inputs.push(("mask", each(&|_, _| 1.0)));
        }
        if !self.class_weights.is_empty() {
            let classes = samples.fields.last();
            let weight = |b: usize, t: usize| classes.map_or(1.0, |column| self.class_weights[column.sample(numbers[b])[t] as usize]);
            inputs.push(("weights", each(&|b, t| weight(b, t) as f32)));
        }
        Batch { inputs, rows: numbers.len() * positions, count, drawn: false }
    }
}
