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
/// Logits that are overwritten with their gradient have it in closed form, so that what reads them next has it.
pub fn forward<S: Scalar>(call: &mut Call<'_, S>) {
    let (cols, kind, alpha) = (call.entry.size("cols"), call.entry.constant("KIND"), call.entry.scalar("alpha"));
    let in_place = call.entry.constant("IN_PLACE") == 1;
    let (x, targets) = (call.floats(if in_place { "dx" } else { "x" }), call.ints("targets"));
    let (rows, row_at) = (call.entry.size("rows"), call.entry.size("row_at"));
    let (per, length) = (call.entry.constant("PER"), call.entry.size("length"));
    let (state, smoothing, weights) = (call.state(), call.entry.scalar("smoothing"), call.maybe("weights"));
    // Of a batch in chunks of rows the results of others are there already.
    let mut y = call.maybe("y").unwrap_or_else(|| vec![S::constant(0.0); targets.len() * 4]);
    let mut dx = x.clone();
    for (chunk_row, row) in x.chunks(cols).take(rows).enumerate() {
        let (r, gradient) = (row_at + chunk_row, &mut dx[chunk_row * cols..][..cols]);
        let sequence = &targets[r / length * length..][..length];
        let counted = sequence.iter().filter(|t| (**t as usize) < cols).count().max(1);
        let share = S::constant(if per == 1 { 1.0 / counted as f64 } else { 1.0 });
        let t = targets[r] as usize;
        if t >= cols {
            y[r * 4..][..4].fill(S::constant(0.0));
            gradient.fill(S::constant(0.0));
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
        let factor = S::constant(1.0 + alpha * [0.0, d, d * d, d.sqrt(), 0.0][kind as usize]);
        let loss = match kind {
            4 => {
                let distances: Vec<S> = (0..cols).map(|i| S::constant(i.abs_diff(t) as f64)).collect();
                S::dot(&exps, &distances) / total
            }
            _ => smoothed * factor,
        };
        if in_place {
            let scale = if r < state.rows as usize { f64::from(state.scale) / f64::from(state.count) } else { 0.0 };
            let scale = weights.as_ref().map_or(share, |weights| weights[r] * share) * S::constant(scale);
            for (i, (gradient, exp)) in gradient.iter_mut().zip(&exps).enumerate() {
                let wanted = (1.0 - smoothing) * f64::from(u8::from(i == t)) + smoothing / cols as f64;
                *gradient = scale
                    * match kind {
                        4 => *exp / total * (S::constant(i.abs_diff(t) as f64) - loss),
                        _ => factor * (*exp / total - S::constant(wanted)),
                    };
            }
        }
        let loss = weights.as_ref().map_or(loss, |weights| weights[r] * loss);
        let results = [loss, ce, S::constant(f64::from(u8::from(best == t))), S::constant(d)].map(|v| v * share);
        y[r * 4..][..4].copy_from_slice(&results);
    }
    call.set("y", y);
    if in_place {
        call.set("dx", dx);
    }
}
