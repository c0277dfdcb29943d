//! Losses of predicted vectors that are sums over rows. See `shaders/vector_loss/`.

use super::{row_group, state};
use crate::error::Result;
use crate::plan::{Plan, Tensor};

/// Vector that the squared error compares with the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// The prediction as it is.
    #[default]
    Raw,
    /// The prediction scaled to unit length.
    Normalized,
}

/// Weight of a term in the sum, and its column in the results.
#[derive(Debug, Clone, Copy)]
pub struct Slot {
    /// Factor of the term.
    pub weight: f64,
    /// Column of y.
    pub column: usize,
}

/// Terms, total, cosine and gradient of each row.
#[derive(Debug, Clone, Copy)]
pub struct Rows {
    /// (rows, width): prediction.
    pub x: Tensor,
    /// (rows, width): target.
    pub t: Tensor,
    /// (rows, cols): loss, cosine, terms.
    pub y: Tensor,
    /// (rows, width).
    pub dx: Option<Tensor>,
    /// Number of rows.
    pub rows: usize,
    /// Number of features.
    pub width: usize,
    /// Columns of y.
    pub cols: usize,
    /// Squared error, and of what.
    pub mse: Option<(On, Slot)>,
    /// 1 − cos.
    pub cosine: Option<Slot>,
    /// 1 − cos to other vectors (rows, width), in batches that the state says.
    pub cycle: Option<(Tensor, Slot)>,
}

impl Rows {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Rows { x, t, y, dx, rows, width, cols, mse, cosine, cycle } = self;
        for (tensor, len) in [(x, rows * width), (t, rows * width), (y, rows * cols)] {
            plan.expect("vector_loss/rows", tensor, len)?;
        }
        let (dispatch, grid) = row_group(plan, "vector_loss/rows", label, rows, width);
        let weight = |term: Option<Slot>| term.map_or(0.0, |t| t.weight);
        let column = |term: Option<Slot>| term.map_or(0, |t| t.column);
        let (squared, nearest) = (mse.map(|(_, term)| term), cycle.map(|(_, term)| term));
        let dispatch = dispatch
            .constant("MSE", mse.map_or(0, |(on, _)| on as u32 + 1))
            .constant("COSINE", cosine.is_some().into())
            .bind("state", state(plan)?)
            .bind("x", x)
            .bind("t", t)
            .bind_if("CYCLE", "nearest", cycle.map(|(nearest, _)| nearest))
            .bind("y", y)
            .bind_if("GRADIENT", "dx", dx)
            .size("width", width)
            .size("rows", rows)
            .size("cols", cols)
            .scalar("mse", weight(squared))
            .size("mse_column", column(squared))
            .scalar("cosine", weight(cosine))
            .size("cosine_column", column(cosine))
            .scalar("cycle", weight(nearest))
            .size("cycle_column", column(nearest));
        plan.record(dispatch.flops(24 * rows * width), grid)
    }
}
