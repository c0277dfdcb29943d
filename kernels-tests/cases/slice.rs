//! Cases of picked rows and their gradient.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::slice::{Backward, Forward, Rows};
use crate::random::Random;

/// dims: picked, cols, stride, first, rows after the last; flags: the last rows of sequences of `stride` rows and unequal lengths.
pub(super) const FAMILY: Family = Family::new("slice", spec, 99, build, &[(&[256, 512, 5, 5, 1], &[0])]);

fn spec(i: usize, random: &mut Random) -> Spec {
    let mut dims = vec![random.pick(&DIMS[..9]), random.pick(&DIMS[..9]), random.between(1, 7) as usize, random.between(1, 4) as usize];
    dims[i % 2] = DIMS[i / 2 % DIMS.len()];
    dims.push(random.between(1, 4) as usize);
    Spec { dims, flags: vec![usize::from(i % 3 == 2)], regime: [Regime::Normal, Regime::Extreme][i % 2], seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [picked, cols, stride, first, after] = spec.dims[..] else { unreachable!("five sizes") };
    let last = spec.flags[0] == 1;
    let (first, after) = if last { (stride, 1) } else { (first, after) };
    let lengths = (0..picked).map(|_| b.random.between(1, stride as i64) as u32).collect();
    let lengths = if last { Some(b.words("lengths", &[picked], lengths)?) } else { None };
    let rows = (first - 1) + (picked - 1) * stride + after;
    let rows = Rows { rows, cols, picked, first: first - 1, stride };
    let x = b.input("x", &[rows.rows, cols])?;
    let y = b.output("y", &[picked, cols])?;
    Forward { x, y, rows, lengths }.record(&mut b.plan, "case")?;
    let dy = b.upstream(y)?;
    let dx = b.gradient(x)?;
    b.tolerance = Tolerance::Exact;
    Backward { dy, dx, rows, lengths }.record(&mut b.plan, "case")
}
