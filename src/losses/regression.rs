//! Losses of predicted numbers: squared error, absolute error, Huber.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::loss::{Columns, Gradients, Loss, LossKind, Recorded, of_positions};
use crate::batch::{Inputs, Outputs};
use crate::config::{Section, in_range};
use crate::error::{Error, Result};
use crate::kernels::regression::{Penalty, Rows};
use crate::plan::Plan;

/// Penalty function of the error d of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RegressionPenalty {
    /// Squared error, d² (`torch.nn.MSELoss`).
    #[default]
    Mse,
    /// Absolute error, |d| (`torch.nn.L1Loss`).
    Mae,
    /// Huber loss, ½ d² for |d| ≤ δ, else δ (|d| − ½ δ) (`torch.nn.HuberLoss`).
    Huber,
}

/// Mean penalty of the errors of predicted numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RegressionConfig {
    /// Penalty of an error.
    pub penalty: RegressionPenalty,
    /// δ of `huber`, at which the penalty turns linear; in the scale of the normalised targets.
    #[schemars(range(min = 1e-6, max = 1e6))]
    pub delta: f64,
}

impl Default for RegressionConfig {
    fn default() -> Self {
        RegressionConfig { penalty: RegressionPenalty::Mse, delta: 1.0 }
    }
}

const NAME: &str = "loss.kind = \"regression\"";

impl Section for RegressionConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        in_range(self, "loss")
    }
}

impl LossKind for RegressionConfig {
    fn build(&self) -> Box<dyn Loss> {
        Box::new(self.clone())
    }
}

impl Loss for RegressionConfig {
    fn columns(&self) -> Columns {
        Columns { names: vec!["loss", "scaled_mse", "scaled_mae"], ..Columns::default() }
    }

    /// Compares the outputs with the target of the data, as it is normalised; rows whose `mask` is 0 do not count.
    fn record(&self, plan: &mut Plan, outputs: &Outputs, inputs: &Inputs, gradient: bool) -> Result<Recorded> {
        let (x, (name, t)) = (outputs.whole(NAME)?, inputs.answer(NAME)?);
        if plan.len(x) != plan.len(t) {
            return Err(Error::Config(format!(
                "{NAME} compares with `{name}`, {} numbers of a sample; the model gives {:?}, {} of a sample{}",
                plan.len(t) / inputs.batch,
                plan.shape(x),
                plan.len(x) / inputs.batch,
                of_positions(plan.shape(x), plan.len(x), plan.len(t))
            )));
        }
        let mask = inputs.find("mask");
        let rows = mask.map_or(inputs.batch, |mask| plan.len(mask));
        let width = plan.len(t) / rows;
        let penalty = match self.penalty {
            RegressionPenalty::Mse => Penalty::Squared,
            RegressionPenalty::Mae => Penalty::Absolute,
            RegressionPenalty::Huber => Penalty::Huber(self.delta),
        };
        let y = plan.activation("loss.rows", &[rows, 3])?;
        let dx = gradient.then(|| plan.like("loss.dx", x)).transpose()?;
        Rows { x, t, mask, y, dx, rows, width, penalty }.record(plan, "loss")?;
        Ok(Recorded { rows: y, gradients: dx.map(Gradients::only), per_sample: false })
    }
}
