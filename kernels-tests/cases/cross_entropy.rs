//! Cases of the cross-entropies with their gradient.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::activation;
use crate::kernels::cross_entropy::{Forward, IGNORED, Per, Weight};
use crate::kernels::matmul::Activation;
use crate::random::Random;

/// dims: rows, classes; flags: kind of weight, padded rows, targets that do not count, rows of a sequence where sequences have the same
/// weight, else 0, without a gradient, label smoothing, weights, rows of a chunk whose logits are overwritten, else 0.
pub(super) const FAMILY: Family = Family {
    kinks: |spec| (1..=3).contains(&spec.flags[0]) && spec.dims[0] > 7,
    allows: |pair| ![[("KIND", 4), ("SMOOTH", 1)], [("GRADIENT", 0), ("IN_PLACE", 1)]].contains(&pair),
    ..Family::new(
        "cross_entropy",
        spec,
        190,
        build,
        &[
            (&[2048, 256], &[1, 0, 0, 0, 0, 0, 0, 0]),
            (&[2048, 256], &[1, 0, 0, 8, 0, 0, 0, 0]),
            (&[2048, 256], &[0, 0, 0, 0, 0, 1, 1, 0]),
            (&[640, 50257], &[0, 0, 0, 0, 0, 0, 0, 640]),
        ],
    )
};

fn spec(i: usize, random: &mut Random) -> Spec {
    let mut dims = vec![random.pick(&DIMS[..12]), random.pick(&DIMS[1..18])];
    dims[i % 2] = DIMS[i / 2 % DIMS.len()];
    let regimes = [Regime::Normal, Regime::Extreme, Regime::Normal, Regime::OneHot, Regime::Offset];
    // The later ones have sequences, whose rows divide all, and the last come in chunks, with and without sequences.
    let chunk = if i >= 140 { random.pick(&[1, 2, 5, 16, 33, 100]) } else { 0 };
    let length = if (110..140).contains(&i) || i >= 140 && !i.is_multiple_of(4) { random.pick(&[1, 2, 3, 7, 33, 200]) } else { 0 };
    if chunk > 0 {
        dims[0] = dims[0].min(6 * chunk);
    }
    dims[0] = dims[0].next_multiple_of(length.max(1));
    let regime = if length == 0 { regimes[i / 5 % 5] } else { regimes[2 + i / 5 % 3] };
    Spec {
        dims,
        flags: vec![
            i % 5,
            i / 5 % 2,
            i / 7 % 2,
            length,
            usize::from(i % 11 == 10),
            usize::from(i % 5 != 4 && i % 3 == 1),
            i / 2 % 2,
            chunk,
        ],
        regime,
        seed: i as u64,
    }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [rows, cols] = spec.dims[..] else { unreachable!("two sizes") };
    let kinds = [Weight::None, Weight::Linear, Weight::Quadratic, Weight::SquareRoot, Weight::PureDistance];
    let whole = (spec.flags[7] == 0).then(|| b.input("x", &[rows, cols])).transpose()?;
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
    let gradient = spec.flags[4] == 0;
    if let Some(x) = whole {
        let dx = gradient.then(|| b.gradient(x)).transpose()?;
        let pass = Forward { x, targets, y, dx, row_at: 0, rows, cols, length, per, weight, alpha: 0.1, smoothing, weights };
        return pass.record(&mut b.plan, "case");
    }
    for row_at in (0..rows).step_by(spec.flags[7]) {
        let count = spec.flags[7].min(rows - row_at);
        let given = b.input(&format!("x{row_at}"), &[spec.flags[7], cols])?;
        let (mut x, mut dx) = (given, None);
        if gradient {
            // What is overwritten is a copy.
            x = b.output(&format!("logits{row_at}"), &[spec.flags[7], cols])?;
            activation::Forward { x: given, y: x, kind: Activation::Identity }.record(&mut b.plan, "copy")?;
            dx = Some(x);
            // The tensor of the last chunk may be longer than its rows: the rest stays as it is.
            if count == spec.flags[7] {
                b.gradient_is(given, x);
            }
        }
        let pass = Forward { x, targets, y, dx, row_at, rows: count, cols, length, per, weight, alpha: 0.1, smoothing, weights };
        pass.record(&mut b.plan, "case")?;
    }
    Ok(())
}
