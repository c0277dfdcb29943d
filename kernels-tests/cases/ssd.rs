//! Cases of the state-space dual: a whole selective state space with all gradients, and the passes that only gradients are made of by
//! themselves.

use super::{Builder, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::ssd::{Dots, GroupScores, Order, Pairs, PassStates, Sizes};
use crate::layers::{HeadNumbers, StateSpace};
use crate::plan::{Section, Tensor};
use crate::random::Random;

/// dims: batch, length, chunk, groups, heads of a group, features, states; flags: limits of the steps, size of the decay.
pub(super) const FAMILY: Family = Family {
    // What goes backwards carries nothing, and something is arranged.
    allows: |options| ![[("CARRY", 1), ("REVERSED", 1)], [("KEYS", 0), ("VALUES", 0)]].contains(&options),
    ..Family::new("ssd", spec, 54, build, &[(&[4, 512, 64, 1, 16, 64, 64], &[0, 0])])
};

fn spec(i: usize, random: &mut Random) -> Spec {
    let chunk = [4, 3, 5, 8, 1, 16][i % 6];
    let length = match i / 2 % 6 {
        0 => chunk,
        1 => 2 * chunk,
        2 => 2 * chunk + 1,
        3 => 1,
        4 => chunk + 2,
        _ => random.pick(&[7, 13, 33]),
    };
    if i % 13 == 8 {
        // Chunks in registers, whose tiles are full, half full, or neither.
        let dims =
            [[1, 70, 32, 1, 2, 32, 32], [1, 130, 64, 1, 1, 64, 64], [2, 40, 36, 2, 1, 44, 16], [1, 65, 60, 1, 3, 32, 36]][i / 13 % 4];
        return Spec { dims: dims.to_vec(), flags: vec![i / 13 % 2, (i / 13 + 1) % 3], regime: Regime::Normal, seed: i as u64 };
    }
    if i % 13 == 5 {
        // Heads and states larger than a tile and odd, several chunks of 64, and many.
        let dims = [[1, 9, 4, 1, 1, 65, 33], [1, 131, 64, 1, 1, 3, 2], [1, 1025, 64, 1, 1, 2, 1]][i / 13 % 3].to_vec();
        return Spec { dims, flags: vec![0, i % 3], regime: Regime::Normal, seed: i as u64 };
    }
    let (features, states) = [(16, 16), (2, 2), (4, 4), (8, 8), (3, 7), (17, 1), (16, 4), (1, 2)][i % 8];
    let dims = vec![random.pick(&[1, 2, 3]), length, chunk, [1, 2][i % 2], [1, 2, 3][i / 3 % 3], features, states];
    Spec { dims, flags: vec![i / 5 % 2, i / 7 % 3], regime: Regime::Normal, seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [batch, length, chunk, groups, heads, features, states] = spec.dims[..] else { unreachable!("seven sizes") };
    let sizes = Sizes { batch, length, size: chunk.min(length), heads: groups * heads, groups, features, states };
    b.tolerance = Tolerance::Nmse(1e-9);
    let heads = sizes.heads;
    let xbc = b.normal("xbc", &[batch, length, sizes.width()])?;
    let zx = b.normal("zx", &[batch, length, heads])?;
    // Decay by a little, by much, and until nothing is left.
    let rate = [(-0.5, 1.0), (2.5, 0.3), (-5.0, 1.0)][spec.flags[1]];
    let a_log = (0..heads).map(|_| (rate.0 + rate.1 * b.random.normal()) as f32).collect();
    let a_log = b.given("a_log", &[heads], a_log)?;
    let dt_bias = (0..heads).map(|_| (-1.0 + b.random.normal()) as f32).collect();
    let dt_bias = b.given("dt_bias", &[heads], dt_bias)?;
    let d = b.normal("d", &[heads])?;
    let limits = if spec.flags[0] == 1 { [0.3, 0.6] } else { [0.0, f64::INFINITY] };
    let mut space = StateSpace::new("case", sizes, limits);
    let y = space.forward(&mut b.plan, [xbc, zx], HeadNumbers { a_log, dt_bias, d }, None)?;
    alone(b, sizes)?;
    let dy = b.upstream(y)?;
    let dzx = b.gradient(zx)?;
    let gradients = HeadNumbers { a_log: b.gradient_summed(a_log)?, dt_bias: b.gradient_summed(dt_bias)?, d: b.gradient_summed(d)? };
    b.plan.begin(Section::Backward);
    let dxbc = space.backward(&mut b.plan, dy, dzx, gradients)?;
    b.gradient_is(xbc, dxbc);
    Ok(())
}

/// Passes whose results are parts of gradients, with inputs of their own.
fn alone(b: &mut Builder, sizes: Sizes) -> Result<()> {
    let rows = sizes.rows();
    let alphas = (0..rows).scan(0.0, |sum, row| {
        let step = 0.3 * b.random.uniform();
        *sum = if row % sizes.size == 0 { -step } else { *sum - step };
        Some(*sum as f32)
    });
    let mut decay: Vec<f32> = alphas.collect();
    decay.extend((0..2 * rows).map(|_| b.random.uniform() as f32));
    let decay: Tensor = b.given("decay", &[3, rows], decay)?;
    let (dm, g) = (b.normal("dm", &[sizes.scores()])?, b.normal("g", &[sizes.group_scores()])?);
    let (dg, sums) = (b.output("dg", &[sizes.group_scores()])?, b.output("sums", &[rows * (sizes.size + 1)])?);
    GroupScores { dm, decay, dg, sizes }.record(&mut b.plan, "alone")?;
    Pairs { dm, g, decay, sums, sizes }.record(&mut b.plan, "alone")?;
    let (a, other) = (b.normal("a", &[sizes.values()])?, b.normal("b", &[sizes.values()])?);
    let dots = b.output("dots", &[2 * rows])?;
    Dots { a, b: other, by_group: false, dots, at: 0, sizes }.record(&mut b.plan, "alone")?;
    Dots { a, b: other, by_group: true, dots, at: rows, sizes }.record(&mut b.plan, "alone")?;
    let (carried, border) = (b.normal("carried", &[sizes.borders()])?, b.output("border", &[sizes.borders()])?);
    let carry = Some(b.carry("kept", sizes.batch, sizes.heads * sizes.features * sizes.states)?);
    PassStates { carried, decay, border, order: Order::Forwards, carry, sizes }.record(&mut b.plan, "alone")
}
