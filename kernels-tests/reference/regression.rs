//! Mean penalties of each row.

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

/// Rows of (loss, squared error, absolute error).
pub fn rows<S: Scalar>(call: &mut Call<'_, S>) {
    let e = call.entry;
    let (width, kind, delta) = (e.size("width"), e.constant("PENALTY"), e.scalar("delta"));
    let (x, t, mask) = (call.floats("x"), call.floats("t"), call.maybe("mask"));
    let size = |d: S| d * S::constant(if d.value() == 0.0 { 0.0 } else { d.value().signum() });
    let penalty = |d: S| match (kind, d.value().abs() <= delta) {
        (0, _) => d * d,
        (1, _) => size(d),
        (_, true) => S::constant(0.5) * d * d,
        (_, false) => S::constant(delta) * (size(d) - S::constant(0.5 * delta)),
    };
    let mut y = Vec::with_capacity(3 * e.size("rows"));
    for (row, (x, t)) in x.chunks(width).zip(t.chunks(width)).enumerate() {
        if row >= call.state().rows as usize || mask.as_ref().is_some_and(|mask| mask[row].value() <= 0.5) {
            y.extend([S::constant(0.0); 3]);
            continue;
        }
        let d: Vec<S> = x.iter().zip(t).map(|(x, t)| *x - *t).collect();
        let mean = |of: &dyn Fn(S) -> S| S::sum(&d.iter().map(|d| of(*d)).collect::<Vec<_>>()) / S::constant(width as f64);
        y.extend([mean(&penalty), mean(&|d| d * d), mean(&size)]);
    }
    call.set("y", y);
}
