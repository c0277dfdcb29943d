//! Cases of the optimiser step: every rule, with and without clipping, and the step that is skipped.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::metrics::{RECORD, SCALE, SUMS, UPDATES};
use crate::kernels::optimizer::{Rule, Update};
use crate::random::Random;

/// dims: n / 4, partials; flags: rule, clipping, 1 infinite norm or 2 infinite loss or 3 a loss of zero, clipping by value, scaled, decay
/// by block.
pub(super) const FAMILY: Family = Family {
    // The second moment, which SGD does not have, is one of those that are read by another binding.
    allows: |pair| pair != [("BEFORE", 1), ("RULE", 2)],
    ..Family::new("optimizer", spec, 66, build, &[(&[1179648, 8], &[1, 1, 0, 0, 0, 0])])
};

fn spec(i: usize, random: &mut Random) -> Spec {
    // Some are longer than the 64 KiB of a uniform buffer.
    let vectors = DIMS[i % DIMS.len()] * random.pick(&[1, 7]) + if i % 5 == 3 { 4100 } else { 0 };
    let dims = vec![vectors, if i % 7 < 2 { 8 } else { random.pick(&DIMS[..14]) }];
    Spec {
        dims,
        flags: vec![i % 3, i / 2 % 2, [0, 0, 0, 1, 0, 0, 2, 0, 0, 3, 0][i % 11], i / 4 % 2, i / 5 % 2, i / 3 % 2],
        regime: Regime::Normal,
        seed: i as u64,
    }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [n, count] = spec.dims[..] else { unreachable!("two sizes") };
    let n = 4 * n;
    let mut squares: Vec<f32> = (0..count).map(|_| b.random.uniform() as f32 + 0.1).collect();
    if spec.flags[2] == 1 {
        squares[count - 1] = f32::INFINITY;
    }
    let partials = b.given("partials", &[count], squares)?;
    // Small weights do not hide what is wrong with their update.
    let size = if spec.seed % 4 < 2 { 1.0 } else { 1e-5 };
    let weights = b.draw(Regime::Normal, n).into_iter().map(|w| w * size).collect();
    let (w, dw, m) = (b.given("w", &[n], weights)?, b.input("dw", &[n])?, b.input("m", &[n])?);
    let second: Vec<f32> = (0..n).map(|_| b.random.uniform() as f32 + 1e-4).collect();
    let v = b.given("v", &[n], second)?;
    let mut kept = b.draw(Regime::Normal, 3 * RECORD);
    match spec.flags[2] {
        2 => kept[RECORD + SUMS] = f32::INFINITY,
        3 => kept[RECORD + SUMS] = 0.0,
        _ => {}
    }
    kept[RECORD + SCALE] = 1.0 + b.random.uniform() as f32;
    // Moments of a few updates, of hundreds, and of so many that no correction is left.
    kept[UPDATES] = [spec.seed as f32, 300.0 + 3.0 * spec.seed as f32, 2_000_000.0][spec.seed as usize % 3];
    let records = b.given("records", &[3, RECORD], kept)?;
    b.state.slot = 1;
    b.state.learning_rate = 1e-3;
    // Of those that are clipped some norms are below the limit.
    b.state.max_norm = match spec.flags[1] {
        1 if spec.seed.is_multiple_of(3) => 1000.0,
        1 => 0.7,
        _ => 0.0,
    };
    // Four units in the last place of the sum of the absolute terms.
    b.tolerance = Tolerance::Magnitude(4.0 * f64::from(f32::EPSILON) / 2.0);
    let rule = [Rule::Adam, Rule::AdamW, Rule::Sgd][spec.flags[0]];
    let clip_value = if spec.flags[3] == 1 { 0.4 } else { 0.0 };
    let scaled = spec.flags[4] == 1;
    // A large decay, so that one that is left out is seen.
    let blocks = n.div_ceil(64);
    let factors = (0..blocks).map(|_| b.random.pick(&[0.0, 1.0])).collect();
    let decays = if spec.flags[5] == 1 { Some(b.given("decays", &[blocks], factors)?) } else { None };
    let decay = if decays.is_some() { 10.0 } else { 0.01 };
    let update =
        Update { scaled, partials, count, w, dw, m, v, records, beta1: 0.9, beta2: 0.999, eps: 1e-8, decay, decays, rule, clip_value };
    update.record(&mut b.plan, "case")
}
