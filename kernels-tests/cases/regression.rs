//! Cases of the losses of predicted numbers: every penalty, masks, padded rows.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::regression::{Penalty, Rows};
use crate::random::Random;

/// dims: rows, width; flags: penalty (0 squared, 1 absolute, 2 Huber), mask, padded rows, without a gradient.
pub(super) const FAMILY: Family = Family {
    kinks: |spec| spec.flags[0] > 0,
    ..Family::new("regression", spec, 108, build, &[(&[4096, 12], &[0, 0, 0, 0]), (&[1024, 768], &[2, 1, 0, 0])])
};

fn spec(i: usize, random: &mut Random) -> Spec {
    let mut dims = vec![random.pick(&DIMS[..12]), random.pick(&DIMS[..12])];
    dims[i % 2] = DIMS[i / 2 % DIMS.len()];
    let flags = vec![i % 3, i / 3 % 2, i / 6 % 2, usize::from(i % 11 == 10)];
    Spec { dims, flags, regime: [Regime::Normal, Regime::Normal, Regime::Extreme][i / 2 % 3], seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [rows, width] = spec.dims[..] else { unreachable!("two sizes") };
    let (x, t) = (b.input("x", &[rows, width])?, b.normal("t", &[rows, width])?);
    let valid = if spec.flags[2] == 1 { b.random.between(1, rows as i64) as usize } else { rows };
    // The first row counts, so that there is something to divide by.
    let masked = spec.flags[1] == 1;
    let counts: Vec<bool> = (0..rows).map(|row| row < valid && (row == 0 || !masked || b.random.between(0, 2) > 0)).collect();
    let counted = counts.iter().filter(|counts| **counts).count();
    (b.state.rows, b.state.count, b.state.scale) = (valid as u32, counted as u32, 0.5);
    let mask = counts.iter().map(|counts| f32::from(u8::from(*counts))).collect();
    let mask = if masked { Some(b.given("mask", &[rows], mask)?) } else { None };
    let y = b.output("y", &[rows, 3])?;
    let dx = if spec.flags[3] == 1 { None } else { Some(b.gradient(x)?) };
    b.weighted(y, (0..rows * 3).map(|i| if i % 3 == 0 && counts[i / 3] { 0.5 / counted as f32 } else { 0.0 }).collect());
    // Sums are taken in blocks of 32.
    b.tolerance = Tolerance::sum(width.min(32 + width.div_ceil(32)) + 4);
    let penalty = [Penalty::Squared, Penalty::Absolute, Penalty::Huber(0.75)][spec.flags[0]];
    Rows { x, t, mask, y, dx, rows, width, penalty }.record(&mut b.plan, "case")
}
