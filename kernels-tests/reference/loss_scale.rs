//! A gradient times the scale of the step.

use super::Call;
use crate::harness::scalar::Scalar;
use crate::kernels::metrics::{RECORD, SCALE, SKIPPED};

/// The reference of a pass, if it has one.
pub(super) fn evaluate<S: Scalar>(pass: &str, call: &mut Call<'_, S>) -> bool {
    match pass {
        "apply" => apply(call),
        _ => return false,
    }
    true
}

/// The scaled gradient, and the record of the scale.
pub fn apply<S: Scalar>(call: &mut Call<'_, S>) {
    let (slot, slots) = (call.state().slot as usize, call.entry.size("slots"));
    let mut records = call.floats("records");
    let before = (slot + slots - 1) % slots * RECORD;
    let last = records[before + SCALE].value();
    let scale = if records[before + SKIPPED].value() != 0.0 {
        (last / 2.0).max(1.0)
    } else {
        (last * f64::from(1.0003467f32)).min(f64::from(1 << 24))
    };
    let scale = S::constant(scale);
    let x = call.floats("x").into_iter().map(|v| v * scale).collect();
    records[slot * RECORD + SCALE] = scale;
    call.set("x", x);
    call.set("records", records);
}
