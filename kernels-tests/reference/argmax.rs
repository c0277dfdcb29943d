//! Index of the largest element.

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

/// The lowest index of the largest values.
pub fn first_largest<S: Scalar>(row: &[S]) -> usize {
    (0..row.len()).rev().max_by(|a, b| row[*a].value().total_cmp(&row[*b].value())).unwrap_or(0)
}

/// Index for each row.
pub fn forward<S: Scalar>(call: &mut Call<'_, S>) {
    let x = call.floats("x");
    let y = x.chunks(call.entry.size("cols")).map(|row| first_largest(row) as u32).collect();
    call.set_ints("y", y);
}
