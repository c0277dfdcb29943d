//! Cases of InfoNCE and its gradient, with padded rows.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::infonce::{Backward, Forward};
use crate::kernels::vector_loss::Slot;
use crate::random::Random;

/// dims: rows; flags: padded rows.
pub(super) const FAMILY: Family = Family::new("infonce", spec, 96, build, &[(&[256], &[0])]);

fn spec(i: usize, random: &mut Random) -> Spec {
    let dims = vec![DIMS[i % 20]];
    let regime = if i < 20 { Regime::Normal } else { [Regime::Normal, Regime::OneHot][i % 2] };
    let _ = random;
    Spec { dims, flags: vec![i / 20 % 2], regime, seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [rows] = spec.dims[..] else { unreachable!("one size") };
    let s = b.input("s", &[rows, rows])?;
    let valid = if spec.flags[0] == 1 { b.random.between(1, rows as i64) as usize } else { rows };
    (b.state.rows, b.state.scale) = (valid as u32, 0.5);
    let (lse, y) = (b.output("lse", &[rows, 2])?, b.normal("y", &[rows, 3])?);
    let (weight, temperature) = (0.6, [0.07f32, 0.5][spec.seed as usize % 2].into());
    Forward { s, lse, y, rows, cols: 3, term: Slot { weight, column: 2 }, temperature }.record(&mut b.plan, "case")?;
    b.weighted(y, (0..3 * rows).map(|i| if i % 3 == 0 && i / 3 < valid { 0.5 / valid as f32 } else { 0.0 }).collect());
    let ds = b.gradient(s)?;
    // Logits of size 1/τ lose that many digits in the exponential.
    b.tolerance = Tolerance::Nmse(1e-9);
    Backward { s, lse, ds, rows, weight, temperature }.record(&mut b.plan, "case")
}
