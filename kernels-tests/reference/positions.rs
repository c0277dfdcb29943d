//! Sines and cosines of falling frequency.

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

/// x plus positions.
pub fn forward<S: Scalar>(call: &mut Call<'_, S>) {
    let (cols, length) = (call.entry.size("cols"), call.entry.size("length"));
    let wave = |i: usize| {
        let (t, c) = ((i / cols % length) as f64, i % cols);
        let angle = t * 10_000f64.powf(-((c / 2 * 2) as f64) / cols as f64);
        S::constant(if c % 2 == 0 { angle.sin() } else { angle.cos() })
    };
    let y = call.floats("x").into_iter().enumerate().map(|(i, x)| x + wave(i)).collect();
    call.set("y", y);
}
