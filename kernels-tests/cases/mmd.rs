//! Cases of the mean kernels and their gradient, with padded rows, between two sets and within one.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::matmul::Matmul;
use crate::kernels::mmd::Forward;
use crate::kernels::vector_loss::Slot;
use crate::plan::Section;
use crate::random::Random;

/// dims: rows, count; flags: padded rows, adds to its column, products of the rows with themselves.
pub(super) const FAMILY: Family = Family::new("mmd", spec, 99, build, &[(&[256, 256], &[0, 0, 0])]);

fn spec(i: usize, random: &mut Random) -> Spec {
    let mut dims = vec![random.pick(&DIMS[..12]), random.pick(&DIMS[..12])];
    dims[i % 2] = DIMS[i / 2 % DIMS.len()];
    let own = i % 5 / 3;
    if own == 1 {
        dims = vec![dims[i % 2]; 2];
    }
    Spec { dims, flags: vec![i / 3 % 2, i % 2, own], regime: Regime::Normal, seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [rows, count] = spec.dims[..] else { unreachable!("two sizes") };
    let valid = if spec.flags[0] == 1 { b.random.between(1, rows as i64) as usize } else { rows };
    (b.state.rows, b.state.scale) = (valid as u32, 0.5);
    let own = spec.flags[2] == 1;
    let s = if own {
        b.output("s", &[rows, rows])?
    } else {
        // Below 1, where the kernel has its kink.
        let products: Vec<f32> = (0..rows * count).map(|_| (1.9 * b.random.uniform() - 1.0) as f32).collect();
        b.given("s", &[rows, count], products)?
    };
    let y = b.normal("y", &[rows, 3])?;
    b.weighted(y, (0..3 * rows).map(|i| if i % 3 == 0 && i / 3 < valid { 0.5 / valid as f32 } else { 0.0 }).collect());
    b.tolerance = Tolerance::sum(count + 16);
    let (term, accumulate) = (Slot { weight: 0.9, column: 2 }, spec.flags[1] == 1);
    let forward = |ds| Forward { s, y, ds, rows, count, cols: 3, term, own, sign: -2.0, offset: 0.3, sigma: 0.8, accumulate };
    if !own {
        let ds = Some(b.gradient(s)?);
        return forward(ds).record(&mut b.plan, "case");
    }
    // The gradient within one set is that by its vectors, each of which stands on both sides of the products.
    let width = 3;
    // Inside the unit ball, where products are below 1.
    let mut vectors: Vec<f32> = (0..rows * width).map(|_| b.random.normal() as f32 / 2.0).collect();
    for vector in vectors.chunks_mut(width) {
        let norm = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
        vector.iter_mut().for_each(|v| *v *= 0.95 / norm.max(0.95));
    }
    let x = b.given("x", &[rows, width], vectors)?;
    let (ds, dx) = (b.output("ds", &[rows, rows])?, b.gradient(x)?);
    Matmul { trans_b: true, ..Matmul::new(x, x, s, (rows, rows, width)) }.record(&mut b.plan, "products")?;
    forward(Some(ds)).record(&mut b.plan, "case")?;
    b.plan.begin(Section::Backward);
    Matmul::new(ds, x, dx, (rows, width, rows)).record(&mut b.plan, "backward")
}
