//! Cases of the surroundings of positions and their gradient.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::unfold::{Backward, Forward, Sizes};
use crate::random::Random;

/// dims: batch, length, channels, kernel, dilation; flags: the kernel ends at the position.
pub(super) const FAMILY: Family = Family::new("unfold", spec, 72, build, &[(&[32, 64, 64, 3, 1], &[1])]);

fn spec(i: usize, random: &mut Random) -> Spec {
    let mut dims = vec![random.pick(&[1, 2, 3]), random.pick(&DIMS[..9]), random.pick(&DIMS[..7])];
    dims[1 + i % 2] = DIMS[i / 2 % 14];
    dims.extend([[1, 2, 3, 4, 7][i / 3 % 5], [1, 2, 5][i / 2 % 3]]);
    Spec { dims, flags: vec![i / 4 % 2], regime: [Regime::Normal, Regime::Extreme][i % 2], seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [batch, length, channels, kernel, dilation] = spec.dims[..] else { unreachable!("five sizes") };
    let before = if spec.flags[0] == 1 { (kernel - 1) * dilation } else { (kernel - 1) / 2 * dilation };
    let sizes = Sizes { batch, length, channels, kernel, dilation, before };
    let x = b.input("x", &[batch, length, channels])?;
    let y = b.output("y", &[batch, length, channels * kernel])?;
    b.tolerance = Tolerance::sum(kernel);
    b.exact(y);
    Forward { x, y, sizes }.record(&mut b.plan, "case")?;
    let dy = b.upstream(y)?;
    let dx = b.gradient(x)?;
    Backward { dy, dx, sizes }.record(&mut b.plan, "case")
}
