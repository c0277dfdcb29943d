//! Cases of the loss scale: after a step that was made and after one that was skipped, at both ends of its range.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::loss_scale::Apply;
use crate::kernels::metrics::{RECORD, SKIPPED};
use crate::random::Random;

/// dims: n, slots; flags: the step before was skipped, which scale it had.
pub(super) const FAMILY: Family = Family::new("loss_scale", spec, 66, build, &[(&[65536, 256], &[0, 0])]);

fn spec(i: usize, random: &mut Random) -> Spec {
    let dims = vec![DIMS[i % DIMS.len()], random.between(2, 5) as usize];
    Spec { dims, flags: vec![i % 2, i / 2 % 4], regime: Regime::Normal, seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [n, slots] = spec.dims[..] else { unreachable!("two sizes") };
    let x = b.input("x", &[n])?;
    let mut kept = b.draw(Regime::Normal, slots * RECORD);
    b.state.slot = b.random.between(0, slots as i64 - 1) as u32;
    let before = (b.state.slot as usize + slots - 1) % slots * RECORD;
    kept[before + SKIPPED] = spec.flags[0] as f32;
    kept[before + 3] = [4096.0, 1.5, 16_777_216.0, 0.75][spec.flags[1]];
    let records = b.given("records", &[slots, RECORD], kept)?;
    b.tolerance = Tolerance::Magnitude(4.0 * f64::from(f32::EPSILON));
    Apply { x, records }.record(&mut b.plan, "case")
}
