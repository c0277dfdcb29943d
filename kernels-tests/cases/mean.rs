//! Cases of the mean over positions and its gradient.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::mean::{Backward, Forward};
use crate::random::Random;

/// dims: batch, length, cols; flags: sequences of unequal length.
pub(super) const FAMILY: Family = Family::new("mean", spec, 66, build, &[(&[1024, 5, 768], &[0])]);

fn spec(i: usize, random: &mut Random) -> Spec {
    let dims = vec![random.pick(&DIMS[..9]), DIMS[i % 14], random.pick(&DIMS[..12])];
    Spec { dims, flags: vec![i / 2 % 2], regime: [Regime::Normal, Regime::Offset, Regime::Extreme][i % 3], seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [batch, length, cols] = spec.dims[..] else { unreachable!("three sizes") };
    let x = b.input("x", &[batch, length, cols])?;
    let y = b.output("y", &[batch, cols])?;
    let lengths = (0..batch).map(|_| b.random.between(1, length as i64) as u32).collect();
    let lengths = if spec.flags[0] == 1 { Some(b.words("lengths", &[batch], lengths)?) } else { None };
    b.tolerance = Tolerance::sum(length);
    Forward { x, y, batch, length, cols, lengths }.record(&mut b.plan, "case")?;
    let dy = b.upstream(y)?;
    let dx = b.gradient(x)?;
    Backward { dy, dx, batch, length, cols, lengths }.record(&mut b.plan, "case")
}
