//! Cases of the matrix products: all transpositions, batches and epilogues. Their gradients are products too, checked as such here and as
//! gradients in `layers.rs`.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::Dropout;
use crate::kernels::matmul::{Activation, Matmul};
use crate::random::Random;

/// dims: m, n, k, batch; flags: trans_a, trans_b, epilogue.
pub(super) const FAMILY: Family = Family {
    name: "matmul",
    spec,
    pinned: 132,
    build,
    bench: &[
        (&[256, 64, 64, 1], &[0, 1, 1]),
        (&[256, 256, 64, 1], &[0, 1, 1]),
        (&[256, 256, 256, 1], &[1, 0, 0]),
        (&[1024, 1024, 1024, 1], &[0, 0, 0]),
    ],
};

fn spec(i: usize, random: &mut Random) -> Spec {
    let mut dims = [random.pick(&DIMS[..16]), random.pick(&DIMS[..16]), random.pick(&DIMS[..16]), random.pick(&[1, 1, 2, 3])];
    dims[i % 3] = DIMS[i / 3 % DIMS.len()];
    while dims.iter().product::<usize>() > 200_000 {
        let largest = (0..4).filter(|d| *d != i % 3).max_by_key(|d| dims[*d]).unwrap_or(0);
        dims[largest] = dims[largest].div_ceil(2);
    }
    let regime = [Regime::Normal, Regime::Normal, Regime::Extreme, Regime::OneHot][i % 4];
    Spec { dims: dims.to_vec(), flags: vec![i & 1, i >> 1 & 1, i % 9], regime, seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [m, n, k, batch] = spec.dims[..] else { unreachable!("four sizes") };
    // Every seventh case multiplies parts of longer tensors.
    let part = spec.seed % 7 == 3;
    let (more_a, more_b) = if part { (m, k) } else { (0, 0) };
    let (a, w) = (b.input("a", &[batch * m + 2 * more_a, k])?, b.input("b", &[batch * k + 2 * more_b, n])?);
    let shape = [batch, m, n];
    let accumulate = spec.flags[2] == 7;
    let y = if accumulate { b.normal("y", &shape)? } else { b.output("y", &shape)? };
    let mut product = Matmul::new(a, w, y, (m, n, k));
    product.batch = batch;
    if part {
        (product.a_at, product.b_at) = (Some(more_a * k), Some(more_b * n));
    }
    (product.trans_a, product.trans_b) = (spec.flags[0] == 1, spec.flags[1] == 1);
    product.accumulate = accumulate;
    let dropout = Some(Dropout { rate: 0.3, stream: 5 });
    match spec.flags[2] {
        1 => product.bias = Some(b.normal("bias", &[n])?),
        2 => (product.bias, product.activation) = (Some(b.normal("bias", &[n])?), Activation::Relu),
        3 => (product.activation, product.pre) = (Activation::Gelu, Some(b.output("pre", &shape)?)),
        4 => (product.activation, product.pre, product.dropout) = (Activation::GeluTanh, Some(b.output("pre", &shape)?), dropout),
        5 => (product.bias, product.residual) = (Some(b.normal("bias", &[n])?), Some(b.normal("residual", &shape)?)),
        6 => {
            let kind = [Activation::Relu, Activation::Gelu, Activation::GeluTanh][spec.seed as usize % 3];
            product.derivative = Some((kind, b.normal("z", &shape)?));
            product.residual = Some(b.normal("residual", &shape)?);
        }
        7 => product.row_sum = if batch == 1 { Some(b.normal("row_sum", &[m])?) } else { None },
        8 => (product.dropout, product.residual) = (dropout, Some(b.normal("residual", &shape)?)),
        _ => {}
    }
    b.tolerance = Tolerance::sum(k.max(4));
    product.record(&mut b.plan, "case")
}
