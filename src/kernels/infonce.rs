//! InfoNCE in both directions. See `shaders/infonce/`.

use super::vector_loss::Slot;
use super::{row_group, state};
use crate::error::Result;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// Log-sum-exps and the loss of each row.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// (rows, rows): p·t̂ᵀ.
    pub s: Tensor,
    /// (rows, 2).
    pub lse: Tensor,
    /// (rows, cols).
    pub y: Tensor,
    /// Number of rows.
    pub rows: usize,
    /// Columns of y.
    pub cols: usize,
    /// Weight and column.
    pub term: Slot,
    /// Temperature τ.
    pub temperature: f64,
}

impl Forward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Forward { s, lse, y, rows, cols, term, temperature } = self;
        for (tensor, len) in [(s, rows * rows), (lse, 2 * rows), (y, rows * cols)] {
            plan.expect("infonce/forward", tensor, len)?;
        }
        let (dispatch, grid) = row_group(plan, "infonce/forward", label, rows, rows);
        let dispatch = dispatch
            .bind("state", state(plan)?)
            .bind("s", s)
            .bind("lse", lse)
            .bind("y", y)
            .size("rows", rows)
            .size("cols", cols)
            .size("column", term.column)
            .scalar("weight", term.weight)
            .scalar("temperature", temperature);
        plan.record(dispatch.flops(40 * rows * rows), grid)
    }
}

/// Gradient ds of the scores.
#[derive(Debug, Clone, Copy)]
pub struct Backward {
    /// (rows, rows).
    pub s: Tensor,
    /// (rows, 2), of the forward pass.
    pub lse: Tensor,
    /// (rows, rows).
    pub ds: Tensor,
    /// Number of rows.
    pub rows: usize,
    /// Weight of the term.
    pub weight: f64,
    /// Temperature τ.
    pub temperature: f64,
}

impl Backward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Backward { s, lse, ds, rows, weight, temperature } = self;
        for (tensor, len) in [(s, rows * rows), (lse, 2 * rows), (ds, rows * rows)] {
            plan.expect("infonce/backward", tensor, len)?;
        }
        let dispatch = Dispatch::new("infonce/backward", label)
            .bind("state", state(plan)?)
            .bind("s", s)
            .bind("lse", lse)
            .bind("ds", ds)
            .size("rows", rows)
            .scalar("weight", weight)
            .scalar("temperature", temperature);
        plan.record(dispatch.flops(40 * rows * rows), Grid::Threads(rows * rows))
    }
}
