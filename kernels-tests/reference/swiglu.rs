//! g σ(g) u.

use super::Call;
use crate::harness::scalar::Scalar;

/// The reference of a pass, if it has one.
pub(super) fn evaluate<S: Scalar>(pass: &str, call: &mut Call<'_, S>) -> bool {
    match pass {
        "forward" | "forward_vec4" => forward(call),
        _ => return false,
    }
    true
}

/// Halves of each row.
pub fn forward<S: Scalar>(call: &mut Call<'_, S>) {
    let cols = call.entry.size("cols");
    let x = call.floats("x");
    let one = S::constant(1.0);
    let gate = |g: S| if g.value() > 0.0 { one / (one + (-g).exp()) } else { g.exp() / (one + g.exp()) };
    let y = x.chunks(2 * cols).flat_map(|row| (0..cols).map(|c| row[c] * gate(row[c]) * row[cols + c]).collect::<Vec<S>>()).collect();
    call.set("y", y);
}
