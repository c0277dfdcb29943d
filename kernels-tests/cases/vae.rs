//! Cases of the posterior: latents with and without noise, divergence, gradient; padded rows.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::metrics::RECORD;
use crate::kernels::vae::{Backward, Kl, Sample};
use crate::kernels::vector_loss::Slot;
use crate::random::Random;

/// dims: rows, latents; flags: no gradient, padded rows, no noise.
pub(super) const FAMILY: Family = Family::new("vae", spec, 96, build, &[(&[1024, 50], &[0, 0, 0])]);

fn spec(i: usize, random: &mut Random) -> Spec {
    let mut dims = vec![random.pick(&DIMS[..12]), random.pick(&DIMS[..12])];
    dims[i % 2] = DIMS[i / 2 % DIMS.len()];
    Spec { dims, flags: vec![i % 4 / 3, i / 2 % 2, usize::from(i.is_multiple_of(3))], regime: Regime::Normal, seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [rows, cols] = spec.dims[..] else { unreachable!("two sizes") };
    let x = b.input("x", &[rows, 2, cols])?;
    let z = b.output("z", &[rows, cols])?;
    b.tolerance = Tolerance::Nmse(1e-11);
    let noise = (spec.flags[2] == 0).then_some(7);
    if spec.flags[0] == 1 {
        return Sample { x, z, cols, noise }.record(&mut b.plan, "case");
    }
    let counted = if spec.flags[1] == 1 { b.random.between(1, rows as i64) as usize } else { rows };
    (b.state.rows, b.state.scale) = (counted as u32, 0.5);
    let weight = 0.6;
    Sample { x, z, cols, noise }.record(&mut b.plan, "case")?;
    let y = b.normal("y", &[rows, 3])?;
    Kl { x, y, rows, width: cols, cols: 3, term: Slot { weight, column: 2 } }.record(&mut b.plan, "case")?;
    // Every fifth case has a loss scale.
    let scaled = spec.seed % 5 == 2;
    let factor = if scaled { 1.75 } else { 1.0 };
    let scale = if scaled { Some(b.given("records", &[1, RECORD], vec![factor; RECORD])?) } else { None };
    b.weighted(y, (0..3 * rows).map(|i| if i % 3 == 0 && i / 3 < counted { 0.5 * factor / counted as f32 } else { 0.0 }).collect());
    let dz = b.upstream(z)?;
    let dx = b.gradient(x)?;
    Backward { x, dz, dx, cols, noise, weight, scale }.record(&mut b.plan, "case")
}
