//! Cases of the metric records.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::metrics::{Accumulate, RECORD};
use crate::random::Random;

/// dims: rows, cols, slots; flags: adds to the record, padded rows.
pub(super) const FAMILY: Family = Family::new("metrics", spec, 66, build, &[(&[2048, 4, 1], &[0, 0])]);

fn spec(i: usize, random: &mut Random) -> Spec {
    let dims = vec![DIMS[i % DIMS.len()], random.between(1, 11) as usize, random.between(1, 5) as usize];
    Spec { dims, flags: vec![i % 2, i / 2 % 2], regime: Regime::Normal, seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [rows, cols, slots] = spec.dims[..] else { unreachable!("three sizes") };
    let x = b.input("x", &[rows, cols])?;
    let records = b.normal("records", &[slots, RECORD])?;
    b.state.slot = b.random.between(0, slots as i64 - 1) as u32;
    b.state.micro_step = spec.flags[0] as u32;
    b.state.rows = if spec.flags[1] == 1 { b.random.between(0, rows as i64) as u32 } else { rows as u32 };
    b.state.count = b.random.between(0, b.state.rows.into()) as u32;
    b.tolerance = Tolerance::sum(rows);
    Accumulate { x, records, rows, cols }.record(&mut b.plan, "case")
}
