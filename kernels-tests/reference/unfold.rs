//! Surroundings of positions.

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

/// Rows of surroundings, 0 outside of the sequence.
pub fn forward<S: Scalar>(call: &mut Call<'_, S>) {
    let e = call.entry;
    let [batch, length, channels, dilation, before] = ["batch", "length", "channels", "dilation", "before"].map(|name| e.size(name));
    let (kernel, x) = (e.constant("K") as usize, call.floats("x"));
    let mut y = Vec::with_capacity(x.len() * kernel);
    for b in 0..batch {
        for t in 0..length {
            for c in 0..channels {
                for k in 0..kernel {
                    let source = (t + k * dilation).checked_sub(before).filter(|source| *source < length);
                    y.push(source.map_or(S::constant(0.0), |source| x[(b * length + source) * channels + c]));
                }
            }
        }
    }
    call.set("y", y);
}
