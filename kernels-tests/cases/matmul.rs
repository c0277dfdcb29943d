//! Cases of the matrix products: all transpositions, batches and epilogues. Their gradients are products too, checked as such here and as
//! gradients in `layers.rs`.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::Dropout;
use crate::kernels::matmul::{Activation, Matmul};
use crate::random::Random;

/// dims: m, n, k, batch; flags: trans_a, trans_b, bias, activation, pre, dropout, derivative, residual, accumulate, row_sum, addend and scale.
pub(super) const FAMILY: Family = Family::new(
    "matmul",
    spec,
    248,
    build,
    &[
        (&[256, 64, 64, 1], &[0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
        (&[256, 256, 64, 1], &[0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
        (&[256, 256, 256, 1], &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (&[1024, 1024, 1024, 1], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ],
);

/// One of each tile of `matmul/tile`: tall ones for the row sums, which need a single product, and batches.
const TILED: [[usize; 4]; 5] = [[3585, 5, 17, 1], [65, 65, 17, 14], [1793, 9, 18, 1], [33, 65, 17, 14], [609, 65, 5, 1]];

/// One of each variant of `matmul/block` that the other cases do not have.
const BLOCKS: [[usize; 4]; 6] =
    [[516, 4, 20, 1], [4, 516, 4, 60], [132, 516, 20, 1], [132, 36, 64, 14], [1028, 516, 4, 1], [3588, 36, 20, 14]];

/// Some that are large enough for `matmul/lanes_odd`.
const ODD: [[usize; 4]; 4] = [[65, 67, 61, 1], [97, 130, 21, 1], [42, 51, 62, 2], [130, 66, 31, 1]];

/// Some for `matmul/thin`.
const THIN: [[usize; 4]; 6] = [[3, 128, 70, 1], [2, 5, 1283, 1], [17, 2, 257, 1], [1, 1, 64, 1], [129, 3, 100, 1], [6, 50, 515, 1]];

/// Rows of an orthogonal array of strength two with five levels (a, b, a + b, a + 2b, …): 25 cases have every pair of options. Every other
/// 25 have sizes that are multiples of 4, for the variant that takes only those.
/// From 199 on are some of them again as products of adapters: with what is added to each output in place of a bias, and scaled. The last 25
/// are the first with other sizes.
fn spec(number: usize, random: &mut Random) -> Spec {
    let (i, low_rank) = match number {
        223.. => (number - 223, 0),
        199.. => ([number - 199, number - 174, number - 25][(number - 199) % 3], 1),
        _ => (number, 0),
    };
    let (a, b) = (i % 5, i / 5 % 5);
    let [transpose, before, after, sums] = [1, 2, 3, 4].map(|factor| [0, 1, 2, 3, 3][(a + factor * b) % 5]);
    let bit = |pair: usize, place: usize| pair >> place & 1;
    let row_sum = bit(sums, 1);
    let mut dims = [random.pick(&DIMS[..16]), random.pick(&DIMS[..16]), random.pick(&DIMS[..16]), random.pick(&[1, 1, 2, 3])];
    dims[i % 3] = DIMS[i / 3 % DIMS.len()];
    while dims.iter().product::<usize>() > 200_000 {
        let largest = (0..4).filter(|d| *d != i % 3).max_by_key(|d| dims[*d]).unwrap_or(0);
        dims[largest] = dims[largest].div_ceil(2);
    }
    if i % 8 == 7 {
        dims = TILED[i / 8 % 5];
    } else if i % 8 == 3 {
        dims = BLOCKS[i / 8 % 6];
    }
    if [0, 4].contains(&(i / 25)) {
        // Sums too short for `matmul/thin`, so that `matmul/tile` has every pair, too.
        dims[2] = dims[2].min(63);
    }
    if row_sum == 1 && dims[3] > 1 {
        dims = [dims[0] * dims[3], dims[1], dims[2], 1];
    }
    if i / 25 % 2 == 1 {
        dims[..3].iter_mut().for_each(|size| *size = size.next_multiple_of(4));
    }
    // Then come the last two activations, above and below, and all again with few outputs and long sums.
    if i >= 174 {
        dims = THIN[i % 6];
    }
    if number >= 223 {
        dims = ODD[i % 4];
        dims[0] *= if row_sum == 1 { std::mem::replace(&mut dims[3], 1) } else { 1 };
    }
    let (a, b) = if !(150..174).contains(&i) { (a, b) } else { (5 + i % 2, [0, 5, 6][i / 2 % 3]) };
    let flags = vec![
        bit(transpose, 0),
        bit(transpose, 1),
        bit(before, 0),
        a,
        bit(before, 1),
        bit(after, 0),
        b,
        bit(after, 1),
        bit(sums, 0),
        row_sum,
        low_rank,
    ];
    let regime = [Regime::Normal, Regime::Normal, Regime::Extreme, Regime::OneHot][i % 4];
    Spec { dims: dims.to_vec(), flags, regime, seed: number as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [m, n, k, batch] = spec.dims[..] else { unreachable!("four sizes") };
    let [trans_a, trans_b, bias, activation, pre, dropout, derivative, residual, accumulate, row_sum, low_rank] = spec.flags[..] else {
        unreachable!("eleven options")
    };
    // Every seventh case multiplies parts of longer tensors.
    let part = spec.seed % 7 == 3;
    let (more_a, more_b) = if part { (m, k) } else { (0, 0) };
    let (x, w) = (b.input("a", &[batch * m + 2 * more_a, k])?, b.input("b", &[batch * k + 2 * more_b, n])?);
    let shape = [batch, m, n];
    // A longer Y is made by two products.
    let two = part && accumulate + dropout == 0;
    let both = [batch * (1 + usize::from(two)), m, n];
    let y = match accumulate {
        1 => b.sum("y", &shape)?,
        _ => b.output("y", &both)?,
    };
    let mut product = Matmul::new(x, w, y, (m, n, k));
    product.batch = batch;
    if part {
        (product.a_at, product.b_at) = (Some(more_a * k), Some(more_b * n));
    }
    (product.trans_a, product.trans_b, product.accumulate) = (trans_a == 1, trans_b == 1, accumulate == 1);
    use Activation as A;
    let kinds = [A::Identity, A::Relu, A::Gelu, A::GeluTanh, A::Sigmoid, A::Silu, A::Tanh];
    product.activation = kinds[activation];
    product.dropout = (dropout == 1).then_some(Dropout { rate: 0.3, stream: 5 });
    if bias == 1 && low_rank == 0 {
        product.bias = Some(b.normal("bias", &[n])?);
    } else if bias == 1 {
        product.addend = Some(b.normal("addend", &shape)?);
    }
    if low_rank == 1 && dropout == 0 {
        product.scale = 0.75;
    }
    if pre == 1 {
        product.pre = Some(b.output("pre", &both)?);
    }
    if derivative > 0 {
        product.derivative = Some((kinds[derivative], b.normal("z", &both)?));
    }
    if residual == 1 {
        product.residual = Some(b.normal("residual", &both)?);
    }
    if row_sum == 1 && batch == 1 {
        product.row_sum = Some(b.sum("row_sum", &[m])?);
    }
    b.tolerance = Tolerance::sum(k.max(4));
    if two {
        let first = Matmul { a_at: Some(0), b_at: Some(0), y_at: Some(0), ..product };
        first.record(&mut b.plan, "case")?;
        product.y_at = Some(batch * m * n);
    }
    product.record(&mut b.plan, "case")
}
