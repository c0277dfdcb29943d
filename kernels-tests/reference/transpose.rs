//! Rows in the other order of their axes.

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

/// y[b, a].
pub fn forward<S: Scalar>(call: &mut Call<'_, S>) {
    let [first, second, cols] = ["first", "second", "cols"].map(|name| call.entry.size(name));
    let x = call.floats("x");
    let reverse = call.entry.constant("REVERSE");
    let lengths = (call.entry.constant("LENGTHS") == 1).then(|| call.ints("lengths"));
    let reversed = |t: usize, count: usize, sequence: usize| {
        let n = lengths.as_ref().map_or(count, |lengths| lengths[sequence] as usize);
        if t < n { n - 1 - t } else { t }
    };
    let row = |b: usize, a: usize| x[(a * second + b) * cols..][..cols].to_vec();
    let rows = (0..second).flat_map(|b| (0..first).map(move |a| (b, a)));
    let source = |(b, a): (usize, usize)| match reverse {
        1 => (reversed(b, second, a), a),
        2 => (b, reversed(a, first, b)),
        _ => (b, a),
    };
    call.set("y", rows.map(source).flat_map(|(b, a)| row(b, a)).collect());
}
