//! Cases of L2 normalisation and its gradient.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::normalize::{Backward, Forward};
use crate::random::Random;

/// dims: rows, cols; flags: adds to the gradient.
pub(super) const FAMILY: Family = Family::new("normalize", spec, 99, build, &[(&[1024, 768], &[0])]);

fn spec(i: usize, random: &mut Random) -> Spec {
    let mut dims = vec![random.pick(&DIMS[..12]), random.pick(&DIMS[1..12])];
    dims[i % 2] = DIMS[(i / 2 + i % 2) % DIMS.len()].max(1 + i % 2);
    Spec { dims, flags: vec![i / 2 % 2], regime: [Regime::Normal, Regime::Offset, Regime::Normal][i % 3], seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [rows, cols] = spec.dims[..] else { unreachable!("two sizes") };
    let x = b.input("x", &[rows, cols])?;
    let (y, norm) = (b.output("y", &[rows, cols])?, b.output("norm", &[rows])?);
    Forward { x, y, norm, rows, cols }.record(&mut b.plan, "case")?;
    let dy = b.upstream(y)?;
    let accumulate = spec.flags[0] == 1;
    let dx = if accumulate { b.gradient_added(x)? } else { b.gradient(x)? };
    // Sums are taken in blocks of 32.
    b.tolerance = Tolerance::sum(cols.min(32 + cols.div_ceil(32)) + 8);
    Backward { y, norm, dy, dx, rows, cols, accumulate }.record(&mut b.plan, "case")
}
