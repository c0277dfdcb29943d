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

/// Loss, metrics and gradient of rows of a batch, all or some.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// (rows, cols) logits, at the beginning of a tensor.
    pub x: Tensor,
    /// (all rows) classes; a row with any other number, such as [`IGNORED`], does not count.
    pub targets: Tensor,
    /// (all rows, 4): loss, cross-entropy, correct, distance, of sequences divided by their rows that count.
    pub y: Tensor,
    /// (rows, cols): gradient of state.scale · mean loss; it may be the tensor of the logits, which it overwrites.
    pub dx: Option<Tensor>,
    /// Row of the batch that the first one is.
    pub row_at: usize,
    /// Number of rows.
    pub rows: usize,
    /// Number of classes.
    pub cols: usize,
    /// Rows of a sequence; they divide all rows.
    pub length: usize,
    /// Unit that `state.count` counts.
    pub per: Per,
    /// Which loss.
    pub weight: Weight,
    /// Factor α of the weight of the distance.
    pub alpha: f64,
    /// Label smoothing ε; 0 for none.
    pub smoothing: f64,
    /// (all rows): factors of the losses of the rows.
    pub weights: Option<Tensor>,
}

impl Forward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Forward { x, targets, y, dx, row_at, rows, cols, length, per, weight, alpha, smoothing, weights } = self;
        let name = "cross_entropy/forward";
        let all = plan.len(targets);
        plan.expect(name, x, plan.len(x).max(rows * cols))?;
        plan.expect(name, targets, all.max(row_at + rows))?;
        if length == 0 || !all.is_multiple_of(length) {
            return Err(Error::Internal(format!("{name}: {all} rows in sequences of {length}")));
        }
        plan.expect(name, y, all * 4)?;
        for (tensor, len) in [(dx, plan.len(x)), (weights, all)] {
            tensor.map_or(Ok(()), |tensor| plan.expect(name, tensor, len))?;
        }
        let in_place = dx == Some(x);
        if smoothing > 0.0 && weight == Weight::PureDistance {
            return Err(Error::Internal(format!("{name}: a distance has no labels to smooth")));
        }
        let state = dx.map(|_| state(plan)).transpose()?;
        let (dispatch, grid) = row_dispatch(plan, name, label, rows, cols);
        let dispatch = dispatch
            .constant("KIND", weight as u32)
            .constant("PER", per as u32)
            .constant("SMOOTH", (smoothing > 0.0).into())
            .bind_if("IN_PLACE", "dx", dx.filter(|_| in_place))
            .bind("targets", targets)
            .bind("y", y)
            .bind_if("GRADIENT", "dx", dx)
            .bind_if("GRADIENT", "state", state)
            .bind_if("WEIGHTED", "weights", weights)
            .size("row_at", row_at)
            .size("length", length)
            .moves("x", rows * cols)
            .moves("dx", rows * cols)
            .moves_part("y", row_at * 4..(row_at + rows) * 4)
            .scalar("alpha", alpha)
            .scalar("smoothing", smoothing);
        let dispatch = if in_place { dispatch } else { dispatch.bind("x", x) };
        plan.record(dispatch.flops(24 * rows * cols), grid)
    }
}
