//! Cases of dropout: forward, and backward as the same function of dy.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::Dropout;
use crate::kernels::dropout::Apply;
use crate::random::Random;

/// dims: n.
pub(super) const FAMILY: Family = Family::new("dropout", spec, 96, build, &[(&[1048576], &[0])]);

fn spec(i: usize, random: &mut Random) -> Spec {
    let n = DIMS[i % DIMS.len()] * random.pick(&[1, 3, 64]);
    Spec { dims: vec![n], flags: vec![i % 4], regime: [Regime::Normal, Regime::Extreme][i / 2 % 2], seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let n = spec.dims[0];
    let dropout = Dropout { rate: [0.1, 0.5, 0.0, 0.9][spec.flags[0]], stream: 40 };
    let (x, y) = (b.input("x", &[n])?, b.output("y", &[n])?);
    Apply { x, y, dropout }.record(&mut b.plan, "case")?;
    let dy = b.upstream(y)?;
    let dx = b.gradient(x)?;
    b.tolerance = Tolerance::Magnitude(2e-7);
    b.plan.begin(crate::plan::Section::Backward);
    Apply { x: dy, y: dx, dropout }.record(&mut b.plan, "case")
}
