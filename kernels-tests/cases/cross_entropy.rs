//! Cases of the cross-entropies with their gradient.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::cross_entropy::{Forward, Weight};
use crate::random::Random;

/// dims: rows, classes; flags: kind of weight, padded rows.
pub(super) const FAMILY: Family = Family {
    kinks: |spec| (1..=3).contains(&spec.flags[0]) && spec.dims[0] > 7,
    ..Family::new("cross_entropy", spec, 110, build, &[(&[2048, 256], &[1, 0])])
};

fn spec(i: usize, random: &mut Random) -> Spec {
    let mut dims = vec![random.pick(&DIMS[..12]), random.pick(&DIMS[1..18])];
    dims[i % 2] = DIMS[i / 2 % DIMS.len()];
    let regime = [Regime::Normal, Regime::Extreme, Regime::Normal, Regime::OneHot, Regime::Offset][i / 5 % 5];
    Spec { dims, flags: vec![i % 5, i / 5 % 2], regime, seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [rows, cols] = spec.dims[..] else { unreachable!("two sizes") };
    let kinds = [Weight::None, Weight::Linear, Weight::Quadratic, Weight::SquareRoot, Weight::PureDistance];
    let x = b.input("x", &[rows, cols])?;
    let targets = b.ints("targets", &[rows], cols)?;
    let y = b.output("y", &[rows, 4])?;
    let valid = if spec.flags[1] == 1 { b.random.between(1, rows as i64) as usize } else { rows };
    (b.state.rows, b.state.scale) = (valid as u32, (0.5 + b.random.uniform()) as f32);
    let dx = b.gradient(x)?;
    let scale = b.state.scale / valid as f32;
    b.weighted(y, (0..rows * 4).map(|i| if i % 4 == 0 && i / 4 < valid { scale } else { 0.0 }).collect());
    b.tolerance = Tolerance::Magnitude(2e-6);
    let weight = kinds[spec.flags[0]];
    Forward { x, targets, y, dx: Some(dx), rows, cols, weight, alpha: 0.1 }.record(&mut b.plan, "case")
}
