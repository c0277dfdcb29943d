//! Rows of two tensors beside each other. See `shaders/concat/`.

use crate::error::Result;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// Number of rows, and columns of either side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sides {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns A of the left side.
    pub left: usize,
    /// Number of columns B of the right side.
    pub right: usize,
}

impl Sides {
    fn record(&self, plan: &mut Plan, kernel: &'static str, label: &str, tensors: [(&'static str, Tensor); 3]) -> Result<()> {
        let Sides { rows, left, right } = *self;
        let mut dispatch = Dispatch::new(kernel, label).size("rows", rows).size("left", left).size("right", right);
        for (name, tensor) in tensors {
            let cols = match name {
                "a" | "da" => left,
                "b" | "db" => right,
                _ => left + right,
            };
            plan.expect(kernel, tensor, rows * cols)?;
            dispatch = dispatch.bind(name, tensor);
        }
        plan.record(dispatch, Grid::Threads(rows * (left + right)))
    }
}

/// y = [a, b].
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// (rows, A).
    pub a: Tensor,
    /// (rows, B).
    pub b: Tensor,
    /// (rows, A + B).
    pub y: Tensor,
    /// Sizes of the sides.
    pub sides: Sides,
}

impl Forward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        self.sides.record(plan, "concat/forward", label, [("a", self.a), ("b", self.b), ("y", self.y)])
    }
}

/// da and db from dy.
#[derive(Debug, Clone, Copy)]
pub struct Backward {
    /// (rows, A + B).
    pub dy: Tensor,
    /// (rows, A).
    pub da: Tensor,
    /// (rows, B).
    pub db: Tensor,
    /// Sizes of the sides.
    pub sides: Sides,
}

impl Backward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        self.sides.record(plan, "concat/backward", label, [("dy", self.dy), ("da", self.da), ("db", self.db)])
    }
}
