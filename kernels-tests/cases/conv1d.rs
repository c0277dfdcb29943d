//! Cases of convolutions over time with their gradients: surroundings of positions, and each channel by itself.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::conv1d::{
    BackwardDepthwiseInput, BackwardDepthwiseWeights, BackwardUnfold, Channels, Depthwise, Operands, Sizes, Unfold,
};
use crate::kernels::matmul::Activation;
use crate::random::Random;

/// dims: batch, length, channels, kernel, dilation; flags: the kernel ends at the position, each channel by itself (2 in parts of
/// sequences), activation.
pub(super) const FAMILY: Family = Family {
    // A kernel of one position has no window to carry.
    allows: |options| options != [("CARRY", 1), ("K", 1)],
    ..Family::new("conv1d", spec, 132, build, &[(&[32, 64, 64, 3, 1], &[1, 0, 0]), (&[8, 512, 1152, 4, 1], &[1, 1, 5])])
};

fn spec(i: usize, random: &mut Random) -> Spec {
    let mut dims = vec![random.pick(&[1, 2, 3]), random.pick(&DIMS[..9]), random.pick(&DIMS[..7])];
    dims[1 + i % 2] = DIMS[i / 2 % 14];
    dims.extend([[1, 2, 3, 4, 7][i / 3 % 5], [1, 2, 5][i / 2 % 3]]);
    let (depthwise, activation) = ([0, 0, 0, 0, 0, 0, 1, 2, 1, 1, 1][i % 11], [5, 0, 6][i / 2 % 3]);
    let regime = [Regime::Normal, Regime::Extreme][(i % 2) * usize::from(depthwise == 0)];
    Spec { dims, flags: vec![i / 4 % 2, depthwise, activation], regime, seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [batch, length, channels, kernel, dilation] = spec.dims[..] else { unreachable!("five sizes") };
    if spec.flags[1] > 0 {
        return depthwise(b, spec);
    }
    let before = if spec.flags[0] == 1 { (kernel - 1) * dilation } else { (kernel - 1) / 2 * dilation };
    let sizes = Sizes { batch, length, channels, kernel, dilation, before };
    let x = b.input("x", &[batch, length, channels])?;
    b.tolerance = Tolerance::sum(kernel);
    // Every other batch is taken in two parts.
    let first = if spec.seed % 2 == 1 { batch.div_ceil(2) } else { batch };
    let mut made = vec![];
    for (first, count) in [(0, first), (first, batch - first)].into_iter().filter(|(_, count)| *count > 0) {
        let sizes = Sizes { batch: count, ..sizes };
        let y = b.output(&format!("y_{first}"), &[count, length, channels * kernel])?;
        b.exact(y);
        Unfold { x, y, sizes, first }.record(&mut b.plan, "case")?;
        made.push((y, sizes, first));
    }
    let dx = b.gradient(x)?;
    made.into_iter().try_for_each(|(y, sizes, first)| {
        let dy = b.upstream(y)?;
        BackwardUnfold { dy, dx, sizes, first }.record(&mut b.plan, "case")
    })
}

/// The channels are two parts of the same rows, each with weights of its own.
fn depthwise(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [batch, length, channels, kernel, _] = spec.dims[..] else { unreachable!("five sizes") };
    let activation = [
        Activation::Identity,
        Activation::Relu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Sigmoid,
        Activation::Silu,
        Activation::Tanh,
    ][spec.flags[2]];
    let width = channels + 3;
    let x = b.input("x", &[batch, length, width])?;
    b.tolerance = Tolerance::sum(kernel.max(batch * length) + 8);
    let (mut backward, in_parts) = (vec![], spec.flags[1] == 2);
    for (part, first, channels) in [("a", 0, 3), ("b", 3, channels)] {
        let sizes = Channels { batch, length, channels, width, first, kernel, activation };
        let w = b.input(&format!("w_{part}"), &[channels, 1, kernel])?;
        let bias = b.input(&format!("bias_{part}"), &[channels])?;
        let y = b.output(&format!("y_{part}"), &[batch, length, channels])?;
        let of = Operands { x, w, bias, sizes };
        let carry = if in_parts && kernel > 1 { Some(b.carry(&format!("window_{part}"), batch, (kernel - 1) * channels)?) } else { None };
        Depthwise { of, y, carry }.record(&mut b.plan, "case")?;
        backward.push((of, y));
    }
    if in_parts {
        return Ok(());
    }
    let dx = b.gradient(x)?;
    for (of, y) in backward {
        let dy = b.upstream(y)?;
        BackwardDepthwiseInput { of, dy, dx }.record(&mut b.plan, "case")?;
        let (dw, db) = (b.gradient_summed(of.w)?, b.gradient_summed(of.bias)?);
        BackwardDepthwiseWeights { of, dy, dw, db }.record(&mut b.plan, "case")?;
    }
    Ok(())
}
