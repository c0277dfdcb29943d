//! Nearest-neighbour upsampling by 2. See `shaders/upsample/`.

use super::Images;
use crate::error::Result;
use crate::plan::{Dispatch, Grid, Plan, Tensor};

/// y = each pixel of x four times.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// (batch, height, width, C), or (batch, C, height, width).
    pub x: Tensor,
    /// (batch, 2 height, 2 width, C).
    pub y: Tensor,
    /// Sizes of x.
    pub images: Images,
    /// x goes channel by channel.
    pub planes: bool,
}

impl Forward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Forward { x, y, images, planes } = self;
        plan.expect("upsample/forward", x, images.len())?;
        plan.expect("upsample/forward", y, 4 * images.len())?;
        let dispatch = Dispatch::new("upsample/forward", label).constant("PLANES", planes.into()).bind("x", x).bind("y", y);
        plan.record(images.sizes(dispatch), Grid::Threads(4 * images.len()))
    }
}

/// dx from dy.
#[derive(Debug, Clone, Copy)]
pub struct Backward {
    /// (batch, 2 height, 2 width, C).
    pub dy: Tensor,
    /// Tensor of the shape of x.
    pub dx: Tensor,
    /// Sizes of x.
    pub images: Images,
    /// x goes channel by channel.
    pub planes: bool,
}

impl Backward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Backward { dy, dx, images, planes } = self;
        plan.expect("upsample/backward", dy, 4 * images.len())?;
        plan.expect("upsample/backward", dx, images.len())?;
        let dispatch = Dispatch::new("upsample/backward", label).constant("PLANES", planes.into()).bind("dy", dy).bind("dx", dx);
        plan.record(images.sizes(dispatch.flops(4 * images.len())), Grid::Threads(images.len()))
    }
}
