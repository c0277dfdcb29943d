//! Means and standard deviations of columns, and the losses made of them. See `shaders/moments/`.

use super::state;
use super::vector_loss::Slot;
use crate::error::Result;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// μ and σ of each column.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// (rows, width).
    pub x: Tensor,
    /// (2, width).
    pub stats: Tensor,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub width: usize,
}

impl Forward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Forward { x, stats, rows, width } = self;
        for (tensor, len) in [(x, rows * width), (stats, 2 * width)] {
            plan.expect("moments/forward", tensor, len)?;
        }
        let dispatch = Dispatch::new("moments/forward", label)
            .bind("state", state(plan)?)
            .bind("x", x)
            .bind("stats", stats)
            .size("rows", rows)
            .size("width", width);
        plan.record(dispatch.flops(4 * rows * width), Grid::Threads(width))
    }
}

/// The loss: distance to other statistics, or the hinge of σ below 1 without them.
#[derive(Debug, Clone, Copy)]
pub struct Value {
    /// (2, width).
    pub stats: Tensor,
    /// (2, width).
    pub other: Option<Tensor>,
    /// (rows, cols).
    pub y: Tensor,
    /// Number of rows.
    pub rows: usize,
    /// Columns of x.
    pub width: usize,
    /// Columns of y.
    pub cols: usize,
    /// Weight and column.
    pub term: Slot,
}

impl Value {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Value { stats, other, y, rows, width, cols, term } = self;
        for (tensor, len) in [(stats, 2 * width), (y, rows * cols)] {
            plan.expect("moments/value", tensor, len)?;
        }
        let group = if plan.target.software { plan.target.vector() } else { 64 };
        let dispatch = Dispatch::new("moments/value", label)
            .constant("WG", group)
            .constant("LANES", group)
            .bind("state", state(plan)?)
            .bind("stats", stats)
            .bind_if("MATCH", "other", other)
            .bind("y", y)
            .size("rows", rows)
            .size("width", width)
            .size("cols", cols)
            .size("column", term.column)
            .scalar("weight", term.weight);
        plan.record(dispatch.flops(6 * width), Grid::Groups(1))
    }
}

/// dx of `Value` through `Forward`.
#[derive(Debug, Clone, Copy)]
pub struct Backward {
    /// (rows, width).
    pub x: Tensor,
    /// (2, width).
    pub stats: Tensor,
    /// (2, width).
    pub other: Option<Tensor>,
    /// (rows, width).
    pub dx: Tensor,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub width: usize,
    /// Weight of the term.
    pub weight: f64,
    /// dx is `+=`.
    pub accumulate: bool,
}

impl Backward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Backward { x, stats, other, dx, rows, width, weight, accumulate } = self;
        for (tensor, len) in [(x, rows * width), (stats, 2 * width), (dx, rows * width)] {
            plan.expect("moments/backward", tensor, len)?;
        }
        let dispatch = Dispatch::new("moments/backward", label)
            .constant("ACCUMULATE", accumulate.into())
            .bind("state", state(plan)?)
            .bind("x", x)
            .bind("stats", stats)
            .bind_if("MATCH", "other", other)
            .bind("dx", dx)
            .size("rows", rows)
            .size("width", width)
            .scalar("weight", weight);
        plan.record(dispatch.flops(8 * rows * width), Grid::Threads(rows * width))
    }
}
