//! Cases of the gated RMS normalisation with its gradients.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::gated_norm::{Backward, BackwardWeight, Forward, Operands};
use crate::random::Random;

/// dims: rows, groups, columns of a group.
pub(super) const FAMILY: Family = Family::new("gated_norm", spec, 72, build, &[(&[4096, 1, 1024], &[])]);

fn spec(i: usize, random: &mut Random) -> Spec {
    let mut dims = vec![random.pick(&DIMS[..9]), random.pick(&[1, 1, 2, 3]), random.pick(&DIMS[..9])];
    dims[[0, 2][i % 2]] = DIMS[i / 2 % 17];
    let regime = [Regime::Normal, Regime::OneHot, Regime::Normal][i % 3];
    Spec { dims, flags: vec![], regime, seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [rows, groups, size] = spec.dims[..] else { unreachable!("three sizes") };
    // Of one column that is not 0 all but the share of eps cancels in its gradient.
    let size = size.max(if spec.regime == Regime::OneHot { 40 } else { 3 });
    // The gate is a part of longer rows.
    let (cols, width) = (groups * size, groups * size + 3);
    let (y, z) = (b.normal("y", &[rows, cols])?, b.input("z", &[rows, width])?);
    let w = b.normal("w", &[cols])?;
    let (out, stats) = (b.output("out", &[rows, cols])?, b.output("stats", &[rows, groups])?);
    let of = Operands { y, z, w, stats, rows, cols, groups };
    b.tolerance = Tolerance::Nmse(1e-9);
    Forward { of, out, eps: 1e-5 }.record(&mut b.plan, "case")?;
    let dout = b.upstream(out)?;
    let (dy, dz) = (b.gradient(y)?, b.given("dz", &[rows, width], vec![0.0; rows * width])?);
    b.gradient_is(z, dz);
    Backward { of, dout, dy, dz }.record(&mut b.plan, "case")?;
    let dw = b.gradient_summed(w)?;
    BackwardWeight { of, dout, dw }.record(&mut b.plan, "case")
}
