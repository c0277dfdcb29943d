//! Maximum mean discrepancy between unit vectors. See `shaders/mmd/`.

use super::vector_loss::Slot;
use super::{row_group, state};
use crate::error::Result;
use crate::plan::{Plan, Tensor};

/// Mean kernels of each row with the columns, and the gradient by the products.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// (rows, count): products of unit vectors.
    pub s: Tensor,
    /// (rows, cols).
    pub y: Tensor,
    /// (rows, count).
    pub ds: Option<Tensor>,
    /// Number of rows.
    pub rows: usize,
    /// Columns of s.
    pub count: usize,
    /// Columns of y.
    pub cols: usize,
    /// Weight and column.
    pub term: Slot,
    /// The columns are the rows themselves.
    pub own: bool,
    /// Factor of the mean: 1, or −2.
    pub sign: f64,
    /// Added to the value.
    pub offset: f64,
    /// σ of the kernel.
    pub sigma: f64,
    /// The column of y is `+=`.
    pub accumulate: bool,
}

impl Forward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Forward { s, y, ds, rows, count, cols, term, own, sign, offset, sigma, accumulate } = self;
        for (tensor, len) in [(s, rows * count), (y, rows * cols)] {
            plan.expect("mmd/forward", tensor, len)?;
        }
        let (dispatch, grid) = row_group(plan, "mmd/forward", label, rows, count);
        let dispatch = dispatch
            .constant("SELF", own.into())
            .constant("ACCUMULATE", accumulate.into())
            .bind("state", state(plan)?)
            .bind("s", s)
            .bind("y", y)
            .bind_if("GRADIENT", "ds", ds)
            .size("count", count)
            .size("rows", rows)
            .size("cols", cols)
            .size("column", term.column)
            .scalar("weight", term.weight)
            .scalar("sign", sign)
            .scalar("offset", offset)
            .scalar("inverse", 1.0 / (sigma * sigma));
        plan.record(dispatch.flops(20 * rows * count), grid)
    }
}
