//! Cases of exchanged axes and their gradient.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::transpose::{Forward, Reverse};
use crate::random::Random;

/// dims: first, second, cols; flags: axis that goes backwards (0 none, 1 the second, 2 the first), sequences of unequal length.
pub(super) const FAMILY: Family = Family {
    // Lengths are those of the axis that goes backwards.
    allows: |options| options != [("LENGTHS", 1), ("REVERSE", 0)],
    ..Family::new("transpose", spec, 66, build, &[(&[256, 8, 512], &[0, 0]), (&[256, 8, 512], &[1, 1])])
};

fn spec(i: usize, random: &mut Random) -> Spec {
    let mut dims = vec![random.pick(&DIMS[..10]), random.pick(&DIMS[..10]), random.pick(&DIMS[..10])];
    dims[i % 3] = DIMS[i / 3 % DIMS.len()];
    Spec { dims, flags: vec![i % 3, i / 2 % 2], regime: [Regime::Normal, Regime::Extreme][i % 2], seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [first, second, cols] = spec.dims[..] else { unreachable!("three sizes") };
    let x = b.input("x", &[first, second, cols])?;
    let y = b.output("y", &[second, first, cols])?;
    let (reverse, back) =
        [(Reverse::None, Reverse::None), (Reverse::Second, Reverse::First), (Reverse::First, Reverse::Second)][spec.flags[0]];
    let (batch, length) = if reverse == Reverse::First { (second, first) } else { (first, second) };
    let lengths = (0..batch).map(|_| b.random.between(1, length as i64) as u32).collect();
    let lengths = if spec.flags[1] == 1 && spec.flags[0] > 0 { Some(b.words("lengths", &[batch], lengths)?) } else { None };
    b.tolerance = Tolerance::Exact;
    Forward { x, y, first, second, cols, reverse, lengths }.record(&mut b.plan, "case")?;
    let dy = b.upstream(y)?;
    let dx = b.gradient(x)?;
    Forward { x: dy, y: dx, first: second, second: first, cols, reverse: back, lengths }.record(&mut b.plan, "case")
}
