//! Cases of layer normalisation with all gradients, over an activation and beside a residual.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::embedding::AddPositions;
use crate::kernels::layer_norm::{BackwardInput, BackwardParams, Forward};
use crate::kernels::matmul::Activation;
use crate::kernels::{Dropout, activation, dropout};
use crate::random::Random;

/// dims: rows, cols; flags: RMS normalisation, activation below, residual, a dropout below that another summand goes through.
pub(super) const FAMILY: Family = Family {
    kinks: |spec| spec.flags[1] == 4,
    ..Family::new("layer_norm", spec, 110, build, &[(&[2048, 64], &[0, 0, 0, 0]), (&[2048, 512], &[1, 0, 0, 0])])
};

fn spec(i: usize, random: &mut Random) -> Spec {
    let below = [0, 0, 1, 0, 2, 3, 0, 4][i % 8];
    // A saturated activation leaves nothing to normalise, and of an offset a sum loses more than the normalisation.
    let regimes = [Regime::Normal, Regime::Offset, Regime::Extreme, Regime::Normal, Regime::OneHot];
    let dropped = i / 8 % 3 == 1;
    let regime = if below == 0 && !dropped { regimes[i % 5] } else { Regime::Normal };
    let mut dims = vec![random.pick(&DIMS[..12]), random.pick(&DIMS[1..12])];
    dims[i % 2] = DIMS[(i / 2 + i % 2) % DIMS.len()].max(1 + i % 2);
    // Two columns have a formula of their own; four are a single vector where they are loaded together.
    match i % 20 {
        3 => dims[1] = 2,
        13 => dims[1] = 4,
        _ => {}
    }
    Spec { dims, flags: vec![usize::from(i % 7 > 4), below, usize::from(i % 3 == 1), usize::from(dropped)], regime, seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [rows, cols] = spec.dims[..] else { unreachable!("two sizes") };
    let kind = [Activation::Identity, Activation::Sigmoid, Activation::Gelu, Activation::GeluTanh, Activation::Relu][spec.flags[1]];
    let z = b.input("z", &[rows, cols])?;
    // x = activation(s), s = z + dropout(u).
    let mut s = z;
    let below = if spec.flags[3] == 1 {
        let dropout = Dropout { rate: 0.4, stream: b.plan.stream() };
        let (u, kept) = (b.input("u", &[rows, cols])?, b.output("kept", &[rows, cols])?);
        dropout::Apply { x: u, y: kept, dropout }.record(&mut b.plan, "below")?;
        s = b.output("s", &[rows, cols])?;
        AddPositions { x: z, positions: kept, y: s, cols }.record(&mut b.plan, "below")?;
        Some((u, dropout))
    } else {
        None
    };
    let x = if kind == Activation::Identity { s } else { b.output("x", &[rows, cols])? };
    if x != s {
        activation::Forward { x: s, y: x, kind }.record(&mut b.plan, "below")?;
    }
    let w = b.normal("w", &[cols])?;
    let shift = if spec.flags[0] == 0 { Some(b.normal("b", &[cols])?) } else { None };
    let center = spec.flags[0] == 0;
    let (y, stats) = (b.output("y", &[rows, cols])?, b.output("stats", &[rows, 2])?);
    Forward { x, w, b: shift, y, stats, rows, cols, eps: 1e-5 }.record(&mut b.plan, "case")?;
    // Of two columns all but the share of eps cancels, which is less than what rounding may be of the terms.
    if cols == 2 && center && spec.regime == Regime::Normal && spec.flags[2] == 0 {
        b.tolerance = Tolerance::Nmse(1e-7);
    }
    let dy = b.upstream(y)?;
    let dx = b.output("dx", &[rows, cols])?;
    b.gradient_is(z, dx);
    let derivative = (x != s).then_some((kind, s));
    let residual = if spec.flags[2] == 1 { Some(b.upstream(s)?) } else { None };
    let dropped = match below {
        Some((u, dropout)) => {
            let du = b.output("du", &[rows, cols])?;
            b.gradient_is(u, du);
            Some((dropout, du))
        }
        None => None,
    };
    BackwardInput { x, w, stats, dy, dx, rows, cols, eps: 1e-5, center, derivative, residual, dropped }.record(&mut b.plan, "case")?;
    let dw = b.gradient_summed(w)?;
    let db = shift.map(|shift| b.gradient_summed(shift)).transpose()?;
    BackwardParams { x, stats, dy, dw, db, rows, cols }.record(&mut b.plan, "case")
}
