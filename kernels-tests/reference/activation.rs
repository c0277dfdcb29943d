//! Activations element by element.

use super::Call;
use super::matmul::activate;
use crate::harness::scalar::Scalar;

/// f(x).
pub fn forward<S: Scalar>(call: &mut Call<'_, S>) {
    let kind = call.entry.constant("KIND");
    let y = call.floats("x").into_iter().map(|x| activate(kind, x)).collect();
    call.set("y", y);
}
