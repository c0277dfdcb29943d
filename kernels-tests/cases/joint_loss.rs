//! Cases of the loss of joints: both penalties, masks of any length, padded rows.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::joint_loss::{Rows, columns};
use crate::random::Random;

/// dims: batch, joints, first, tokens after the last; flags: Huber, padded rows, no stop term.
pub(super) const FAMILY: Family =
    Family { kinks: |spec| spec.flags[0] == 1, ..Family::new("joint_loss", spec, 96, build, &[(&[4096, 8, 3, 1], &[1, 0, 0])]) };

fn spec(i: usize, random: &mut Random) -> Spec {
    let dims = vec![DIMS[i % 21], random.between(1, 9) as usize, random.between(1, 4) as usize, random.between(1, 3) as usize];
    let regime = [Regime::Normal, Regime::Normal, Regime::Extreme][i % 3];
    Spec { dims, flags: vec![i % 2, i / 2 % 2, usize::from(i.is_multiple_of(5))], regime, seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [batch, joints, first, after] = spec.dims[..] else { unreachable!("four sizes") };
    let (first, length) = (first - 1, first - 1 + joints + after - 1);
    let counted = if spec.flags[1] == 1 { b.random.between(1, batch as i64) as usize } else { batch };
    let lengths: Vec<usize> = (0..batch).map(|_| b.random.between(1, joints as i64) as usize).collect();
    let valid: usize = lengths[..counted].iter().sum();
    (b.state.rows, b.state.count, b.state.scale) = ((counted * joints) as u32, valid as u32, 0.5);
    let bits = |i: usize| i % joints < lengths[i / joints];
    let mask = (0..batch * joints).map(|i| f32::from(u8::from(bits(i)))).collect();
    let stop_weight = if spec.flags[2] == 1 { 0.0 } else { 0.7 };
    let cols = columns(stop_weight).len();
    let x = b.input("x", &[batch, length, 3])?;
    let (t, mask) = (b.normal("t", &[batch, joints, 2])?, b.given("mask", &[batch, joints], mask)?);
    let deviation = b.given("deviation", &[2], vec![4.5, 3.25])?;
    let y = b.output("y", &[batch * joints, cols])?;
    let dx = Some(b.gradient(x)?);
    let weigh = |i: usize| if i.is_multiple_of(cols) && i / cols < counted * joints && bits(i / cols) { 0.5 / valid as f32 } else { 0.0 };
    b.weighted(y, (0..batch * joints * cols).map(weigh).collect());
    b.tolerance = Tolerance::Magnitude(2e-6);
    let huber = (spec.flags[0] == 1).then_some(0.8);
    Rows { x, t, mask, deviation, y, dx, batch, length, joints, first, huber, stop_weight }.record(&mut b.plan, "case")
}
