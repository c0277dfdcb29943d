//! Cases of SwiGLU and its gradient.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::swiglu::{Backward, Forward};
use crate::random::Random;

/// dims: rows, cols.
pub(super) const FAMILY: Family = Family::new("swiglu", spec, 99, build, &[(&[2048, 512], &[])]);

fn spec(i: usize, random: &mut Random) -> Spec {
    let mut dims = vec![random.pick(&DIMS[..12]), random.pick(&DIMS[..12])];
    dims[i % 2] = DIMS[i / 2 % DIMS.len()];
    Spec { dims, flags: vec![], regime: [Regime::Normal, Regime::Extreme, Regime::Normal][i % 3], seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [rows, cols] = spec.dims[..] else { unreachable!("two sizes") };
    let x = b.input("x", &[rows, 2, cols])?;
    let y = b.output("y", &[rows, cols])?;
    Forward { x, y, cols }.record(&mut b.plan, "case")?;
    let dy = b.upstream(y)?;
    let dx = b.gradient(x)?;
    b.tolerance = Tolerance::Magnitude(4e-6);
    Backward { x, dy, dx, cols }.record(&mut b.plan, "case")
}
