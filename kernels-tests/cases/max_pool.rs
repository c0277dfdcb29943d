//! Cases of pooling and its gradient, ties included.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::Images;
use crate::kernels::max_pool::{Backward, Forward};
use crate::random::Random;

/// dims: batch, half the height, half the width, channels; flags: channel by channel.
pub(super) const FAMILY: Family = Family {
    kinks: |spec| spec.dims.iter().product::<usize>() > 100,
    ..Family::new("max_pool", spec, 96, build, &[(&[8, 32, 32, 32], &[0])])
};

fn spec(i: usize, random: &mut Random) -> Spec {
    let mut dims = vec![random.pick(&[1, 2, 3]), random.pick(&DIMS[..7]), random.pick(&DIMS[..7]), random.pick(&DIMS[..7])];
    dims[i % 4] = DIMS[i / 4 % 15];
    Spec { dims, flags: vec![i / 2 % 2], regime: [Regime::Normal, Regime::Extreme, Regime::OneHot][i % 3], seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [batch, h, w, channels] = spec.dims[..] else { unreachable!("four sizes") };
    let (images, planes) = (Images { batch, height: 2 * h, width: 2 * w, channels }, spec.flags[0] == 1);
    let x = b.input("x", &[batch, 2 * h, 2 * w, channels])?;
    let y = b.output("y", &[batch, h, w, channels])?;
    b.tolerance = Tolerance::Exact;
    Forward { x, y, images, planes }.record(&mut b.plan, "case")?;
    let dy = b.upstream(y)?;
    let dx = b.gradient(x)?;
    Backward { x, dy, dx, images, planes }.record(&mut b.plan, "case")
}
