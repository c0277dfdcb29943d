//! Mean kernels between unit vectors.

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

/// The loss in each row that counts.
pub fn forward<S: Scalar>(call: &mut Call<'_, S>) {
    let e = call.entry;
    let (rows, count, cols) = (e.size("rows"), e.size("count"), e.size("cols"));
    let n = rows.min(call.state().rows as usize);
    let m = if e.constant("SELF") == 1 { n } else { count };
    let (s, mut y) = (call.floats("s"), call.floats("y"));
    let own = e.constant("SELF") == 1;
    let mut ds = vec![S::constant(0.0); rows * count];
    let [sign, offset, inverse, weight] = ["sign", "offset", "inverse", "weight"].map(|name| S::constant(e.scalar(name)));
    // Rounding may make a product of unit vectors larger than 1; the slope stays that at 1.
    let exponent = |product: S| (product - S::constant(product.value().max(1.0))) * inverse;
    for row in 0..rows {
        let kernels: Vec<S> = (0..m).map(|j| exponent(s[row * count + j]).exp()).collect();
        if own && row < n {
            let factor = weight * sign * inverse * S::constant(2.0 * f64::from(call.state().scale) / (n * m) as f64);
            ds[row * count..][..m].iter_mut().zip(&kernels).for_each(|(ds, k)| *ds = factor * *k);
        }
        let mean = S::sum(&kernels) / S::constant(m as f64);
        let loss = if row < n { offset + sign * mean } else { S::constant(0.0) };
        let at = row * cols;
        let old = if e.constant("ACCUMULATE") == 1 { y[at + e.size("column")] } else { S::constant(0.0) };
        y[at + e.size("column")] = old + loss;
        y[at] = y[at] + weight * loss;
    }
    call.set("y", y);
    // Products of the rows with themselves: half of a gradient that is twice theirs. Otherwise it follows from the value.
    if own && e.constant("GRADIENT") == 1 {
        call.set("ds", ds);
    }
}
