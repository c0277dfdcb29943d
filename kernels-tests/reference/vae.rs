//! The posterior of a variational autoencoder.

use super::Call;
use super::vector_loss::add_term;
use crate::harness::scalar::Scalar;
use crate::random::normal_at;

/// The reference of a pass, if it has one.
pub(super) fn evaluate<S: Scalar>(pass: &str, call: &mut Call<'_, S>) -> bool {
    match pass {
        "sample" => sample(call),
        "kl" => kl(call),
        _ => return false,
    }
    true
}

/// Latents.
pub fn sample<S: Scalar>(call: &mut Call<'_, S>) {
    let e = call.entry;
    let (cols, x, state) = (e.size("cols"), call.floats("x"), call.state());
    let z = (0..x.len() / 2).map(|i| {
        let at = i + i / cols * cols;
        if e.constant("NOISE") == 0 {
            return x[at];
        }
        let noise = normal_at(state.seed, e.size("stream") as u32, state.tick, i as u32);
        x[at] + S::constant(noise) * (S::constant(0.5) * x[at + cols]).exp()
    });
    call.set("z", z.collect());
}

/// Divergence from N(0, 1).
pub fn kl<S: Scalar>(call: &mut Call<'_, S>) {
    let width = call.entry.size("width");
    let (x, mut y) = (call.floats("x"), call.floats("y"));
    let half = S::constant(0.5);
    for (row, parts) in x.chunks(2 * width).enumerate() {
        let terms: Vec<S> = (0..width)
            .map(|c| {
                let (m, s) = (parts[c], parts[width + c]);
                half * (m * m + s.exp() - S::constant(1.0) - s)
            })
            .collect();
        let value = S::sum(&terms) / S::constant(width as f64);
        add_term(call, &mut y, row, if row < call.state().rows as usize { value } else { S::constant(0.0) });
    }
    call.set("y", y);
}
