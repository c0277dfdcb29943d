//! Sums of squares of contiguous shares.

use super::Call;
use crate::harness::scalar::Scalar;

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
