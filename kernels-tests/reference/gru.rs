//! The cell, one step at a time.

use super::Call;
use super::lstm::{sigmoid, so_far};
use crate::harness::scalar::Scalar;

/// The reference of a pass, if it has one.
pub(super) fn evaluate<S: Scalar>(pass: &str, call: &mut Call<'_, S>) -> bool {
    match pass {
        "forward" => forward(call),
        _ => return false,
    }
    true
}

/// Slot t of the gates and y, and t + 1 of h.
pub fn forward<S: Scalar>(call: &mut Call<'_, S>) {
    let e = call.entry;
    let (batch, units, t) = (e.size("batch"), e.size("units"), e.size("t"));
    let (gx, u, residual) = (call.floats("gx"), call.floats("u"), call.maybe("residual"));
    let (slot, first) = (batch * units, e.constant("FIRST") == 1);
    let steps = gx.len() / (3 * slot);
    let mut gates = so_far(call, "gates", 4 * steps * slot);
    let (mut h, mut y) = (so_far(call, "h", (steps + 1) * slot), so_far(call, "y", steps * slot));
    for b in 0..batch {
        for j in 0..units {
            let row = t * batch + b;
            let part = |g: usize| gx[(row * 3 + g) * units + j];
            let back = |g: usize| u[if first { g * units + j } else { (b * 3 + g) * units + j }];
            let (r, z) = (sigmoid(part(0) + back(0)), sigmoid(part(1) + back(1)));
            let n = (part(2) + r * back(2)).tanh();
            let unit = b * units + j;
            if first {
                h[t * slot + unit] = S::constant(0.0);
            }
            let before = h[t * slot + unit];
            let out = (S::constant(1.0) - z) * n + z * before;
            for (k, value) in [r, z, n, back(2)].into_iter().enumerate() {
                gates[(row * 4 + k) * units + j] = value;
            }
            h[(t + 1) * slot + unit] = out;
            y[t * slot + unit] = residual.as_ref().map_or(out, |x| out + x[t * slot + unit]);
        }
    }
    call.set("gates", gates);
    call.set("h", h);
    call.set("y", y);
}
