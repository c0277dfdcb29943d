//! Loss of predicted joints. See `shaders/joint_loss/`.

use super::state;
use crate::error::Result;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// Columns of the results: loss, coordinate term, distance in the unit of the data; and with a stop term that, and whether the bit is
/// right.
pub const COLUMNS: [&str; 5] = ["loss", "coordinate", "distance", "stop", "stop_accuracy"];

/// The columns that there are with this factor of the stop term: 0 leaves it out.
pub fn columns(stop_weight: f64) -> &'static [&'static str] {
    if stop_weight > 0.0 { &COLUMNS } else { &COLUMNS[..3] }
}

/// Results and gradient of each joint.
#[derive(Debug, Clone, Copy)]
pub struct Rows {
    /// (batch, length, 3): x, y and the logit of the stop bit.
    pub x: Tensor,
    /// (batch, joints, 2): true coordinates.
    pub t: Tensor,
    /// (batch, joints): 1 for valid joints, which come first.
    pub mask: Tensor,
    /// (2): what a coordinate is multiplied with to have the unit of the data.
    pub deviation: Tensor,
    /// (batch · joints, columns).
    pub y: Tensor,
    /// (batch, length, 3).
    pub dx: Option<Tensor>,
    /// Number of sequences.
    pub batch: usize,
    /// Tokens of a sequence.
    pub length: usize,
    /// Joints of a sequence.
    pub joints: usize,
    /// Token that predicts the first joint.
    pub first: usize,
    /// δ of the Huber loss; without it the squared error.
    pub huber: Option<f64>,
    /// Factor of the stop term; 0 leaves it out.
    pub stop_weight: f64,
}

impl Rows {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Rows { x, t, mask, deviation, y, dx, batch, length, joints, first, huber, stop_weight } = self;
        let (rows, cols) = (batch * joints, columns(stop_weight).len());
        for (tensor, len) in [(x, batch * length * 3), (t, rows * 2), (mask, rows), (deviation, 2), (y, rows * cols)] {
            plan.expect("joint_loss/rows", tensor, len)?;
        }
        let dispatch = Dispatch::new("joint_loss/rows", label)
            .constant("HUBER", huber.is_some().into())
            .constant("STOP", (stop_weight > 0.0).into())
            .bind("state", state(plan)?)
            .bind("x", x)
            .bind("t", t)
            .bind("mask", mask)
            .bind("deviation", deviation)
            .bind("y", y)
            .bind_if("GRADIENT", "dx", dx)
            .size("batch", batch)
            .size("length", length)
            .size("joints", joints)
            .size("first", first)
            .size("cols", cols)
            .scalar("delta", huber.unwrap_or(0.0))
            .scalar("weight", stop_weight);
        plan.record(dispatch.flops(60 * rows), Grid::Threads(batch * length))
    }
}
