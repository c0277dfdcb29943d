//! Loss of a variational autoencoder: squared error of the pixels and divergence of the posterior.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::loss::{Columns, Gradients, Loss, LossKind, Recorded};
use crate::batch::{Inputs, Outputs};
use crate::config::{Section, in_range};
use crate::error::{Error, Result};
use crate::kernels::vae::Kl;
use crate::kernels::vector_loss::{On, Rows, Slot};
use crate::plan::Plan;

/// Mean over the images of Σ_pixels (x̂ − x)² + divergence · mean over the latents of −½ (1 + ln σ² − μ² − σ²).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VaeLossConfig {
    /// Factor of the divergence; 0 leaves it out.
    #[schemars(range(min = 0))]
    pub divergence: f64,
}

/// Names of the columns; the last one is present only with a divergence.
const VAE_COLUMNS: [&str; 4] = ["loss", "cosine", "mse", "divergence"];

impl Section for VaeLossConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        in_range(self, "loss")
    }
}

impl LossKind for VaeLossConfig {
    fn build(&self) -> Box<dyn Loss> {
        Box::new(self.clone())
    }
}

impl VaeLossConfig {
    fn names(&self) -> &'static [&'static str] {
        if self.divergence > 0.0 { &VAE_COLUMNS } else { &VAE_COLUMNS[..3] }
    }
}

impl Loss for VaeLossConfig {
    fn columns(&self) -> Columns {
        Columns { names: self.names().to_vec(), ..Columns::default() }
    }

    /// Compares a reconstruction of `images` (batch, pixels) and uses its `posterior` (batch, 2, latents). Results of an image: loss,
    /// cosine, mean squared error of a pixel, divergence. The model itself computes the gradient of the divergence in its backward pass.
    fn record(&self, plan: &mut Plan, outputs: &Outputs, inputs: &Inputs, gradient: bool) -> Result<Recorded> {
        let (x, t) = (outputs.whole("loss.kind = \"vae\"")?, inputs.get("loss.kind = \"vae\"", "images")?);
        let rows = inputs.batch;
        let width = plan.len(t) / rows;
        if plan.len(x) != plan.len(t) {
            return Err(Error::Config(format!(
                "loss.kind = \"vae\" compares images of {width} pixels; the model gives {:?}",
                plan.shape(x)
            )));
        }
        let cols = self.names().len();
        let y = plan.activation("loss.rows", &[rows, cols])?;
        let dx = if gradient { Some(plan.like("loss.dx", x)?) } else { None };
        let mse = Some((On::Raw, Slot { weight: width as f64, column: 2 }));
        Rows { x, t, y, dx, rows, width, cols, mse, cosine: None, cycle: None }.record(plan, "loss")?;
        if self.divergence > 0.0 {
            let posterior = outputs.find("posterior").ok_or_else(|| {
                Error::Config(
                    "loss.divergence needs a model with a posterior: use model.kind = \"image_vae\", or loss.divergence = 0".into(),
                )
            })?;
            let latents = plan.len(posterior) / 2 / rows;
            let term = Slot { weight: self.divergence, column: 3 };
            Kl { x: posterior, y, rows, width: latents, cols, term }.record(plan, "loss.divergence")?;
        }
        let gradients = dx.map(|main| Gradients { main, factors: vec![("divergence", self.divergence)], scale: None });
        Ok(Recorded { rows: y, gradients, per_sample: false })
    }
}
