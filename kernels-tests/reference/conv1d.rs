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
    let (kernel, x, at) = (e.constant("K") as usize, call.floats("x"), e.size("x_at"));
    let mut y = Vec::with_capacity(batch * length * channels * kernel);
    for b in 0..batch {
        for t in 0..length {
            for c in 0..channels {
                for k in 0..kernel {
                    let source = (t + k * dilation).checked_sub(before).filter(|source| *source < length);
                    y.push(source.map_or(S::constant(0.0), |source| x[at + (b * length + source) * channels + c]));
                }
            }
        }
    }
    call.set_first("y", y);
}

/// y = f(bias + Σ_k w x), 0 before the sequence, or what the window has kept of it.
pub fn depthwise<S: Scalar>(call: &mut Call<'_, S>) {
    let e = call.entry;
    let [batch, length, channels, width, first] = ["batch", "length", "channels", "width", "first"].map(|name| e.size(name));
    let (kernel, kind) = (e.constant("K") as usize, e.constant("ACTIVATION"));
    let (x, w, bias) = (call.floats("x"), call.floats("w"), call.floats("bias"));
    let (carried, position, kept) = (call.carried("window", batch), call.state().position as usize, kernel - 1);
    // Input `back` positions before position t.
    let input = |b: usize, t: usize, c: usize, back: usize| {
        if back <= t {
            return x[(b * length + t - back) * width + first + c];
        }
        let back = back - t;
        match &carried {
            Some((window, at)) if back <= position => window[at[b][0] + (kept - back) * channels + c],
            _ => S::constant(0.0),
        }
    };
    let mut y = Vec::with_capacity(batch * length * channels);
    for (b, t) in (0..batch).flat_map(|b| (0..length).map(move |t| (b, t))) {
        for c in 0..channels {
            let sum = (0..kernel).fold(bias[c], |sum, k| sum + w[c * kernel + k] * input(b, t, c, kept - k));
            y.push(activate(kind, sum));
        }
    }
    call.set("y", y);
    if let Some((window, at)) = &carried {
        let mut window = window.clone();
        for (b, k, c) in (0..batch).flat_map(|b| (0..kept).flat_map(move |k| (0..channels).map(move |c| (b, k, c)))) {
            window[at[b][1] + k * channels + c] = input(b, length - 1, c, kept - 1 - k);
        }
        call.set("window", window);
    }
}
