//! Squared error.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::term::{Context, Term};
use crate::error::Result;
use crate::kernels::vector_loss::Slot;
use crate::kernels::vector_loss::{On, Rows};

/// Squared error: mean over B × D of (r − t)², or of (p − t)².
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MseTerm {
    /// Factor in the sum; 0 leaves the term out.
    #[schemars(range(min = 0))]
    pub weight: f64,
    /// Prediction that is compared: `raw` r or `normalized` p.
    #[serde(default)]
    pub on: On,
}

impl MseTerm {
    pub(super) fn build(&self) -> Box<dyn Term> {
        Box::new(self.clone())
    }
}

impl Term for MseTerm {
    fn name(&self) -> &'static str {
        "mse"
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn rows(&self, _context: &mut Context<'_>, slot: Slot, rows: &mut Rows) -> Result<()> {
        rows.mse = Some((self.on, slot));
        Ok(())
    }
}
