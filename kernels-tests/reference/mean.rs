//! Mean over positions.

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

/// y[b].
pub fn forward<S: Scalar>(call: &mut Call<'_, S>) {
    let (batch, length, cols) = (call.entry.size("batch"), call.entry.size("length"), call.entry.size("cols"));
    let x = call.floats("x");
    let lengths = call.entry.constant("LENGTHS") == 1;
    let lengths = lengths.then(|| call.ints("lengths"));
    let mean = |i: usize| {
        let length_of = lengths.as_ref().map_or(length, |lengths| lengths[i / cols] as usize);
        let column: Vec<S> = (0..length_of).map(|t| x[(i / cols * length + t) * cols + i % cols]).collect();
        S::sum(&column) / S::constant(length_of as f64)
    };
    call.set("y", (0..batch * cols).map(mean).collect());
}
