//! Losses of predicted numbers. See `shaders/regression/`.

use super::{row_group, state};
use crate::error::Result;
use crate::plan::{Plan, Tensor};

/// Penalty h of the error d of a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Penalty {
    /// Squared error: d².
    Squared,
    /// Absolute error: |d|.
    Absolute,
    /// Huber loss with this δ: ½ d² for |d| ≤ δ, else δ (|d| − ½ δ).
    Huber(f64),
}

/// Loss, squared and absolute error, and gradient of each row.
#[derive(Debug, Clone, Copy)]
pub struct Rows {
    /// (rows, width): predictions.
    pub x: Tensor,
    /// (rows, width): targets.
    pub t: Tensor,
    /// (rows): 1 for rows that count, else 0; without it all rows count.
    pub mask: Option<Tensor>,
    /// (rows, 3): loss, mean squared error, mean absolute error.
    pub y: Tensor,
    /// (rows, width): gradient of state.scale · mean loss.
    pub dx: Option<Tensor>,
    /// Number of rows.
    pub rows: usize,
    /// Number of numbers in a row.
    pub width: usize,
    /// Penalty of an error.
    pub penalty: Penalty,
}

impl Rows {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Rows { x, t, mask, y, dx, rows, width, penalty } = self;
        let all = [(Some(x), rows * width), (Some(t), rows * width), (mask, rows), (Some(y), rows * 3), (dx, rows * width)];
        for (tensor, len) in all.into_iter().filter_map(|(tensor, len)| Some((tensor?, len))) {
            plan.expect("regression/rows", tensor, len)?;
        }
        let (kind, delta) = match penalty {
            Penalty::Squared => (0, 0.0),
            Penalty::Absolute => (1, 0.0),
            Penalty::Huber(delta) => (2, delta),
        };
        let (dispatch, grid) = row_group(plan, "regression/rows", label, rows, width);
        let dispatch = dispatch
            .constant("PENALTY", kind)
            .bind("state", state(plan)?)
            .bind("x", x)
            .bind("t", t)
            .bind_if("MASKED", "mask", mask)
            .bind("y", y)
            .bind_if("GRADIENT", "dx", dx)
            .size("rows", rows)
            .size("width", width)
            .scalar("delta", delta);
        plan.record(dispatch.flops(8 * rows * width), grid)
    }
}
