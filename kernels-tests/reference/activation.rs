//! Activations element by element.

use super::Call;
use super::matmul::activate;
use crate::harness::scalar::Scalar;

/// The reference of a pass, if it has one.
pub(super) fn evaluate<S: Scalar>(pass: &str, call: &mut Call<'_, S>) -> bool {
    match pass {
        "forward" => forward(call),
        _ => return false,
    }
    true
}

/// f(x).
pub fn forward<S: Scalar>(call: &mut Call<'_, S>) {
    let kind = call.entry.constant("KIND");
    let y = call.floats("x").into_iter().map(|x| activate(kind, x)).collect();
    call.set("y", y);
}
