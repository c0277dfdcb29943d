//! Normalisation of each row to mean 0 and variance 1, then scale and shift; or by its root mean square, then scale.

use super::Call;
use crate::harness::scalar::Scalar;

/// The reference of a pass, if it has one.
pub(super) fn evaluate<S: Scalar>(pass: &str, call: &mut Call<'_, S>) -> bool {
    match pass {
        "forward" => forward(call),
        _ => return false,
    }
    true
}

/// y and the statistics.
pub fn forward<S: Scalar>(call: &mut Call<'_, S>) {
    let (rows, cols, eps) = (call.entry.size("rows"), call.entry.size("cols"), S::constant(call.entry.scalar("eps")));
    let (x, w, b) = (call.floats("x"), call.floats("w"), call.maybe("b"));
    let zero = S::constant(0.0);
    let count = S::constant(cols as f64);
    let (mut y, mut stats) = (Vec::with_capacity(rows * cols), Vec::with_capacity(rows * 2));
    for row in x.chunks(cols) {
        let mean = if b.is_some() { S::sum(row) / count } else { zero };
        let centred: Vec<S> = row.iter().map(|v| *v - mean).collect();
        let rstd = S::constant(1.0) / (S::dot(&centred, &centred) / count + eps).sqrt();
        y.extend((0..cols).map(|c| centred[c] * rstd * w[c] + b.as_ref().map_or(zero, |b| b[c])));
        stats.extend([if b.is_some() { mean - row[0] } else { zero }, rstd]);
    }
    call.set("y", y);
    call.set("stats", stats);
}
