//! −ln softmax(x)[t] and what is made of it.

use super::{Call, argmax::first_largest};
use crate::harness::scalar::Scalar;

/// The reference of a pass, if it has one.
pub(super) fn evaluate<S: Scalar>(pass: &str, call: &mut Call<'_, S>) -> bool {
    match pass {
        "forward" => forward(call),
        _ => return false,
    }
    true
}

/// Rows of (loss, cross-entropy, correct, distance), divided by the counted rows of their sequence where sequences have the same weight.
pub fn forward<S: Scalar>(call: &mut Call<'_, S>) {
    let (cols, kind, alpha) = (call.entry.size("cols"), call.entry.constant("KIND"), call.entry.scalar("alpha"));
    let (x, targets) = (call.floats("x"), call.ints("targets"));
    let (per, length) = (call.entry.constant("PER"), call.entry.size("length"));
    let (smoothing, weights) = (call.entry.scalar("smoothing"), call.maybe("weights"));
    let mut y = Vec::with_capacity(targets.len() * 4);
    for (r, (row, target)) in x.chunks(cols).zip(&targets).enumerate() {
        let sequence = &targets[r / length * length..][..length];
        let counted = sequence.iter().filter(|t| (**t as usize) < cols).count().max(1);
        let share = S::constant(if per == 1 { 1.0 / counted as f64 } else { 1.0 });
        let t = *target as usize;
        if t >= cols {
            y.extend([S::constant(0.0); 4]);
            continue;
        }
        let best = first_largest(row);
        let top = S::constant(row[best].value());
        let exps: Vec<S> = row.iter().map(|v| (*v - top).exp()).collect();
        let total = S::sum(&exps);
        let ce = total.ln() - (row[t] - top);
        let all: Vec<S> = row.iter().map(|v| total.ln() - (*v - top)).collect();
        let smoothed = ce * S::constant(1.0 - smoothing) + S::sum(&all) * S::constant(smoothing / cols as f64);
        let d = best.abs_diff(t) as f64;
        let loss = match kind {
            4 => {
                let distances: Vec<S> = (0..cols).map(|i| S::constant(i.abs_diff(t) as f64)).collect();
                S::dot(&exps, &distances) / total
            }
            _ => smoothed * S::constant(1.0 + alpha * [0.0, d, d * d, d.sqrt()][kind as usize]),
        };
        let loss = weights.as_ref().map_or(loss, |weights| weights[r] * loss);
        y.extend([loss, ce, S::constant(f64::from(u8::from(best == t))), S::constant(d)].map(|v| v * share));
    }
    call.set("y", y);
}
