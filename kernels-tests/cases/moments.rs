//! Cases of column statistics, both losses made of them and their gradients, with padded rows.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::moments::{Backward, Forward, Value};
use crate::kernels::vector_loss::Slot;
use crate::random::Random;

/// dims: rows, width; flags: other statistics, padded rows, adds to the gradient.
pub(super) const FAMILY: Family = Family::new("moments", spec, 99, build, &[(&[256, 768], &[1, 0, 0])]);

fn spec(i: usize, random: &mut Random) -> Spec {
    let mut dims = vec![random.pick(&DIMS[2..12]), random.pick(&DIMS[..12])];
    dims[i % 2] = DIMS[(i / 2) % DIMS.len()].max(2 - i % 2);
    let regime = [Regime::Normal, Regime::Offset, Regime::Normal][i % 3];
    Spec { dims, flags: vec![i % 2, i / 2 % 2, i / 4 % 2], regime, seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [rows, width] = spec.dims[..] else { unreachable!("two sizes") };
    let rows = rows.max(2);
    let valid = if spec.flags[1] == 1 { b.random.between(2, rows as i64) as usize } else { rows };
    (b.state.rows, b.state.scale) = (valid as u32, 0.5);
    // Deviations on both sides of the hinge at 1.
    let drawn = b.random.normal() as f32;
    let offset = if spec.regime == Regime::Offset { 100.0 } else { 0.0 };
    let mut values: Vec<f32> =
        (0..rows * width).map(|i| offset + (0.5 + (i % width % 3) as f32 * 0.6) * b.random.normal() as f32 + drawn).collect();
    // A column that does not vary: its deviation has no slope.
    if spec.seed % 4 == 1 {
        values.iter_mut().step_by(width).for_each(|v| *v = 0.75);
    }
    let x = b.given("x", &[rows, width], values)?;
    let (stats, y) = (b.output("stats", &[2, width])?, b.normal("y", &[rows, 3])?);
    let other = if spec.flags[0] == 1 { Some(b.normal("other", &[2, width])?) } else { None };
    Forward { x, stats, rows, width }.record(&mut b.plan, "case")?;
    let weight = 0.8;
    Value { stats, other, y, rows, width, cols: 3, term: Slot { weight, column: 2 } }.record(&mut b.plan, "case")?;
    b.weighted(y, (0..3 * rows).map(|i| if i % 3 == 0 && i / 3 < valid { 0.5 / valid as f32 } else { 0.0 }).collect());
    let accumulate = spec.flags[2] == 1;
    let dx = if accumulate { b.gradient_added(x)? } else { b.gradient(x)? };
    b.tolerance = if spec.regime == Regime::Offset { Tolerance::Nmse(1e-8) } else { Tolerance::Nmse(1e-10) };
    Backward { x, stats, other, dx, rows, width, weight, accumulate }.record(&mut b.plan, "case")
}
