//! Mean over positions by weight.

use super::Call;
use super::attention::softmax;
use crate::harness::scalar::Scalar;

/// The reference of a pass, if it has one.
pub(super) fn evaluate<S: Scalar>(pass: &str, call: &mut Call<'_, S>) -> bool {
    match pass {
        "weights" => weights(call),
        "forward" => forward(call),
        _ => return false,
    }
    true
}

/// a, 0 after the end of a sequence.
pub fn weights<S: Scalar>(call: &mut Call<'_, S>) {
    let [batch, length, heads] = ["batch", "length", "heads"].map(|name| call.entry.size(name));
    let s = call.floats("s");
    let lengths = (call.entry.constant("LENGTHS") == 1).then(|| call.ints("lengths"));
    let mut a = vec![S::constant(0.0); batch * length * heads];
    for b in 0..batch {
        let count = lengths.as_ref().map_or(length, |lengths| lengths[b] as usize);
        for h in 0..heads {
            let scores: Vec<S> = (0..count).map(|t| s[(b * length + t) * heads + h]).collect();
            softmax(&scores).0.into_iter().enumerate().for_each(|(t, weight)| a[(b * length + t) * heads + h] = weight);
        }
    }
    call.set("a", a);
}

/// y[b, c].
pub fn forward<S: Scalar>(call: &mut Call<'_, S>) {
    let [batch, length, heads, cols] = ["batch", "length", "heads", "cols"].map(|name| call.entry.size(name));
    let (a, x) = (call.floats("a"), call.floats("x"));
    let mean = |i: usize| {
        let (b, c) = (i / cols, i % cols);
        let of = |t: usize| (a[(b * length + t) * heads + c / (cols / heads)], x[(b * length + t) * cols + c]);
        let (weights, values): (Vec<S>, Vec<S>) = (0..length).map(of).unzip();
        S::dot(&weights, &values)
    };
    call.set("y", (0..batch * cols).map(mean).collect());
}
