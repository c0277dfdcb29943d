//! Cases of the partial sums of squares.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::grad_norm::{PARTIALS, Partial, partials};
use crate::random::Random;

/// dims: n / 4.
pub(super) const FAMILY: Family = Family::new("grad_norm", spec, 44, build, &[(&[262144], &[])]);

fn spec(i: usize, random: &mut Random) -> Spec {
    // Of the long ones most have a last share that is not full.
    let n = if i.is_multiple_of(2) { DIMS[i / 2 % DIMS.len()] } else { DIMS[i / 2 % DIMS.len()] * 64 + random.pick(&[1, 2, 3]) };
    Spec { dims: vec![n], flags: vec![], regime: Regime::Normal, seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let n = 4 * spec.dims[0];
    let (x, y) = (b.input("x", &[n])?, b.normal("y", &[PARTIALS])?);
    b.tolerance = Tolerance::sum(n.div_ceil(partials(b.plan.target, n)));
    Partial { x, y }.record(&mut b.plan, "case")
}
