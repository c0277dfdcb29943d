//! Cases of sinusoidal positions.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::positions::Forward;
use crate::random::Random;

/// dims: batch, length, cols.
pub(super) const FAMILY: Family = Family::new("positions", spec, 66, build, &[(&[256, 5, 512], &[])]);

fn spec(i: usize, random: &mut Random) -> Spec {
    let dims = vec![random.pick(&[1, 2, 3]), DIMS[i % DIMS.len()], random.pick(&DIMS[..12])];
    Spec { dims, flags: vec![], regime: Regime::Normal, seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [batch, length, cols] = spec.dims[..] else { unreachable!("three sizes") };
    let x = b.input("x", &[batch * length, cols])?;
    let y = b.output("y", &[batch * length, cols])?;
    // The rounding of the frequency counts t times over.
    b.tolerance = if length < 20 { Tolerance::Nmse(1e-12) } else { Tolerance::Nmse(1e-8) };
    Forward { x, y, cols, length }.record(&mut b.plan, "case")
}
