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

impl Rows {
    /// Fails unless all rows and the selected ones have these sizes, and lengths are those of whole sequences.
    fn expect(&self, plan: &Plan, name: &str, [all, selected]: [Tensor; 2], lengths: Option<Tensor>) -> Result<()> {
        let Rows { rows, cols, picked, first, stride } = *self;
        plan.expect(name, all, rows * cols)?;
        plan.expect(name, selected, picked * cols)?;
        lengths.map_or(Ok(()), |lengths| plan.expect(name, lengths, picked))?;
        let inside = picked > 0 && stride > 0 && first + (picked - 1) * stride < rows;
        if !inside || lengths.is_some() && (first + 1 != stride || picked * stride != rows) {
            return Err(Error::Internal(format!("{name}: {picked} rows from {first}, every {stride}th, of {rows}")));
        }
        Ok(())
    }
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
        rows.expect(plan, "slice/forward", [x, y], lengths)?;
        let Rows { rows, cols, picked, first, stride } = rows;
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
        rows.expect(plan, "slice/backward", [dx, dy], lengths)?;
        let Rows { rows, cols, picked, first, stride } = rows;
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
