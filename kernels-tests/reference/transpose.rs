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
    let row = |b: usize, a: usize| x[(a * second + b) * cols..][..cols].to_vec();
    let rows = (0..second).flat_map(|b| (0..first).map(move |a| (b, a)));
    call.set("y", rows.flat_map(|(b, a)| row(b, a)).collect());
}
