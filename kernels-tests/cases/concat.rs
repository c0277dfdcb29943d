//! Cases of rows beside each other and their gradient.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::concat::{Backward, Forward, Sides};
use crate::random::Random;

/// dims: rows, columns of the left side, columns of the right side.
pub(super) const FAMILY: Family = Family::new("concat", spec, 66, build, &[(&[2048, 256, 256], &[])]);

fn spec(i: usize, random: &mut Random) -> Spec {
    let mut dims = vec![random.pick(&DIMS[..10]), random.pick(&DIMS[..10]), random.pick(&DIMS[..10])];
    dims[i % 3] = DIMS[i / 3 % DIMS.len()];
    Spec { dims, flags: vec![], regime: [Regime::Normal, Regime::Extreme][i % 2], seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [rows, left, right] = spec.dims[..] else { unreachable!("three sizes") };
    let sides = Sides { rows, left, right };
    let (a, c) = (b.input("a", &[rows, left])?, b.input("b", &[rows, right])?);
    let y = b.output("y", &[rows, left + right])?;
    b.tolerance = Tolerance::Exact;
    Forward { a, b: c, y, sides }.record(&mut b.plan, "case")?;
    let dy = b.upstream(y)?;
    let (da, db) = (b.gradient(a)?, b.gradient(c)?);
    Backward { dy, da, db, sides }.record(&mut b.plan, "case")
}
