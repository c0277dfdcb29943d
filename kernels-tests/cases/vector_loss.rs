//! Cases of the row-wise losses of vectors, with padded rows.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::vector_loss::{On, Rows, Slot};
use crate::random::Random;

/// dims: rows, width; flags: squared error (0 none, 1 raw, 2 normalised), cosine, cycle (0 none, 1 on, 2 off), padded rows, without a
/// gradient.
pub(super) const FAMILY: Family = Family::new("vector_loss", spec, 108, build, &[(&[1024, 768], &[1, 1, 0, 0, 0])]);

fn spec(i: usize, random: &mut Random) -> Spec {
    let mut dims = vec![random.pick(&DIMS[..10]), random.pick(&DIMS[2..12])];
    dims[i % 2] = DIMS[2..][(i / 2 + i % 2) % (DIMS.len() - 2)];
    Spec { dims, flags: vec![i % 3, i / 3 % 2, i / 6 % 3, i / 18 % 2, usize::from(i % 11 == 10)], regime: Regime::Normal, seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [rows, width] = spec.dims[..] else { unreachable!("two sizes") };
    let (x, t) = (b.input("x", &[rows, width])?, b.normal("t", &[rows, width])?);
    let valid = if spec.flags[3] == 1 { b.random.between(1, rows as i64) as usize } else { rows };
    (b.state.rows, b.state.scale, b.state.drawn) = (valid as u32, 0.5, if spec.flags[2] == 1 { 1.0 } else { 0.0 });
    let mut cols = 2;
    let mut term = |weight| {
        cols += 1;
        Slot { weight, column: cols - 1 }
    };
    let mse = (spec.flags[0] > 0).then(|| ([On::Raw, On::Normalized][spec.flags[0] - 1], term(0.7)));
    let cosine = (spec.flags[1] > 0).then(|| term(1.3));
    let cycle = (spec.flags[2] > 0).then(|| term(0.4));
    let cycle = cycle.map(|term| Ok::<_, crate::error::Error>((b.normal("nearest", &[rows, width])?, term))).transpose()?;
    let y = b.output("y", &[rows, cols])?;
    let dx = if spec.flags[4] == 1 { None } else { Some(b.gradient(x)?) };
    let weights = (0..rows * cols).map(|i| if i % cols == 0 && i / cols < valid { 0.5 / valid as f32 } else { 0.0 }).collect();
    b.weighted(y, weights);
    // Sums are taken in blocks of 32.
    b.tolerance = Tolerance::sum(width.min(32 + width.div_ceil(32)) + 16);
    Rows { x, t, y, dx, rows, width, cols, mse, cosine, cycle }.record(&mut b.plan, "case")
}
