//! The cell, one step at a time.

use super::Call;
use crate::harness::scalar::Scalar;
use crate::random::keep;

/// The reference of a pass, if it has one.
pub(super) fn evaluate<S: Scalar>(pass: &str, call: &mut Call<'_, S>) -> bool {
    match pass {
        "forward" => forward(call),
        "step" => step(call),
        _ => return false,
    }
    true
}

/// 1 / (1 + e^−x).
pub fn sigmoid<S: Scalar>(x: S) -> S {
    S::constant(1.0) / (S::constant(1.0) + (-x).exp())
}

/// What a tensor holds so far; zeros before the first step.
pub fn so_far<S: Scalar>(call: &Call<'_, S>, name: &str, len: usize) -> Vec<S> {
    call.maybe(name).unwrap_or_else(|| vec![S::constant(0.0); len])
}

/// A step from W_hh h + b_hh, or the bias alone.
pub fn forward<S: Scalar>(call: &mut Call<'_, S>) {
    let (e, u) = (call.entry, call.floats("u"));
    cell(call, e.size("batch"), e.size("units"), &u);
}

/// A step from the state before it.
pub fn step<S: Scalar>(call: &mut Call<'_, S>) {
    let e = call.entry;
    let (batch, units) = (e.size("m"), e.size("k"));
    let (h, w, bias) = (call.floats("h"), call.floats("b"), call.floats("bias"));
    let before = &h[e.size("t") * batch * units..];
    let row = |b: usize, g: usize| bias[g] + S::dot(&before[b * units..][..units], &w[g * units..][..units]);
    let u: Vec<S> = (0..batch).flat_map(|b| (0..4 * units).map(move |g| (b, g))).map(|(b, g)| row(b, g)).collect();
    cell(call, batch, units, &u);
}

/// Slot t of the gates, t + 1 of h and c, and y.
fn cell<S: Scalar>(call: &mut Call<'_, S>, batch: usize, units: usize, u: &[S]) {
    let e = call.entry;
    let (t, y_at) = (e.size("t"), e.size("y_at"));
    let gx = call.floats("gx");
    let (slot, first) = (batch * units, e.constant("FIRST") == 1);
    let mut gates = so_far(call, "gates", gx.len());
    let (mut h, mut c) = (so_far(call, "h", gx.len() / 4 + slot), so_far(call, "c", gx.len() / 4 + slot));
    let mut y = so_far(call, "y", gx.len() / 4);
    for b in 0..batch {
        for j in 0..units {
            let at = (t * batch + b) * 4 * units + j;
            let own = if first { j } else { b * 4 * units + j };
            let gate = |g: usize| gx[at + g * units] + u[own + g * units];
            let (i, f, g, o) = (sigmoid(gate(0)), sigmoid(gate(1)), gate(2).tanh(), sigmoid(gate(3)));
            let unit = b * units + j;
            if first {
                (h[t * slot + unit], c[t * slot + unit]) = (S::constant(0.0), S::constant(0.0));
            }
            let before = c[t * slot + unit];
            let after = f * before + i * g;
            let out = o * after.tanh();
            for (k, value) in [i, f, g, o].into_iter().enumerate() {
                gates[at + k * units] = value;
            }
            (h[(t + 1) * slot + unit], c[(t + 1) * slot + unit]) = (out, after);
            if e.constant("OUTPUT") == 1 {
                let state = call.state();
                let index = (y_at + unit) as u32;
                let kept = match e.constant("DROPOUT") {
                    1 => keep(state.seed, e.size("stream") as u32, state.tick, index, e.scalar("rate") as f32),
                    _ => 1.0,
                };
                y[y_at + unit] = out * S::constant(kept.into());
            }
        }
    }
    call.set("gates", gates);
    call.set("h", h);
    call.set("c", c);
    y.truncate(call.output_len("y"));
    call.set("y", y);
}
