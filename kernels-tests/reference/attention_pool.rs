//! softmax(q·k / √H) over the positions of each row.

use super::Call;
use super::attention::{mix, softmax};
use crate::harness::scalar::Scalar;

/// The reference of a pass, if it has one.
pub(super) fn evaluate<S: Scalar>(pass: &str, call: &mut Call<'_, S>) -> bool {
    match pass {
        "forward" => forward(call),
        _ => return false,
    }
    true
}

/// a and [b; w].
pub fn forward<S: Scalar>(call: &mut Call<'_, S>) {
    let e = call.entry;
    let (rows, features, cols, length) = (e.size("rows"), e.size("features"), e.size("cols"), e.constant("T") as usize);
    let (q, k, x, b) = (call.floats("q"), call.floats("k"), call.floats("x"), call.floats("b"));
    let scale = S::constant(1.0 / (features as f64).sqrt());
    let (mut a, mut y) = (Vec::new(), Vec::new());
    for row in 0..rows {
        let query = &q[row * features..][..features];
        let scores: Vec<S> = (0..length).map(|t| S::dot(query, &k[(row * length + t) * features..][..features]) * scale).collect();
        let weights = softmax(&scores).0;
        let positions: Vec<&[S]> = (0..length).map(|t| &x[(row * length + t) * cols..][..cols]).collect();
        y.extend_from_slice(&b[row * cols..][..cols]);
        y.extend(mix(&weights, &positions, cols));
        a.extend(weights);
    }
    call.set("a", a);
    call.set("y", y);
}
