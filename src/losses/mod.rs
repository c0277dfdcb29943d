//! Losses: what is minimised, with the gradient's 1/N folded in. One file a loss; the terms of sums each have their own.

mod cross_entropy;
mod joints;
mod loss;
mod regression;
mod vae;
mod vectors;

pub use cross_entropy::{CrossEntropyConfig, IGNORED};
pub use joints::{JointLossConfig, Penalty};
pub use loss::{Columns, Gradients, Loss, LossKind, Recorded, TargetVectors, Targets};
pub use regression::{RegressionConfig, RegressionPenalty};
pub use vae::VaeLossConfig;
pub use vectors::*;

/// Every loss of run files, by its `kind`: the list that the registry is made from.
macro_rules! loss_kinds {
    ($make:ident) => {
        $make! {
            /// Configuration of a loss, by its `kind`.
            LossConfig: LossKind {
                /// Cross-entropy of a classifier.
                CrossEntropy(crate::losses::CrossEntropyConfig),
                /// Weighted sum of terms for predicted vectors. In their formulas r is the output, t the target, p and t̂ are r and t at
                /// length 1, a are anchors.
                Vectors(crate::losses::VectorLossConfig),
                /// Loss of predicted joints: coordinates and stop bit.
                Joints(crate::losses::JointLossConfig),
                /// Mean penalty of the errors of predicted numbers.
                Regression(crate::losses::RegressionConfig),
                /// Loss of a variational autoencoder: reconstruction and divergence.
                Vae(crate::losses::VaeLossConfig),
            }
        }
    };
}

pub(crate) use loss_kinds;
