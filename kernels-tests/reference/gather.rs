//! Rows by index.

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

/// y from 32-bit words, or from halves of them.
pub fn forward<S: Scalar>(call: &mut Call<'_, S>) {
    let e = call.entry;
    let (batch, length, cols) = (e.size("batch"), e.size("length"), e.size("cols"));
    let (x, index) = (call.ints("x"), call.ints("index"));
    let value = |at: usize| match e.constant("HALF") {
        1 => half::f16::from_bits((x[at / 2] >> (16 * (at % 2))) as u16).to_f64(),
        _ => f64::from(f32::from_bits(x[at])),
    };
    let element = |i: usize| {
        let row = i / cols;
        let (b, t) = if e.constant("TIME_MAJOR") == 1 { (row % batch, row / batch) } else { (row / length, row % length) };
        S::constant(value((index[b] as usize * length + t) * cols + i % cols))
    };
    call.set("y", (0..batch * length * cols).map(element).collect());
}
