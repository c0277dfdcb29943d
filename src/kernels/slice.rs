//! Rows at a fixed distance, as the last position of each sequence. See `shaders/slice/`.

use crate::error::{Error, Result};
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// Which rows.
#[derive(Debug, Clone, Copy)]
pub struct Rows {
    /// Rows of the whole.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Rows picked.
    pub picked: usize,
    /// First of them.
    pub first: usize,
    /// Distance between them.
    pub stride: usize,
}

/// y[r] = x[first + r · stride].
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// (rows, cols).
    pub x: Tensor,
    /// (picked, cols).
    pub y: Tensor,
    /// Rows that are selected.
    pub rows: Rows,
    /// (picked): where to find each row instead, at `r · stride + lengths[r] − 1`; lengths are from 1 to `stride`.
    pub lengths: Option<Tensor>,
}

impl Forward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Forward { x, y, rows, lengths } = self;
        let Rows { rows, cols, picked, first, stride } = rows;
        plan.expect("slice/forward", x, rows * cols)?;
        plan.expect("slice/forward", y, picked * cols)?;
        if picked == 0 || stride == 0 || first + (picked - 1) * stride >= rows {
            return Err(Error::Internal(format!("slice/forward: {picked} rows from {first}, every {stride}th, of {rows}")));
        }
        if let Some(lengths) = lengths {
            plan.expect("slice/forward", lengths, picked)?;
            if first + 1 != stride || picked * stride != rows {
                return Err(Error::Internal(format!("slice/forward: lengths are for whole sequences, not for {picked} rows from {first} of {rows}")));
            }
        }
        let dispatch = Dispatch::new("slice/forward", label)
            .bind("x", x)
            .bind("y", y)
            .bind_if("LENGTHS", "lengths", lengths)
            .size("rows", rows)
            .size("cols", cols)
            .size("picked", picked)
            .size("first", first)
            .size("stride", stride);
        plan.record(dispatch, Grid::Threads(picked * cols))
    }
}

/// dx, 0 in the rows that were not picked.
#[derive(Debug, Clone, Copy)]
pub struct Backward {
    /// (picked, cols).
    pub dy: Tensor,
    /// (rows, cols).
    pub dx: Tensor,
    /// Rows that are selected.
    pub rows: Rows,
    /// (picked): where to find each row instead, at `r · stride + lengths[r] − 1`; lengths are from 1 to `stride`.
    pub lengths: Option<Tensor>,
}

impl Backward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Backward { dy, dx, rows, lengths } = self;
        let Rows { rows, cols, picked, first, stride } = rows;
        plan.expect("slice/backward", dx, rows * cols)?;
        plan.expect("slice/backward", dy, picked * cols)?;
        if picked == 0 || stride == 0 || first + (picked - 1) * stride >= rows {
            return Err(Error::Internal(format!("slice/backward: {picked} rows from {first}, every {stride}th, of {rows}")));
        }
        if let Some(lengths) = lengths {
            plan.expect("slice/backward", lengths, picked)?;
            if first + 1 != stride || picked * stride != rows {
                return Err(Error::Internal(format!("slice/backward: lengths are for whole sequences, not for {picked} rows from {first} of {rows}")));
            }
        }
        let dispatch = Dispatch::new("slice/backward", label)
            .bind("dy", dy)
            .bind("dx", dx)
            .bind_if("LENGTHS", "lengths", lengths)
            .size("rows", rows)
            .size("cols", cols)
            .size("picked", picked)
            .size("first", first)
            .size("stride", stride);
        plan.record(dispatch, Grid::Threads(rows * cols))
    }
}
