//! Loss of predicted joints: their coordinates, and the bit that stops the sequence.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::loss::{Columns, Gradients, Loss, LossKind, Recorded};
use crate::batch::{Inputs, Outputs};
use crate::config::{Section, in_range};
use crate::error::{Error, Result};
use crate::kernels::joint_loss::{Rows, columns};
use crate::plan::Plan;

/// Penalty function of the error d of a coordinate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Penalty {
    /// Squared error: d².
    Mse,
    /// Huber loss: ½ d² for |d| ≤ δ, else δ (|d| − ½ δ).
    Huber,
}

/// Mean over valid joints of [penalty, mean over x and y] + stop_weight · BCE of the stop bit, which is 1 at the last valid joint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JointLossConfig {
    /// Penalty of the coordinates.
    pub coordinates: Penalty,
    /// δ of `huber`, at which the penalty turns linear.
    #[serde(default = "one")]
    #[schemars(range(min = 1e-6, max = 1e6))]
    pub delta: f64,
    /// Factor of the stop term; 0 leaves it out, for sequences that all have the same number of joints.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1e6))]
    pub stop_weight: f64,
}

fn one() -> f64 {
    1.0
}

const NAME: &str = "loss.kind = \"joints\"";

impl Section for JointLossConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        in_range(self, "loss")
    }
}

impl LossKind for JointLossConfig {
    fn build(&self) -> Box<dyn Loss> {
        Box::new(self.clone())
    }
}

impl Loss for JointLossConfig {
    fn columns(&self) -> Columns {
        Columns { names: columns(self.stop_weight).to_vec(), ..Columns::default() }
    }

    /// Compares outputs (batch, length, 3), the last of which predict `joints` (batch, joints, 2) with their `mask`; `deviation` (2)
    /// converts errors of coordinates to mm.
    fn record(&self, plan: &mut Plan, outputs: &Outputs, inputs: &Inputs, gradient: bool) -> Result<Recorded> {
        let x = outputs.whole(NAME)?;
        let [t, mask, deviation] = ["joints", "mask", "deviation"].map(|name| inputs.get(NAME, name));
        let (t, mask, deviation) = (t?, mask?, deviation?);
        let (batch, joints) = (plan.shape(mask)[0], plan.shape(mask)[1]);
        let [of, length, 3] = plan.shape(x)[..] else {
            return Err(Error::Config(format!("{NAME} needs outputs (batch, length, 3); the model gives {:?}", plan.shape(x))));
        };
        if of != batch || length < joints {
            return Err(Error::Config(format!("{NAME} needs outputs for {joints} joints; the model gives {:?}", plan.shape(x))));
        }
        let y = plan.activation("loss.rows", &[batch * joints, columns(self.stop_weight).len()])?;
        let dx = if gradient { Some(plan.like("loss.dx", x)?) } else { None };
        // The last token predicts the last joint.
        let (first, stop_weight) = (length - joints, self.stop_weight);
        let huber = (self.coordinates == Penalty::Huber).then_some(self.delta);
        Rows { x, t, mask, deviation, y, dx, batch, length, joints, first, huber, stop_weight }.record(plan, "loss")?;
        Ok(Recorded { rows: y, gradients: dx.map(Gradients::only), per_sample: false })
    }
}
