//! Coordinates and stop bits of joints, one by one.

use super::Call;
use crate::harness::scalar::Scalar;

/// The reference of a pass, if it has one.
pub(super) fn evaluate<S: Scalar>(pass: &str, call: &mut Call<'_, S>) -> bool {
    match pass {
        "rows" => rows(call),
        _ => return false,
    }
    true
}

/// Rows of results.
pub fn rows<S: Scalar>(call: &mut Call<'_, S>) {
    let e = call.entry;
    let (batch, length, joints, first) = (e.size("batch"), e.size("length"), e.size("joints"), e.size("first"));
    let (cols, stops) = (e.size("cols"), e.constant("STOP") == 1);
    let (delta, weight) = (e.scalar("delta"), S::constant(e.scalar("weight")));
    let (x, t, mask, deviation) = (call.floats("x"), call.floats("t"), call.floats("mask"), call.floats("deviation"));
    let half = S::constant(0.5);
    let penalty = |d: S| match (e.constant("HUBER"), d.value().abs() <= delta) {
        (0, _) => d * d,
        (_, true) => half * d * d,
        (_, false) => S::constant(delta) * (d * S::constant(d.value().signum()) - S::constant(0.5 * delta)),
    };
    let mut y = Vec::with_capacity(batch * joints * cols);
    for row in 0..batch * joints {
        let valid = |j: usize| j < joints && mask[row / joints * joints + j].value() > 0.5;
        let j = row % joints;
        if row >= call.state().rows as usize || !valid(j) {
            y.extend(vec![S::constant(0.0); cols]);
            continue;
        }
        let last = !valid(j + 1);
        let at = (row / joints * length + first + j) * 3;
        let (a, b, z) = (x[at] - t[row * 2], x[at + 1] - t[row * 2 + 1], x[at + 2]);
        let coordinate = half * (penalty(a) + penalty(b));
        let (da, db) = (a * deviation[0], b * deviation[1]);
        let distance = (da * da + db * db).sqrt();
        if !stops {
            y.extend([coordinate, coordinate, distance]);
            continue;
        }
        let softplus = |v: S| if v.value() > 30.0 { v + (-v).exp() } else { (S::constant(1.0) + v.exp()).ln() };
        let stop = if last { softplus(-z) } else { softplus(z) };
        let right = S::constant(f64::from(u8::from((z.value() > 0.0) == last)));
        y.extend([coordinate + weight * stop, coordinate, distance, stop, right]);
    }
    call.set("y", y);
}
