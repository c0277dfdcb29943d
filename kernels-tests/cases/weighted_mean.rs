//! Cases of the mean over positions by weight, with the gradients of scores and values.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::weighted_mean::{Backward, Forward, Sizes, Weights};
use crate::random::Random;

/// dims: batch, length, heads, features of a head; flags: sequences of unequal length.
pub(super) const FAMILY: Family = Family::new("weighted_mean", spec, 96, build, &[(&[256, 64, 1, 256], &[0])]);

fn spec(i: usize, random: &mut Random) -> Spec {
    let mut dims = vec![random.pick(&DIMS[..7]), random.pick(&DIMS[..9]), random.pick(&[1, 2, 3, 8]), random.pick(&DIMS[..9])];
    dims[[1, 3][i % 2]] = DIMS[i / 2 % 14];
    let regime = [Regime::Normal, Regime::OneHot, Regime::Normal][i % 3];
    Spec { dims, flags: vec![i / 4 % 2], regime, seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [batch, length, heads, width] = spec.dims[..] else { unreachable!("four sizes") };
    let sizes = Sizes { batch, length, heads, cols: heads * width };
    let (s, x) = (b.input("s", &[batch, length, heads])?, b.normal("x", &[batch, length, sizes.cols])?);
    let (a, y) = (b.output("a", &[batch, length, heads])?, b.output("y", &[batch, sizes.cols])?);
    let lengths = (0..batch).map(|_| b.random.between(1, length as i64) as u32).collect();
    let lengths = if spec.flags[0] == 1 { Some(b.words("lengths", &[batch], lengths)?) } else { None };
    b.tolerance = Tolerance::sum(length + width + 8);
    Weights { s, a, lengths, sizes }.record(&mut b.plan, "case")?;
    Forward { a, x, y, sizes }.record(&mut b.plan, "case")?;
    let dy = b.upstream(y)?;
    let (ds, dx) = (b.gradient(s)?, b.gradient(x)?);
    Backward { a, x, y, dy, ds, dx, sizes }.record(&mut b.plan, "case")
}
