//! Patches of images: what makes a convolution a matrix product. See `shaders/patches/`.

use super::{Images, part};
use crate::error::Result;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// y = the k × k surroundings of each pixel.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// (at least first + batch, height, width, C).
    pub x: Tensor,
    /// (at least batch · height · width, C · k · k).
    pub y: Tensor,
    /// Sizes of the images that are taken.
    pub images: Images,
    /// The first of them.
    pub first: usize,
    /// k, odd.
    pub kernel: usize,
}

impl Forward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a tensor is too short.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Forward { x, y, images, first, kernel } = self;
        let n = images.len() * kernel * kernel;
        let dispatch = Dispatch::new("patches/forward", label).constant("K", kernel as u32);
        let x_at = first * images.len() / images.batch.max(1);
        let dispatch = part(plan, dispatch, ("x", x), x_at..x_at + images.len())?.size("x_at", x_at);
        let each = if (images.channels * kernel * kernel).is_multiple_of(4) { 4 } else { 1 };
        let dispatch = part(plan, dispatch, ("y", y), 0..n)?.constant("EACH", each as u32);
        plan.record(images.sizes(dispatch), Grid::Threads(n / each))
    }
}

/// dx from dy.
#[derive(Debug, Clone, Copy)]
pub struct Backward {
    /// (at least batch · height · width, C · k · k).
    pub dy: Tensor,
    /// (at least first + batch, height, width, C).
    pub dx: Tensor,
    /// Sizes of the images whose gradient is made.
    pub images: Images,
    /// The first of them.
    pub first: usize,
    /// k, odd.
    pub kernel: usize,
}

impl Backward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a tensor is too short.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Backward { dy, dx, images, first, kernel } = self;
        let n = images.len() * kernel * kernel;
        let dx_at = first * images.len() / images.batch.max(1);
        let dispatch = Dispatch::new("patches/backward", label).constant("K", kernel as u32).flops(n);
        let dispatch = part(plan, dispatch, ("dy", dy), 0..n)?;
        let dispatch = part(plan, dispatch, ("dx", dx), dx_at..dx_at + images.len())?.size("dx_at", dx_at);
        plan.record(images.sizes(dispatch), Grid::Threads(images.len()))
    }
}
