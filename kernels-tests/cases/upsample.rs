//! Cases of upsampling and its gradient.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::Images;
use crate::kernels::upsample::{Backward, Forward};
use crate::random::Random;

/// dims: batch, height, width, channels; flags: channel by channel.
pub(super) const FAMILY: Family = Family::new("upsample", spec, 96, build, &[(&[8, 16, 16, 64], &[0])]);

fn spec(i: usize, random: &mut Random) -> Spec {
    let mut dims = vec![random.pick(&[1, 2, 3]), random.pick(&DIMS[..7]), random.pick(&DIMS[..7]), random.pick(&DIMS[..7])];
    dims[i % 4] = DIMS[i / 4 % 15];
    Spec { dims, flags: vec![i / 2 % 2], regime: [Regime::Normal, Regime::Extreme, Regime::OneHot][i % 3], seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [batch, height, width, channels] = spec.dims[..] else { unreachable!("four sizes") };
    let (images, planes) = (Images { batch, height, width, channels }, spec.flags[0] == 1);
    let x = b.input("x", &[batch, height, width, channels])?;
    let y = b.output("y", &[batch, 2 * height, 2 * width, channels])?;
    b.tolerance = Tolerance::sum(4);
    b.exact(y);
    Forward { x, y, images, planes }.record(&mut b.plan, "case")?;
    let dy = b.upstream(y)?;
    let dx = b.gradient(x)?;
    Backward { dy, dx, images, planes }.record(&mut b.plan, "case")
}
