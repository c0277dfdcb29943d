//! Cases of gathered rows: both widths, both orders.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::gather::Forward;
use crate::random::Random;

/// dims: samples, batch, length, cols; flags: half, time major.
pub(super) const FAMILY: Family = Family::new("gather", spec, 66, build, &[(&[1024, 128, 5, 768], &[1, 0])]);

fn spec(i: usize, random: &mut Random) -> Spec {
    let dims = vec![random.pick(&DIMS[..9]), DIMS[i % 14], random.pick(&[1, 2, 5]), random.pick(&DIMS[..12])];
    Spec { dims, flags: vec![i % 2, i / 2 % 2], regime: Regime::Normal, seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [samples, batch, length, cols] = spec.dims[..] else { unreachable!("four sizes") };
    let (half, time_major) = (spec.flags[0] == 1, spec.flags[1] == 1);
    let values: Vec<f64> = (0..samples * length * cols + 1).map(|_| b.random.normal()).collect();
    let bits = |v: f64| u32::from(half::f16::from_f64(v).to_bits());
    let words: Vec<u32> = match half {
        true => values[..samples * length * cols].chunks(2).map(|p| bits(p[0]) | bits(*p.last().unwrap_or(&0.0)) << 16).collect(),
        false => values[..samples * length * cols].iter().map(|v| (*v as f32).to_bits()).collect(),
    };
    let x = b.words("x", &[words.len()], words)?;
    let index = b.ints("index", &[batch], samples)?;
    let y = b.output("y", &[batch, length, cols])?;
    b.exact(y);
    b.tolerance = Tolerance::Exact;
    Forward { x, index, y, samples, length, cols, half, time_major }.record(&mut b.plan, "case")
}
