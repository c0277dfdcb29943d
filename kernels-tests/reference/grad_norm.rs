//! Sums of squares of contiguous shares.

use super::Call;
use crate::harness::scalar::Scalar;

/// One sum a share.
pub fn partial<S: Scalar>(call: &mut Call<'_, S>) {
    let x = call.floats("x");
    let (share, count) = (call.entry.size("share"), call.entry.size("partials"));
    let y = (0..count)
        .map(|g| {
            let part = &x[(g * share).min(x.len())..((g + 1) * share).min(x.len())];
            S::dot(part, part)
        })
        .collect();
    call.set("y", y);
}
