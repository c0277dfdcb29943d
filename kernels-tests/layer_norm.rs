//! Cases of layer normalisation with all gradients.

use super::{Builder, DIMS, Family, Regime, Spec};
use crate::error::Result;
use crate::kernels::layer_norm::{BackwardInput, BackwardParams, Forward};
use crate::random::Random;

/// dims: rows, cols; flags: RMS normalisation.
pub(super) const FAMILY: Family =
    Family { name: "layer_norm", spec, pinned: 110, build, bench: &[(&[2048, 64], &[0]), (&[2048, 512], &[1])] };

fn spec(i: usize, random: &mut Random) -> Spec {
    let regime = [Regime::Normal, Regime::Offset, Regime::Extreme, Regime::Normal, Regime::OneHot][i % 5];
    let mut dims = vec![random.pick(&DIMS[..12]), random.pick(&DIMS[1..12])];
    dims[i % 2] = DIMS[(i / 2 + i % 2) % DIMS.len()].max(1 + i % 2);
    Spec { dims, flags: vec![usize::from(i % 7 > 4)], regime, seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [rows, cols] = spec.dims[..] else { unreachable!("two sizes") };
    let (x, w) = (b.input("x", &[rows, cols])?, b.normal("w", &[cols])?);
    let shift = if spec.flags[0] == 0 { Some(b.normal("b", &[cols])?) } else { None };
    let center = spec.flags[0] == 0;
    let (y, stats) = (b.output("y", &[rows, cols])?, b.output("stats", &[rows, 2])?);
    Forward { x, w, b: shift, y, stats, rows, cols, eps: 1e-5 }.record(&mut b.plan, "case")?;
    let dy = b.upstream(y)?;
    let dx = b.gradient(x)?;
    let (derivative, residual) = (None, None);
    BackwardInput { x, w, stats, dy, dx, rows, cols, eps: 1e-5, center, derivative, residual }.record(&mut b.plan, "case")?;
    let dw = b.gradient_added(w)?;
    let db = shift.map(|shift| b.gradient_added(shift)).transpose()?;
    BackwardParams { x, stats, dy, dw, db, rows, cols }.record(&mut b.plan, "case")
}
