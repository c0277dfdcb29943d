//! Gated RMS normalisation by groups of the columns. See `shaders/gated_norm/`.

use super::{adding, column_group, parts, row_group};
use crate::error::Result;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// What the passes share.
#[derive(Debug, Clone, Copy)]
pub struct Operands {
    /// (rows, cols).
    pub y: Tensor,
    /// (rows, width), of which the first columns are the gate.
    pub z: Tensor,
    /// (cols).
    pub w: Tensor,
    /// (rows, groups): the factor of each group.
    pub stats: Tensor,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns, a multiple of the groups.
    pub cols: usize,
    /// Number of groups.
    pub groups: usize,
}

impl Operands {
    fn expect(&self, plan: &Plan, kernel: &str, alike: &[Tensor]) -> Result<()> {
        let Operands { y, w, stats, rows, cols, groups, .. } = *self;
        alike.iter().chain([&y]).try_for_each(|tensor| plan.expect(kernel, *tensor, rows * cols))?;
        plan.expect(kernel, w, cols)?;
        plan.expect(kernel, stats, rows * groups)
    }

    fn width(&self, plan: &Plan) -> usize {
        plan.len(self.z) / self.rows
    }

    /// A launch over the groups of the rows.
    fn by_row(&self, plan: &Plan, kernel: &'static str, label: &str) -> (Dispatch, Grid) {
        let Operands { y, z, w, stats, rows, cols, groups } = *self;
        let (dispatch, grid) = row_group(plan, kernel, label, rows * groups, cols / groups);
        let dispatch = dispatch.bind("y", y).bind("z", z).bind("w", w).bind("stats", stats);
        let dispatch = dispatch.size("rows", rows).size("cols", cols).size("width", self.width(plan)).size("groups", groups);
        (dispatch.moves("z", rows * cols).flops(16 * rows * cols), grid)
    }
}

/// out = w ⊙ g r, g = y ⊙ silu(z).
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// Inputs and weight; the factors are written.
    pub of: Operands,
    /// (rows, cols).
    pub out: Tensor,
    /// Added to the mean square.
    pub eps: f64,
}

impl Forward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Forward { of, out, eps } = self;
        let name = "gated_norm/forward";
        of.expect(plan, name, &[out])?;
        let (dispatch, grid) = of.by_row(plan, name, label);
        plan.record(dispatch.bind("out", out).scalar("eps", eps), grid)
    }
}

/// dy and dz from dout.
#[derive(Debug, Clone, Copy)]
pub struct Backward {
    /// Inputs, weight and factors of the forward pass.
    pub of: Operands,
    /// (rows, cols).
    pub dout: Tensor,
    /// (rows, cols).
    pub dy: Tensor,
    /// (rows, width), of which the first columns are written.
    pub dz: Tensor,
}

impl Backward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Backward { of, dout, dy, dz } = self;
        let name = "gated_norm/backward";
        of.expect(plan, name, &[dout, dy])?;
        plan.expect(name, dz, plan.len(of.z))?;
        let (dispatch, grid) = of.by_row(plan, name, label);
        plan.record(dispatch.bind("dout", dout).bind("dy", dy).bind("dz", dz).moves("dz", of.rows * of.cols), grid)
    }
}

/// dw from dout.
#[derive(Debug, Clone, Copy)]
pub struct BackwardWeight {
    /// Inputs and factors of the forward pass.
    pub of: Operands,
    /// (rows, cols).
    pub dout: Tensor,
    /// (cols), `+=`.
    pub dw: Tensor,
}

impl BackwardWeight {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let BackwardWeight { of, dout, dw } = self;
        let name = "gated_norm/backward_weight";
        of.expect(plan, name, &[dout])?;
        plan.expect(name, dw, of.cols)?;
        let (group, columns) = column_group(&plan.target);
        for part in parts(&plan.target, of.rows, 1) {
            let dispatch = Dispatch::new(name, label)
                .constant("WG", group)
                .constant("COLS", columns)
                .bind("y", of.y)
                .bind("z", of.z)
                .moves("z", part.len() * of.cols)
                .bind("stats", of.stats)
                .bind("dout", dout)
                .bind("dw", dw)
                .size("start", part.start)
                .size("end", part.end)
                .size("cols", of.cols)
                .size("width", of.width(plan))
                .size("groups", of.groups)
                .flops(12 * part.len() * of.cols);
            let dispatch = adding(plan, dispatch, &[dw])?;
            plan.record(dispatch, Grid::Groups(of.cols.div_ceil(columns as usize)))?;
        }
        Ok(())
    }
}
