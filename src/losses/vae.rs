//! Loss of a variational autoencoder: squared error of the pixels and divergence of the posterior.

use serde::{Deserialize, Serialize};

use crate::error::{Result, out_of_range};
use crate::kernels::vae::Kl;
use crate::kernels::vector_loss::{On, Rows, Term};
use crate::plan::{Plan, Tensor};

/// Mean over the images of Σ_pixels (x̂ − x)² + divergence · mean over the latents of −½ (1 + ln σ² − μ² − σ²).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaeLossConfig {
    /// Factor of the divergence; 0 leaves it out.
    pub divergence: f64,
}

/// Columns of the results, the last one with a divergence alone.
const VAE_COLUMNS: [&str; 4] = ["loss", "cosine", "mse", "divergence"];

impl VaeLossConfig {
    pub(super) fn validate(&self) -> std::result::Result<(), String> {
        if self.divergence >= 0.0 && self.divergence.is_finite() {
            return Ok(());
        }
        Err(out_of_range("loss.divergence", self.divergence, "0 or more, and finite"))
    }

    /// Names of the results, the loss first.
    pub fn columns(&self) -> &'static [&'static str] {
        if self.divergence > 0.0 { &VAE_COLUMNS } else { &VAE_COLUMNS[..3] }
    }

    /// Appends the loss of a reconstruction of images (rows, pixels) with its posterior (rows, 2, latents): results by image (loss, cosine,
    /// mean squared error of a pixel, divergence), and with `gradient` that of the reconstruction; the posterior's is `vae::Backward`.
    ///
    /// # Errors
    /// `Internal` when shapes differ.
    pub fn record(
        &self,
        plan: &mut Plan,
        reconstruction: Tensor,
        images: Tensor,
        posterior: Tensor,
        gradient: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let (rows, width) = (plan.shape(images)[0], plan.shape(images)[1]);
        let cols = self.columns().len();
        let y = plan.activation("loss.rows", &[rows, cols])?;
        let dx = if gradient { Some(plan.like("loss.dx", reconstruction)?) } else { None };
        let mse = Some((On::Raw, Term { weight: width as f64, column: 2 }));
        Rows { x: reconstruction, t: images, y, dx, rows, width, cols, mse, cosine: None, cycle: None }.record(plan, "loss")?;
        if self.divergence > 0.0 {
            let latents = plan.len(posterior) / 2 / rows;
            let term = Term { weight: self.divergence, column: 3 };
            Kl { x: posterior, y, rows, width: latents, cols, term }.record(plan, "loss.divergence")?;
        }
        Ok((y, dx))
    }
}
