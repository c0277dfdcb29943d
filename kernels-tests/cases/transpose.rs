//! Cases of exchanged axes and their gradient.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::transpose::Forward;
use crate::random::Random;

/// dims: first, second, cols.
pub(super) const FAMILY: Family = Family::new("transpose", spec, 66, build, &[(&[256, 8, 512], &[])]);

fn spec(i: usize, random: &mut Random) -> Spec {
    let mut dims = vec![random.pick(&DIMS[..10]), random.pick(&DIMS[..10]), random.pick(&DIMS[..10])];
    dims[i % 3] = DIMS[i / 3 % DIMS.len()];
    Spec { dims, flags: vec![], regime: [Regime::Normal, Regime::Extreme][i % 2], seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [first, second, cols] = spec.dims[..] else { unreachable!("three sizes") };
    let x = b.input("x", &[first, second, cols])?;
    let y = b.output("y", &[second, first, cols])?;
    b.tolerance = Tolerance::Exact;
    Forward { x, y, first, second, cols }.record(&mut b.plan, "case")?;
    let dy = b.upstream(y)?;
    let dx = b.gradient(x)?;
    Forward { x: dy, y: dx, first: second, second: first, cols }.record(&mut b.plan, "case")
}
