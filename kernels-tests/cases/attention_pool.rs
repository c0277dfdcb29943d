//! Cases of attention pooling with the gradients of query and keys.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::attention_pool::{Backward, Forward};
use crate::random::Random;

/// dims: rows, length, features, cols.
pub(super) const FAMILY: Family = Family::new("attention_pool", spec, 99, build, &[(&[1024, 5, 256, 768], &[])]);

fn spec(i: usize, random: &mut Random) -> Spec {
    let mut dims = vec![random.pick(&DIMS[..9]), random.pick(&[1, 2, 5, 7]), random.pick(&DIMS[..9]), random.pick(&DIMS[..9])];
    dims[[0, 2, 3][i % 3]] = DIMS[i / 3 % 19];
    let regime = [Regime::Normal, Regime::OneHot, Regime::Normal][i % 3];
    Spec { dims, flags: vec![], regime, seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [rows, length, features, cols] = spec.dims[..] else { unreachable!("four sizes") };
    let (q, k) = (b.input("q", &[rows, features])?, b.input("k", &[rows, length, features])?);
    let (x, shift) = (b.input("x", &[rows, length, cols])?, b.normal("b", &[rows, cols])?);
    let (a, y) = (b.output("a", &[rows, length])?, b.output("y", &[rows, 2, cols])?);
    Forward { q, k, x, b: shift, a, y, rows, length, features, cols }.record(&mut b.plan, "case")?;
    let dy = b.upstream(y)?;
    let (dq, dk) = (b.gradient(q)?, b.gradient(k)?);
    b.tolerance = Tolerance::sum(features + cols + 8);
    Backward { q, k, x, a, dy, dq, dk, rows, length, features, cols }.record(&mut b.plan, "case")
}
