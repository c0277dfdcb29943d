//! Cases of the GRU cell over whole sequences, with its recurrent products and all gradients.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::gru::{Backward, Forward};
use crate::kernels::lstm::Shape;
use crate::kernels::matmul::Matmul;
use crate::plan::Section;
use crate::random::Random;

/// dims: length, batch, units; flags: residual.
pub(super) const FAMILY: Family = Family::new("gru", spec, 99, build, &[(&[5, 64, 512], &[0])]);

fn spec(i: usize, random: &mut Random) -> Spec {
    let mut dims = vec![random.pick(&[1, 2, 3, 5]), random.pick(&DIMS[..6]), random.pick(&DIMS[..10])];
    if i.is_multiple_of(3) {
        dims[1 + i / 3 % 2] = DIMS[i / 6 % 17];
    }
    let regime = [Regime::Normal, Regime::Normal, Regime::OneHot, Regime::Extreme][i % 4];
    Spec { dims, flags: vec![i % 2], regime, seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [length, batch, units] = spec.dims[..] else { unreachable!("three sizes") };
    let shape = Shape { length, batch, units };
    let gx = b.input("gx", &[length, batch, 3, units])?;
    let first_u = b.normal("bias", &[3, units])?;
    let scale = 1.0 / (units as f32).sqrt();
    let values: Vec<f32> = (0..3 * units * units).map(|_| b.random.normal() as f32 * scale).collect();
    let w = b.given("w", &[3 * units, units], values)?;
    let residual = if spec.flags[0] == 1 { Some(b.normal("residual", &[length, batch, units])?) } else { None };
    let (gates, h) = (b.output("gates", &[length, batch, 4, units])?, b.output("h", &[length + 1, batch, units])?);
    let y = b.output("y", &[length, batch, units])?;
    for t in 0..length {
        let u = match t {
            0 => first_u,
            _ => b.output(&format!("u{t}"), &[batch, 3, units])?,
        };
        if t > 0 {
            let a_at = Some(t * batch * units);
            Matmul { a_at, trans_b: true, bias: Some(first_u), ..Matmul::new(h, w, u, (batch, 3 * units, units)) }
                .record(&mut b.plan, "case")?;
        }
        Forward { gx, u, residual, gates, h, y, first: t == 0, t, shape }.record(&mut b.plan, "case")?;
    }
    let dy = b.upstream(y)?;
    let (direct, dgx) = (b.output("direct", &[batch, units])?, b.output("dgx", &[length, batch, 3, units])?);
    let du = b.output("du", &[length, batch, 3, units])?;
    b.gradient_is(gx, dgx);
    // The bias enters each step's product once for each sequence: its gradient is the sum of du.
    let ones = b.given("ones", &[1, length * batch], vec![1.0; length * batch])?;
    let dbias = b.gradient(first_u)?;
    b.tolerance = Tolerance::Nmse(1e-9);
    b.plan.begin(Section::Backward);
    for t in (0..length).rev() {
        let dh = if t + 1 < length {
            let dh = b.output(&format!("dh{t}"), &[batch, units])?;
            let a_at = Some((t + 1) * batch * 3 * units);
            Matmul { a_at, ..Matmul::new(du, w, dh, (batch, units, 3 * units)) }.record(&mut b.plan, "backward")?;
            Some(dh)
        } else {
            None
        };
        Backward { gates, h, dy, dh, direct, dgx, du, t, shape }.record(&mut b.plan, "backward")?;
    }
    Matmul::new(ones, du, dbias, (1, 3 * units, length * batch)).record(&mut b.plan, "backward")
}
