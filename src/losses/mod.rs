//! Losses: what is minimised, with the gradient's 1/N folded in. One file a loss; the terms of sums each have their own.

mod cross_entropy;
mod joints;
mod loss;
mod vae;
mod vectors;

pub use cross_entropy::CrossEntropyConfig;
pub use joints::{JointLossConfig, Penalty};
pub use loss::{Columns, Gradients, Loss, LossKind, Recorded, TargetVectors, Targets};
pub use vae::VaeLossConfig;
pub use vectors::{
    Context, CosineTerm, CycleTerm, InfonceTerm, MmdTerm, MomentTerm, MseTerm, StatTerm, Term, VarianceTerm, VectorLoss, VectorLossConfig,
};
