//! Column statistics and what is made of them.

use super::Call;
use super::vector_loss::add_term;
use crate::harness::scalar::Scalar;

/// The reference of a pass, if it has one.
pub(super) fn evaluate<S: Scalar>(pass: &str, call: &mut Call<'_, S>) -> bool {
    match pass {
        "forward" => forward(call),
        "value" => value(call),
        _ => return false,
    }
    true
}

/// μ and σ.
pub fn forward<S: Scalar>(call: &mut Call<'_, S>) {
    let (rows, width) = (call.entry.size("rows"), call.entry.size("width"));
    let n = rows.min(call.state().rows as usize);
    let x = call.floats("x");
    let mut stats = vec![S::constant(0.0); 2 * width];
    for c in 0..width {
        let column: Vec<S> = (0..n).map(|r| x[r * width + c]).collect();
        let mean = S::sum(&column) / S::constant(n as f64);
        let centred: Vec<S> = column.iter().map(|v| *v - mean).collect();
        let square = S::dot(&centred, &centred);
        // The root has no slope at 0; the kernels take 0 there.
        let std = if square.value() > 0.0 { (square / S::constant((n.max(2) - 1) as f64)).sqrt() } else { S::constant(0.0) };
        (stats[c], stats[width + c]) = (mean, std);
    }
    call.set("stats", stats);
}

/// The loss in each row that counts.
pub fn value<S: Scalar>(call: &mut Call<'_, S>) {
    let (rows, width) = (call.entry.size("rows"), call.entry.size("width"));
    let (stats, other, mut y) = (call.floats("stats"), call.maybe("other"), call.floats("y"));
    let parts: Vec<S> = match &other {
        Some(other) => stats.iter().zip(other).map(|(a, b)| (*a - *b) * (*a - *b)).collect(),
        None => stats[width..].iter().map(|std| (S::constant(1.0) - *std).relu()).collect(),
    };
    let loss = S::sum(&parts) / S::constant(width as f64);
    for row in 0..rows {
        let counted = if row < call.state().rows as usize { loss } else { S::constant(0.0) };
        add_term(call, &mut y, row, counted);
    }
    call.set("y", y);
}
