//! Rows at a fixed distance.

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

/// Picked rows.
pub fn forward<S: Scalar>(call: &mut Call<'_, S>) {
    let e = call.entry;
    let (cols, x) = (e.size("cols"), call.floats("x"));
    let lengths = e.constant("LENGTHS") == 1;
    let lengths = lengths.then(|| call.ints("lengths"));
    let first = |r: usize| lengths.as_ref().map_or(e.size("first"), |lengths| lengths[r] as usize - 1);
    let row = |r: usize| &x[(first(r) + r * e.size("stride")) * cols..][..cols];
    let y = (0..e.size("picked")).flat_map(|r| row(r).to_vec()).collect();
    call.set("y", y);
}
