//! Rows beside each other.

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

/// [a, b].
pub fn forward<S: Scalar>(call: &mut Call<'_, S>) {
    let (left, right) = (call.entry.size("left"), call.entry.size("right"));
    let (a, b) = (call.floats("a"), call.floats("b"));
    let rows = a.chunks(left).zip(b.chunks(right));
    call.set("y", rows.flat_map(|(a, b)| [a, b].concat()).collect());
}
