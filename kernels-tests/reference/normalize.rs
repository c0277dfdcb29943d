//! x / max(‖x‖, 1e-12).

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

/// Unit vector and norm of a row.
pub fn unit<S: Scalar>(row: &[S]) -> (Vec<S>, S) {
    let square = S::dot(row, row);
    let norm = if square.value() > 1e-24 { square.sqrt() } else { S::constant(1e-12) };
    (row.iter().map(|v| *v / norm).collect(), norm)
}

/// y and norms.
pub fn forward<S: Scalar>(call: &mut Call<'_, S>) {
    let x = call.floats("x");
    let (y, norm): (Vec<Vec<S>>, Vec<S>) = x.chunks(call.entry.size("cols")).map(unit).unzip();
    call.set("y", y.concat());
    call.set("norm", norm);
}
