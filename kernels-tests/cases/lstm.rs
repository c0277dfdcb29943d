//! Cases of the LSTM cell over whole sequences, with its recurrent products and all gradients.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::Dropout;
use crate::kernels::lstm::{Backward, Before, Forward, Shape};
use crate::kernels::matmul::Matmul;
use crate::plan::Section;
use crate::random::Random;

/// dims: length, batch, units; flags: outputs of all steps, dropout, carried state.
pub(super) const FAMILY: Family = Family {
    // Only an output has dropout, and only a step before the last has none.
    allows: |[(a, x), (b, y)]| match (a, b) {
        ("DROPOUT", "OUTPUT") => (x, y) != (1, 0),
        ("LATER", "OUTPUT") => (x, y) != (0, 0),
        _ => true,
    },
    ..Family::new("lstm", spec, 99, build, &[(&[5, 64, 512], &[1, 0, 0])])
};

fn spec(i: usize, random: &mut Random) -> Spec {
    let mut dims = vec![random.pick(&[1, 2, 3, 5]), random.pick(&DIMS[..6]), random.pick(&DIMS[..10])];
    if i.is_multiple_of(3) {
        dims[1 + i / 3 % 2] = DIMS[i / 6 % 17];
    }
    if i % 9 == 4 {
        // Tiles with parts of a wave's columns left over.
        dims[2] = [20, 36, 12, 4][i / 9 % 4];
    }
    let regime = [Regime::Normal, Regime::Normal, Regime::OneHot, Regime::Extreme][i % 4];
    Spec { dims, flags: vec![i % 2, usize::from(i % 5 == 2), usize::from(i % 7 == 3)], regime, seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [length, batch, units] = spec.dims[..] else { unreachable!("three sizes") };
    let shape = Shape { length, batch, units };
    let all = spec.flags[0] == 1;
    let dropout = (spec.flags[1] == 1).then_some(Dropout { rate: 0.3, stream: 4 });
    let gx = b.input("gx", &[length, batch, 4, units])?;
    let first_u = b.normal("bias", &[4, units])?;
    let scale = 1.0 / (units as f32).sqrt();
    let values: Vec<f32> = (0..4 * units * units).map(|_| b.random.normal() as f32 * scale).collect();
    let w = b.given("w", &[4 * units, units], values)?;
    let gates = b.output("gates", &[length, batch, 4, units])?;
    let carried = spec.flags[2] == 1;
    let states = [length + 1, batch, units];
    let (h, c) = match carried {
        true => (b.normal("h", &states)?, b.normal("c", &states)?),
        false => (b.output("h", &states)?, b.output("c", &states)?),
    };
    // The last step alone is written behind others.
    let y = if all { b.output("y", &[length, batch, units])? } else { b.normal("y", &[2, batch, units])? };
    let at = |t: usize| if all { Some(t * batch * units) } else { (t + 1 == length).then_some(batch * units) };
    for t in 0..length {
        let before = if t == 0 && !carried {
            Before::Zeros(first_u)
        } else if shape.fuses(&b.plan) {
            Before::State(w, first_u)
        } else {
            let u = b.output(&format!("u{t}"), &[batch, 4, units])?;
            let a_at = Some(t * batch * units);
            Matmul { a_at, trans_b: true, bias: Some(first_u), ..Matmul::new(h, w, u, (batch, 4 * units, units)) }
                .record(&mut b.plan, "case")?;
            Before::Product(u)
        };
        Forward { gx, before, gates, h, c, y: at(t).map(|at| (y, at)), dropout, t, shape }.record(&mut b.plan, "case")?;
    }
    let dy = b.upstream(y)?;
    let (dc, dgates) = (b.output("dc", &[batch, units])?, b.output("dgates", &[length, batch, 4, units])?);
    b.gradient_is(gx, dgates);
    b.tolerance = Tolerance::Nmse(1e-9);
    b.plan.begin(Section::Backward);
    for t in (0..length).rev() {
        let dh = if t + 1 < length {
            let dh = b.output(&format!("dh{t}"), &[batch, units])?;
            let a_at = Some((t + 1) * batch * 4 * units);
            Matmul { a_at, ..Matmul::new(dgates, w, dh, (batch, units, 4 * units)) }.record(&mut b.plan, "backward")?;
            Some(dh)
        } else {
            None
        };
        Backward { gates, c, dy: at(t).map(|at| (dy, at)), dropout, dh, dc, dgates, t, shape }.record(&mut b.plan, "backward")?;
    }
    Ok(())
}
