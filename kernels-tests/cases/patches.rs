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
    b.tolerance = Tolerance::sum(kernel * kernel);
    // Every other batch is taken in two parts.
    let first = if spec.seed % 2 == 1 { batch.div_ceil(2) } else { batch };
    let mut made = vec![];
    for (first, count) in [(0, first), (first, batch - first)].into_iter().filter(|(_, count)| *count > 0) {
        let images = Images { batch: count, ..images };
        let y = b.output(&format!("y_{first}"), &[count * height * width, channels * kernel * kernel])?;
        b.exact(y);
        Forward { x, y, images, first, kernel }.record(&mut b.plan, "case")?;
        made.push((y, images, first));
    }
    let dx = b.gradient(x)?;
    made.into_iter().try_for_each(|(y, images, first)| {
        let dy = b.upstream(y)?;
        Backward { dy, dx, images, first, kernel }.record(&mut b.plan, "case")
    })
}
