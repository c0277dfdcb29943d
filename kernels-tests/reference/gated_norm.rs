//! Gated RMS normalisation.

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

/// out and stats.
pub fn forward<S: Scalar>(call: &mut Call<'_, S>) {
    let e = call.entry;
    let [rows, cols, width, groups] = ["rows", "cols", "width", "groups"].map(|name| e.size(name));
    let (eps, size) = (S::constant(e.scalar("eps")), cols / groups);
    let (y, z, w) = (call.floats("y"), call.floats("z"), call.floats("w"));
    let one = S::constant(1.0);
    let (mut out, mut stats) = (Vec::with_capacity(rows * cols), Vec::with_capacity(rows * groups));
    for row in 0..rows {
        let gated = |c: usize| {
            let gate = z[row * width + c];
            y[row * cols + c] * gate / (one + (-gate).exp())
        };
        for group in 0..groups {
            let g: Vec<S> = (group * size..(group + 1) * size).map(gated).collect();
            let r = one / (S::dot(&g, &g) / S::constant(size as f64) + eps).sqrt();
            out.extend(g.iter().zip(&w[group * size..]).map(|(g, w)| *w * *g * r));
            stats.push(r);
        }
    }
    call.set("out", out);
    call.set("stats", stats);
}
