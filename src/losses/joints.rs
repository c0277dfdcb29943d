//! Loss of predicted joints: their coordinates, and the bit that stops the sequence.

use serde::{Deserialize, Serialize};

use crate::error::{Result, out_of_range};
use crate::gpu::Role;
use crate::kernels::joint_loss::{Rows, columns};
use crate::kernels::tokens::BEFORE_JOINTS;
use crate::plan::{Plan, Tensor};

/// Penalty of a coordinate's error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Penalty {
    /// d².
    Mse,
    /// ½ d² for |d| ≤ δ, else δ (|d| − ½ δ).
    Huber,
}

/// Mean over valid joints of [penalty, mean over x and y] + stop_weight · BCE of the stop bit, which is 1 at the last valid joint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JointLossConfig {
    /// `mse` or `huber`.
    pub coordinates: Penalty,
    /// δ of `huber`.
    #[serde(default = "one")]
    pub delta: f64,
    /// Factor of the stop term; 0 leaves it out, and every sequence has all its joints.
    #[serde(default = "one")]
    pub stop_weight: f64,
}

fn one() -> f64 {
    1.0
}

/// Name of the tensor of deviations that turn normalised coordinates into mm; the host fills it.
pub const DEVIATION: &str = "normalization.deviation";

impl JointLossConfig {
    pub(super) fn validate(&self) -> std::result::Result<(), String> {
        if !(1e-6..=1e6).contains(&self.delta) {
            return Err(out_of_range("loss.delta", self.delta, "from 1e-6 to 1e6"));
        }
        if !(0.0..=1e6).contains(&self.stop_weight) {
            return Err(out_of_range("loss.stop_weight", self.stop_weight, "from 0 to 1e6"));
        }
        Ok(())
    }

    /// Names of the results, the loss first.
    pub fn columns(&self) -> &'static [&'static str] {
        columns(self.stop_weight)
    }

    /// Appends the loss of outputs (batch, length, 3) against joints (batch, joints, 2) with their mask: results by joint
    /// (`columns`), and with `gradient` that of state.scale · loss.
    ///
    /// # Errors
    /// `Internal` when shapes differ.
    pub fn record(&self, plan: &mut Plan, x: Tensor, t: Tensor, mask: Tensor, gradient: bool) -> Result<(Tensor, Option<Tensor>)> {
        let (batch, joints) = (plan.shape(mask)[0], plan.shape(mask)[1]);
        let length = plan.len(x) / 3 / batch;
        let deviation = plan.persistent(Role::Workspace, DEVIATION, &[2])?;
        let y = plan.activation("loss.rows", &[batch * joints, self.columns().len()])?;
        let dx = if gradient { Some(plan.like("loss.dx", x)?) } else { None };
        let (first, stop_weight) = (BEFORE_JOINTS - 1, self.stop_weight);
        let huber = (self.coordinates == Penalty::Huber).then_some(self.delta);
        Rows { x, t, mask, deviation, y, dx, batch, length, joints, first, huber, stop_weight }.record(plan, "loss")?;
        Ok((y, dx))
    }
}
