//! Fourier features of points. See `shaders/fourier/`.

use crate::error::Result;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// Frequencies of the Fourier features.
#[derive(Debug, Clone, Copy)]
pub enum Frequencies {
    /// 2^k π, k = 0 … count − 1; count is at most 64.
    PowersOfTwo(usize),
    /// k π for k = 1 … count, at most 1024.
    MultiplesOfPi(usize),
    /// k for k = 1 … count, at most 1024.
    Multiples(usize),
    /// Phases 2π x·B with B (2, count).
    Random(Tensor, usize),
}

impl Frequencies {
    /// Features of a point.
    pub fn width(self) -> usize {
        match self {
            Frequencies::PowersOfTwo(count) | Frequencies::MultiplesOfPi(count) | Frequencies::Multiples(count) => 4 * count,
            Frequencies::Random(_, count) => 2 * count,
        }
    }
}

/// y = sines and cosines of the phases of x.
#[derive(Debug, Clone, Copy)]
pub struct Features {
    /// (rows, 2).
    pub x: Tensor,
    /// (rows, width).
    pub y: Tensor,
    /// Frequencies.
    pub frequencies: Frequencies,
}

impl Features {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Features { x, y, frequencies } = self;
        let rows = plan.len(x) / 2;
        plan.expect("fourier/features", y, rows * frequencies.width())?;
        let (kind, b, count) = match frequencies {
            Frequencies::PowersOfTwo(count) => (1, None, count),
            Frequencies::MultiplesOfPi(count) => (2, None, count),
            Frequencies::Multiples(count) => (3, None, count),
            Frequencies::Random(b, count) => (4, Some(b), count),
        };
        b.map_or(Ok(()), |b| plan.expect("fourier/features", b, 2 * count))?;
        let phases = rows * frequencies.width() / 2;
        let dispatch = Dispatch::new("fourier/features", label)
            .constant("KIND", kind)
            .bind("x", x)
            .bind_if("RANDOM", "b", b)
            .bind("y", y)
            .size("rows", rows)
            .size("count", count);
        plan.record(dispatch.flops(40 * phases), Grid::Threads(phases))
    }
}
