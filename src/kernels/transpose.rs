//! Sequences batch after batch into step after step, and back. See `shaders/transpose/`.

use crate::error::Result;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// An axis that goes backwards in the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reverse {
    /// None.
    None,
    /// The first axis of x, which is time.
    First,
    /// The second axis of x, which is time.
    Second,
}

/// y[b, a] = x[a, b]; its gradient is the same pass with the axes exchanged.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// (first, second, cols).
    pub x: Tensor,
    /// (second, first, cols).
    pub y: Tensor,
    /// Length of the first axis of x.
    pub first: usize,
    /// Length of its second axis.
    pub second: usize,
    /// Numbers of a row.
    pub cols: usize,
    /// Axis that goes backwards.
    pub reverse: Reverse,
    /// (batch): length of each sequence along that axis, the rest of which stays; without it all of it.
    pub lengths: Option<Tensor>,
}

impl Forward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Forward { x, y, first, second, cols, reverse, lengths } = self;
        let n = first * second * cols;
        plan.expect("transpose/forward", x, n)?;
        plan.expect("transpose/forward", y, n)?;
        let (kind, batch) = match reverse {
            Reverse::None => (0, 0),
            Reverse::Second => (1, first),
            Reverse::First => (2, second),
        };
        let lengths = lengths.filter(|_| reverse != Reverse::None);
        lengths.map_or(Ok(()), |lengths| plan.expect("transpose/forward", lengths, batch))?;
        let dispatch = Dispatch::new("transpose/forward", label).constant("REVERSE", kind);
        let dispatch = dispatch.bind("x", x).bind("y", y).bind_if("LENGTHS", "lengths", lengths);
        plan.record(dispatch.size("first", first).size("second", second).size("cols", cols), Grid::Threads(n))
    }
}
