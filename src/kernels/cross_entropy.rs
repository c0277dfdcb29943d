//! Softmax cross-entropy, its distance-weighted forms and the pure distance loss. See `shaders/cross_entropy/`.

use super::{row_dispatch, state};
use crate::error::{Error, Result};
use crate::plan::{Plan, Tensor};

/// A target that does not count, as `ignore_index` of `torch.nn.functional.cross_entropy`.
pub const IGNORED: u32 = u32::MAX;

/// Which loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// Plain cross-entropy.
    #[default]
    None,
    /// CE · (1 + α·d), d = |argmax − target|.
    Linear,
    /// CE · (1 + α·d²).
    Quadratic,
    /// CE · (1 + α·√d).
    SquareRoot,
    /// Expected |i − target| under the softmax.
    PureDistance,
}

/// Unit that has the same weight in the mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// Each row that counts.
    #[default]
    Position,
    /// Each sequence: its rows share its weight.
    Sequence,
}

/// Loss, metrics and gradient of each row.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// (rows, cols) logits.
    pub x: Tensor,
    /// (rows) classes; a row with any other number, such as [`IGNORED`], does not count.
    pub targets: Tensor,
    /// (rows, 4): loss, cross-entropy, correct, distance, of sequences divided by their rows that count.
    pub y: Tensor,
    /// (rows, cols): gradient of state.scale · mean loss.
    pub dx: Option<Tensor>,
    /// Number of rows.
    pub rows: usize,
    /// Number of classes.
    pub cols: usize,
    /// Rows of a sequence; they divide all.
    pub length: usize,
    /// Unit that `state.count` counts.
    pub per: Per,
    /// Which loss.
    pub weight: Weight,
    /// Factor α of the weight of the distance.
    pub alpha: f64,
    /// Label smoothing ε; 0 for none.
    pub smoothing: f64,
    /// (rows): factors of the losses of the rows.
    pub weights: Option<Tensor>,
}

impl Forward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Forward { x, targets, y, dx, rows, cols, length, per, weight, alpha, smoothing, weights } = self;
        let name = "cross_entropy/forward";
        plan.expect(name, x, rows * cols)?;
        plan.expect(name, targets, rows)?;
        if length == 0 || !rows.is_multiple_of(length) {
            return Err(Error::Internal(format!("{name}: {rows} rows in sequences of {length}")));
        }
        plan.expect(name, y, rows * 4)?;
        for (tensor, len) in [(dx, rows * cols), (weights, rows)] {
            tensor.map_or(Ok(()), |tensor| plan.expect(name, tensor, len))?;
        }
        if smoothing > 0.0 && weight == Weight::PureDistance {
            return Err(Error::Internal(format!("{name}: a distance has no labels to smooth")));
        }
        let state = dx.map(|_| state(plan)).transpose()?;
        let (dispatch, grid) = row_dispatch(plan, name, label, rows, cols);
        let dispatch = dispatch
            .constant("KIND", weight as u32)
            .constant("PER", per as u32)
            .constant("SMOOTH", (smoothing > 0.0).into())
            .bind("x", x)
            .bind("targets", targets)
            .bind("y", y)
            .bind_if("GRADIENT", "dx", dx)
            .bind_if("GRADIENT", "state", state)
            .bind_if("WEIGHTED", "weights", weights)
            .size("length", length)
            .scalar("alpha", alpha)
            .scalar("smoothing", smoothing);
        plan.record(dispatch.flops(24 * rows * cols), grid)
    }
}
