//! Column sums into a record.

use super::Call;
use crate::harness::scalar::Scalar;
use crate::kernels::metrics::{COUNT, RECORD, SUMS};

/// The reference of a pass, if it has one.
pub(super) fn evaluate<S: Scalar>(pass: &str, call: &mut Call<'_, S>) -> bool {
    match pass {
        "accumulate" => accumulate(call),
        _ => return false,
    }
    true
}

/// The record of the slot.
pub fn accumulate<S: Scalar>(call: &mut Call<'_, S>) {
    let (state, cols) = (call.state(), call.entry.constant("COLS") as usize);
    let rows = call.entry.size("rows").min(state.rows as usize);
    let (x, mut records) = (call.floats("x"), call.floats("records"));
    let start = state.slot as usize * RECORD;
    for j in 0..=cols {
        let column: Vec<S> = (0..rows).map(|r| if j < cols { x[r * cols + j] } else { S::constant(0.0) }).collect();
        let count = S::constant(if j < cols { 0.0 } else { rows.min(state.count as usize) as f64 });
        let at = start + if j < cols { SUMS + j } else { COUNT };
        let old = if state.micro_step > 0 { records[at] } else { S::constant(0.0) };
        records[at] = old + count + S::sum(&column);
    }
    call.set("records", records);
}
