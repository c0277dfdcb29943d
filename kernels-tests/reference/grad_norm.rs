//! Sums of squares of contiguous shares.

use super::Call;
use crate::harness::scalar::Scalar;

/// The reference of a pass, if it has one.
pub(super) fn evaluate<S: Scalar>(pass: &str, call: &mut Call<'_, S>) -> bool {
    match pass {
        "partial" => partial(call),
        _ => return false,
    }
    true
}

/// One sum a share.
pub fn partial<S: Scalar>(call: &mut Call<'_, S>) {
    let x = call.floats("x");
    let (share, count) = (call.entry.size("share"), call.entry.size("partials"));
    let mut y = call.floats("y");
    for (g, y) in y.iter_mut().enumerate().take(count) {
        let part = &x[(g * share).min(x.len())..((g + 1) * share).min(x.len())];
        *y = S::dot(part, part);
    }
    call.set("y", y);
}
