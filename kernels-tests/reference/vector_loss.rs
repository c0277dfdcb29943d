//! Squared error, cosine and cycle terms of each row.

use super::Call;
use super::normalize::unit;
use crate::harness::scalar::Scalar;

/// The reference of a pass, if it has one.
pub(super) fn evaluate<S: Scalar>(pass: &str, call: &mut Call<'_, S>) -> bool {
    match pass {
        "rows" => rows(call),
        _ => return false,
    }
    true
}

/// Adds a term with its weight to the total in column 0.
pub fn add_term<S: Scalar>(call: &Call<'_, S>, y: &mut [S], row: usize, value: S) {
    let at = row * call.entry.size("cols");
    y[at + call.entry.size("column")] = value;
    y[at] = y[at] + S::constant(call.entry.scalar("weight")) * value;
}

/// Columns 0, 1 and those of the terms.
pub fn rows<S: Scalar>(call: &mut Call<'_, S>) {
    let e = call.entry;
    let (width, cols) = (e.size("width"), e.size("cols"));
    let (x, t, nearest) = (call.floats("x"), call.floats("t"), call.maybe("nearest"));
    let mut y = call.maybe("y").unwrap_or_else(|| vec![S::constant(0.0); e.size("rows") * cols]);
    for (row, (x, t)) in x.chunks(width).zip(t.chunks(width)).enumerate() {
        let (p, unit_t) = (unit(x).0, unit(t).0);
        let cos = S::dot(&p, &unit_t);
        let mut loss = S::constant(0.0);
        let mut term = |name: &str, value: S| {
            y[row * cols + e.size(&format!("{name}_column"))] = value;
            loss = loss + S::constant(e.scalar(name)) * value;
        };
        if e.constant("MSE") > 0 {
            let from = if e.constant("MSE") == 1 { x } else { &p };
            let d: Vec<S> = from.iter().zip(t).map(|(a, b)| *a - *b).collect();
            term("mse", S::dot(&d, &d) / S::constant(width as f64));
        }
        if e.constant("COSINE") > 0 {
            term("cosine", S::constant(1.0) - cos);
        }
        if let Some(nearest) = &nearest {
            let unit_c = unit(&nearest[row * width..][..width]).0;
            let part = S::constant(1.0) - S::dot(&p, &unit_c);
            term("cycle", if call.state().drawn > 0.0 { part } else { S::constant(0.0) });
        }
        (y[row * cols], y[row * cols + 1]) = (loss, cos);
    }
    call.set("y", y);
}
