//! Cases of the cross-entropies with their gradient.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::cross_entropy::{Forward, IGNORED, Per, Weight};
use crate::random::Random;

/// dims: rows, classes; flags: kind of weight, padded rows, targets that do not count, rows of a sequence where sequences have the same
/// weight, else 0, without a gradient, label smoothing, weights.
pub(super) const FAMILY: Family = Family {
    kinks: |spec| (1..=3).contains(&spec.flags[0]) && spec.dims[0] > 7,
    allows: |[(a, x), (b, y)]| !((a, x) == ("KIND", 4) && (b, y) == ("SMOOTH", 1)),
    ..Family::new(
        "cross_entropy",
        spec,
        140,
        build,
        &[(&[2048, 256], &[1, 0, 0, 0, 0, 0, 0]), (&[2048, 256], &[1, 0, 0, 8, 0, 0, 0]), (&[2048, 256], &[0, 0, 0, 0, 0, 1, 1])],
    )
};

fn spec(i: usize, random: &mut Random) -> Spec {
    let mut dims = vec![random.pick(&DIMS[..12]), random.pick(&DIMS[1..18])];
    dims[i % 2] = DIMS[i / 2 % DIMS.len()];
    let regimes = [Regime::Normal, Regime::Extreme, Regime::Normal, Regime::OneHot, Regime::Offset];
    // The last ones have sequences, whose rows divide all.
    let length = if i >= 110 { random.pick(&[1, 2, 3, 7, 33, 200]) } else { 0 };
    dims[0] = dims[0].next_multiple_of(length.max(1));
    let regime = if length == 0 { regimes[i / 5 % 5] } else { regimes[2 + i / 5 % 3] };
    Spec {
        dims,
        flags: vec![i % 5, i / 5 % 2, i / 7 % 2, length, usize::from(i % 11 == 10), usize::from(i % 5 != 4 && i % 3 == 1), i / 2 % 2],
        regime,
        seed: i as u64,
    }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [rows, cols] = spec.dims[..] else { unreachable!("two sizes") };
    let kinds = [Weight::None, Weight::Linear, Weight::Quadratic, Weight::SquareRoot, Weight::PureDistance];
    let x = b.input("x", &[rows, cols])?;
    let mut classes: Vec<u32> = (0..rows).map(|_| b.random.between(0, cols as i64 - 1) as u32).collect();
    let y = b.output("y", &[rows, 4])?;
    let valid = if spec.flags[1] == 1 { b.random.between(1, rows as i64) as usize } else { rows };
    if spec.flags[2] == 1 {
        // The first stays; of the others some are no class, the nearest one among them.
        let none = [IGNORED, cols as u32];
        classes.iter_mut().skip(1).step_by(3).enumerate().for_each(|(i, class)| *class = none[i % 2]);
    }
    // A case that is shrunk may be shorter than its sequences.
    let length = if rows.is_multiple_of(spec.flags[3].max(1)) { spec.flags[3].max(1) } else { rows };
    let known = |rows: &[u32]| rows.iter().filter(|class| (**class as usize) < cols).count();
    let (per, counted) = match spec.flags[3] {
        0 => (Per::Position, known(&classes[..valid])),
        _ => (Per::Sequence, valid.div_ceil(length)),
    };
    (b.state.rows, b.state.count, b.state.scale) = (valid as u32, counted as u32, (0.5 + b.random.uniform()) as f32);
    let dx = if spec.flags[4] == 1 { None } else { Some(b.gradient(x)?) };
    let scale = b.state.scale / counted as f32;
    let targets = b.words("targets", &[rows], classes)?;
    b.weighted(y, (0..rows * 4).map(|i| if i % 4 == 0 && i / 4 < valid { scale } else { 0.0 }).collect());
    b.tolerance = Tolerance::Magnitude(2e-6);
    let weight = kinds[spec.flags[0]];
    let smoothing = if spec.flags[5] == 1 { 0.2 } else { 0.0 };
    let weights = if spec.flags[6] == 1 {
        let values = (0..rows).map(|_| (0.25 + b.random.uniform()) as f32).collect();
        Some(b.given("weights", &[rows], values)?)
    } else {
        None
    };
    Forward { x, targets, y, dx, rows, cols, length, per, weight, alpha: 0.1, smoothing, weights }.record(&mut b.plan, "case")
}
