//! The posterior of a variational autoencoder. See `shaders/vae/`.

use super::state;
use super::vector_loss::Slot;
use crate::error::Result;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// z = μ + ε σ, or μ alone.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// (rows, 2, cols): μ, ln σ².
    pub x: Tensor,
    /// (rows, cols).
    pub z: Tensor,
    /// Number of latents.
    pub cols: usize,
    /// Stream of the noise; without one z = μ.
    pub noise: Option<u32>,
}

impl Sample {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Sample { x, z, cols, noise } = self;
        let n = plan.len(z);
        plan.expect("vae/sample", x, 2 * n)?;
        let noisy = noise.map(|_| state(plan)).transpose()?;
        let dispatch = Dispatch::new("vae/sample", label)
            .bind_if("NOISE", "state", noisy)
            .bind("x", x)
            .bind("z", z)
            .size("rows", n / cols)
            .size("cols", cols)
            .size("stream", noise.unwrap_or(0) as usize);
        plan.record(dispatch.flops(120 * n), Grid::Threads(n))
    }
}

/// y[column] = divergence from N(0, 1), y[0] += its weighted value.
#[derive(Debug, Clone, Copy)]
pub struct Kl {
    /// (rows, 2, width): μ, ln σ².
    pub x: Tensor,
    /// (rows, cols).
    pub y: Tensor,
    /// Number of samples.
    pub rows: usize,
    /// Number of latents.
    pub width: usize,
    /// Columns of y.
    pub cols: usize,
    /// Weight and column.
    pub term: Slot,
}

impl Kl {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Kl { x, y, rows, width, cols, term } = self;
        plan.expect("vae/kl", x, 2 * rows * width)?;
        plan.expect("vae/kl", y, rows * cols)?;
        let dispatch = Dispatch::new("vae/kl", label)
            .bind("state", state(plan)?)
            .bind("x", x)
            .bind("y", y)
            .size("rows", rows)
            .size("width", width)
            .size("cols", cols)
            .size("column", term.column)
            .scalar("weight", term.weight);
        plan.record(dispatch.flops(20 * rows * width), Grid::Threads(rows))
    }
}

/// dx from dz and from the divergence.
#[derive(Debug, Clone, Copy)]
pub struct Backward {
    /// (rows, 2, cols).
    pub x: Tensor,
    /// (rows, cols).
    pub dz: Tensor,
    /// (rows, 2, cols).
    pub dx: Tensor,
    /// Number of latents.
    pub cols: usize,
    /// Stream of the noise, as in the forward pass.
    pub noise: Option<u32>,
    /// Weight of the divergence.
    pub weight: f64,
    /// Records whose loss scale multiplies the divergence.
    pub scale: Option<Tensor>,
}

impl Backward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Backward { x, dz, dx, cols, noise, weight, scale } = self;
        let n = plan.len(dz);
        plan.expect("vae/backward", x, 2 * n)?;
        plan.expect("vae/backward", dx, 2 * n)?;
        let dispatch = Dispatch::new("vae/backward", label)
            .constant("NOISE", noise.is_some().into())
            .bind("state", state(plan)?)
            .bind("x", x)
            .bind("dz", dz)
            .bind("dx", dx)
            .bind_if("SCALED", "records", scale)
            .size("rows", n / cols)
            .size("cols", cols)
            .size("stream", noise.unwrap_or(0) as usize)
            .scalar("weight", weight);
        plan.record(dispatch.flops(140 * n), Grid::Threads(n))
    }
}
