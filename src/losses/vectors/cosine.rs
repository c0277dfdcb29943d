//! Cosine distance.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::term::{Context, Term};
use crate::error::Result;
use crate::kernels::vector_loss::Rows;
use crate::kernels::vector_loss::Slot;

/// Cosine distance: mean over B of 1 − p·t̂.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CosineTerm {
    /// Factor in the sum; 0 leaves the term out.
    #[schemars(range(min = 0))]
    pub weight: f64,
}

impl CosineTerm {
    pub(super) fn build(&self) -> Box<dyn Term> {
        Box::new(self.clone())
    }
}

impl Term for CosineTerm {
    fn name(&self) -> &'static str {
        "cosine_loss"
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn rows(&self, _context: &mut Context<'_>, slot: Slot, rows: &mut Rows) -> Result<()> {
        rows.cosine = Some(slot);
        Ok(())
    }
}
