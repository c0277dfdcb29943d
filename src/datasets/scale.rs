//! Scales of features: what is subtracted from numbers and what they are divided by.

/// Mean and deviation of each feature of a field: numbers go to the model as (x − mean) / deviation.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    /// Mean of each feature.
    pub mean: Vec<f32>,
    /// Deviation of each feature.
    pub deviation: Vec<f32>,
}

impl Scale {
    /// A scale with these means and deviations; a feature that does not vary keeps its size.
    pub fn new(mean: &[f64], deviation: &[f64]) -> Self {
        let size =
            |(deviation, mean): (&f64, &f64)| if *deviation > 1e-7 * mean.abs() && *deviation > 1e-30 { *deviation as f32 } else { 1.0 };
        Scale { mean: mean.iter().map(|m| *m as f32).collect(), deviation: deviation.iter().zip(mean).map(size).collect() }
    }

    /// Mean and deviation of a feature.
    pub fn of(&self, feature: usize) -> (f64, f64) {
        (f64::from(self.mean[feature]), f64::from(self.deviation[feature]))
    }
}

/// Normalisation of the numbers of a field.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Normalization {
    /// As they are.
    #[default]
    None,
    /// Vectors of length 1.
    Unit,
    /// By the scale of each feature.
    Scale(Scale),
}

impl Normalization {
    /// Normalises rows of so many features.
    pub fn apply(&self, values: &mut [f32], features: usize) {
        for row in values.chunks_mut(features) {
            match self {
                Normalization::None => return,
                Normalization::Unit => {
                    let norm = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt().max(1e-12);
                    row.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
                }
                Normalization::Scale(scale) => row.iter_mut().enumerate().for_each(|(c, v)| {
                    let (mean, deviation) = scale.of(c);
                    *v = ((f64::from(*v) - mean) / deviation) as f32;
                }),
            }
        }
    }

    /// Gives rows of so many features their unit back, if that is known: a vector has lost its length.
    pub fn undo(&self, values: &mut [f32], features: usize) {
        let Normalization::Scale(scale) = self else { return };
        for row in values.chunks_mut(features) {
            row.iter_mut().enumerate().for_each(|(c, v)| {
                let (mean, deviation) = scale.of(c);
                *v = (f64::from(*v) * deviation + mean) as f32;
            });
        }
    }
}
