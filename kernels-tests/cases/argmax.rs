//! Cases of argmax, ties included.

use super::{Builder, DIMS, Family, Regime, Spec};
use crate::error::Result;
use crate::kernels::argmax::Forward;
use crate::random::Random;

/// dims: rows, cols.
pub(super) const FAMILY: Family = Family::new("argmax", spec, 66, build, &[(&[2048, 256], &[])]);

fn spec(i: usize, random: &mut Random) -> Spec {
    let mut dims = vec![random.pick(&DIMS[..14]), random.pick(&DIMS[1..14])];
    dims[i % 2] = DIMS[i / 2 % DIMS.len()];
    let regime = [Regime::Normal, Regime::OneHot, Regime::Extreme][i % 3];
    Spec { dims, flags: vec![], regime, seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [rows, cols] = spec.dims[..] else { unreachable!("two sizes") };
    let (x, y) = (b.input("x", &[rows, cols])?, b.output("y", &[rows])?);
    b.exact(y);
    Forward { x, y, rows, cols }.record(&mut b.plan, "case")
}
