//! Largest of each 2 × 2 pixels. See `shaders/max_pool/`.

use super::Images;
use crate::error::{Error, Result};
use crate::plan::{Dispatch, Grid, Plan, Tensor};

fn even(images: Images) -> Result<()> {
    if images.height.is_multiple_of(2) && images.width.is_multiple_of(2) {
        return Ok(());
    }
    Err(Error::Config(format!("images of {} × {} cannot be halved: use sides that are multiples of 2", images.height, images.width)))
}

/// y = max over 2 × 2.
#[derive(Debug, Clone, Copy)]
pub struct Forward {
    /// (batch, height, width, C).
    pub x: Tensor,
    /// (batch, height/2, width/2, C), or (batch, C, height/2, width/2).
    pub y: Tensor,
    /// Sizes of x.
    pub images: Images,
    /// y goes channel by channel.
    pub planes: bool,
}

impl Forward {
    /// Records the pass.
    ///
    /// # Errors
    /// `Internal` when a shape differs, `Config` for odd sides.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Forward { x, y, images, planes } = self;
        even(images)?;
        plan.expect("max_pool/forward", x, images.len())?;
        plan.expect("max_pool/forward", y, images.len() / 4)?;
        let dispatch = Dispatch::new("max_pool/forward", label).constant("PLANES", planes.into()).bind("x", x).bind("y", y);
        plan.record(images.sizes(dispatch.flops(images.len())), Grid::Threads(images.len() / 4))
    }
}

/// dx from dy.
#[derive(Debug, Clone, Copy)]
pub struct Backward {
    /// (batch, height, width, C), input of the forward pass.
    pub x: Tensor,
    /// Tensor of the shape of y.
    pub dy: Tensor,
    /// (batch, height, width, C).
    pub dx: Tensor,
    /// Sizes of x.
    pub images: Images,
    /// y goes channel by channel.
    pub planes: bool,
}

impl Backward {
    /// Records the pass.
    ///
    /// # Errors
    /// As `Forward::record`.
    pub fn record(self, plan: &mut Plan, label: &str) -> Result<()> {
        let Backward { x, dy, dx, images, planes } = self;
        even(images)?;
        plan.expect("max_pool/backward", x, images.len())?;
        plan.expect("max_pool/backward", dy, images.len() / 4)?;
        plan.expect("max_pool/backward", dx, images.len())?;
        let dispatch = Dispatch::new("max_pool/backward", label).constant("PLANES", planes.into());
        plan.record(images.sizes(dispatch.bind("x", x).bind("dy", dy).bind("dx", dx)), Grid::Threads(images.len()))
    }
}
