//! Patches of images: what makes a convolution a matrix product. See `shaders/patches/`.

use super::Images;
use crate::error::Result;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// y = the k × k surroundings of each pixel.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// (batch, height, width, C).
    pub x: Tensor,
    /// (batch · height · width, C · k · k).
    pub y: Tensor,
    /// Sizes of x.
    pub images: Images,
    /// k, odd.
    pub kernel: usize,
}

impl Forward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Forward { x, y, images, kernel } = self;
        let n = images.len() * kernel * kernel;
        plan.expect("patches/forward", x, images.len())?;
        plan.expect("patches/forward", y, n)?;
        let dispatch = Dispatch::new("patches/forward", label).constant("K", kernel as u32).bind("x", x).bind("y", y);
        plan.record(images.sizes(dispatch), Grid::Threads(n))
    }
}

/// dx from dy.
#[derive(Debug, Clone, Copy)]
pub struct Backward {
    /// (batch · height · width, C · k · k).
    pub dy: Tensor,
    /// (batch, height, width, C).
    pub dx: Tensor,
    /// Sizes of dx.
    pub images: Images,
    /// k, odd.
    pub kernel: usize,
}

impl Backward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Backward { dy, dx, images, kernel } = self;
        let n = images.len() * kernel * kernel;
        plan.expect("patches/backward", dy, n)?;
        plan.expect("patches/backward", dx, images.len())?;
        let dispatch = Dispatch::new("patches/backward", label).constant("K", kernel as u32).bind("dy", dy).bind("dx", dx);
        plan.record(images.sizes(dispatch.flops(n)), Grid::Threads(images.len()))
    }
}
