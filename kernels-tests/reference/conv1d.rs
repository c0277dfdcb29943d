//! Convolution over time.

use super::Call;
use super::matmul::activate;
use crate::harness::scalar::Scalar;

/// The reference of a pass, if it has one.
pub(super) fn evaluate<S: Scalar>(pass: &str, call: &mut Call<'_, S>) -> bool {
    match pass {
        "unfold" => unfold(call),
        "depthwise" => depthwise(call),
        _ => return false,
    }
    true
}

/// Rows of surroundings, 0 outside of the sequence.
pub fn unfold<S: Scalar>(call: &mut Call<'_, S>) {
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

/// y = f(bias + Σ_k w x), 0 before the sequence.
pub fn depthwise<S: Scalar>(call: &mut Call<'_, S>) {
    let e = call.entry;
    let [batch, length, channels, width, first] = ["batch", "length", "channels", "width", "first"].map(|name| e.size(name));
    let (kernel, kind) = (e.constant("K") as usize, e.constant("ACTIVATION"));
    let (x, w, bias) = (call.floats("x"), call.floats("w"), call.floats("bias"));
    let mut y = Vec::with_capacity(batch * length * channels);
    for row in 0..batch * length {
        for c in 0..channels {
            let mut sum = bias[c];
            for k in (0..kernel).filter(|k| row % length + k + 1 >= kernel) {
                sum = sum + w[c * kernel + k] * x[(row + k + 1 - kernel) * width + first + c];
            }
            y.push(activate(kind, sum));
        }
    }
    call.set("y", y);
}
