//! Cases of the mean kernels and their gradient, with padded rows.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::mmd::Forward;
use crate::kernels::vector_loss::Term;
use crate::random::Random;

/// dims: rows, count; flags: padded rows, adds to its column.
pub(super) const FAMILY: Family = Family { name: "mmd", spec, pinned: 99, build, bench: &[(&[256, 256], &[0, 0])] };

fn spec(i: usize, random: &mut Random) -> Spec {
    let mut dims = vec![random.pick(&DIMS[..12]), random.pick(&DIMS[..12])];
    dims[i % 2] = DIMS[i / 2 % DIMS.len()];
    Spec { dims, flags: vec![i / 3 % 2, i % 2], regime: Regime::Normal, seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [rows, count] = spec.dims[..] else { unreachable!("two sizes") };
    let valid = if spec.flags[0] == 1 { b.random.between(1, rows as i64) as usize } else { rows };
    (b.state.rows, b.state.scale) = (valid as u32, 0.5);
    let products: Vec<f32> = (0..rows * count).map(|_| (2.0 * b.random.uniform() - 1.0) as f32).collect();
    let s = b.given("s", &[rows, count], products)?;
    let y = b.normal("y", &[rows, 3])?;
    let ds = Some(b.gradient(s)?);
    b.weighted(y, (0..3 * rows).map(|i| if i % 3 == 0 && i / 3 < valid { 0.5 / valid as f32 } else { 0.0 }).collect());
    b.tolerance = Tolerance::sum(count + 16);
    let (term, accumulate) = (Term { weight: 0.9, column: 2 }, spec.flags[1] == 1);
    Forward { s, y, ds, rows, count, cols: 3, term, own: false, sign: -2.0, offset: 0.3, sigma: 0.8, accumulate }
        .record(&mut b.plan, "case")
}
