//! Cross-entropy of the pairs among all products, by row and by column.

use super::Call;
use super::attention::softmax;
use super::vector_loss::add_term;
use crate::harness::scalar::Scalar;

/// The reference of a pass, if it has one.
pub(super) fn evaluate<S: Scalar>(pass: &str, call: &mut Call<'_, S>) -> bool {
    match pass {
        "forward" => forward(call),
        _ => return false,
    }
    true
}

/// Log-sum-exps and losses.
pub fn forward<S: Scalar>(call: &mut Call<'_, S>) {
    let (rows, tau) = (call.entry.size("rows"), S::constant(call.entry.scalar("temperature")));
    let n = rows.min(call.state().rows as usize);
    let (s, mut y) = (call.floats("s"), call.floats("y"));
    let mut lse = vec![S::constant(0.0); 2 * rows];
    for i in 0..rows {
        let mut loss = S::constant(0.0);
        if i < n {
            let row: Vec<S> = (0..n).map(|j| s[i * rows + j] / tau).collect();
            let column: Vec<S> = (0..n).map(|j| s[j * rows + i] / tau).collect();
            (lse[2 * i], lse[2 * i + 1]) = (softmax(&row).1, softmax(&column).1);
            loss = lse[2 * i] + lse[2 * i + 1] - (row[i] + column[i]);
        }
        add_term(call, &mut y, i, loss);
    }
    call.set("lse", lse);
    call.set("y", y);
}
