//! Cases of activations by themselves and their gradients.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::activation::{Backward, Forward};
use crate::kernels::matmul::Activation;
use crate::random::Random;

/// dims: n; flags: kind.
pub(super) const FAMILY: Family =
    Family { kinks: |spec| spec.flags[0] == 3, ..Family::new("activation", spec, 162, build, &[(&[1048576], &[1])]) };

fn spec(i: usize, random: &mut Random) -> Spec {
    let n = if i < 132 { DIMS[i / 6] } else { random.between(1, 3000) as usize };
    Spec { dims: vec![n], flags: vec![i % 6], regime: Regime::Normal, seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let n = spec.dims[0];
    let kind =
        [Activation::Sigmoid, Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Silu, Activation::Tanh][spec.flags[0]];
    let (x, y) = (b.input("x", &[n])?, b.output("y", &[n])?);
    Forward { x, y, kind }.record(&mut b.plan, "case")?;
    let dy = b.upstream(y)?;
    let dx = b.gradient(x)?;
    b.tolerance = Tolerance::Nmse(1e-10);
    Backward { x, dy, dx, kind }.record(&mut b.plan, "case")
}
