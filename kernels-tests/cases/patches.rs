//! Cases of patches and their gradient.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::Images;
use crate::kernels::patches::{Backward, Forward};
use crate::random::Random;

/// dims: batch, height, width, channels, (kernel + 1) / 2.
pub(super) const FAMILY: Family = Family::new("patches", spec, 96, build, &[(&[8, 32, 32, 32, 3], &[])]);

fn spec(i: usize, random: &mut Random) -> Spec {
    let mut dims = vec![random.pick(&[1, 2, 3]), random.pick(&DIMS[..7]), random.pick(&DIMS[..7]), random.pick(&[1, 2, 5])];
    dims[i % 4] = if i.is_multiple_of(4) { 1 + i / 4 % 5 } else { DIMS[i / 4 % 12] };
    dims.push([1, 2, 3, 6][i / 3 % 4]);
    Spec { dims, flags: vec![], regime: [Regime::Normal, Regime::Extreme][i % 2], seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [batch, height, width, channels, half] = spec.dims[..] else { unreachable!("five sizes") };
    let (images, kernel) = (Images { batch, height, width, channels }, 2 * half - 1);
    let x = b.input("x", &[batch, height, width, channels])?;
    let y = b.output("y", &[batch * height * width, channels * kernel * kernel])?;
    b.tolerance = Tolerance::sum(kernel * kernel);
    b.exact(y);
    Forward { x, y, images, kernel }.record(&mut b.plan, "case")?;
    let dy = b.upstream(y)?;
    let dx = b.gradient(x)?;
    Backward { dy, dx, images, kernel }.record(&mut b.plan, "case")
}
