//! Largest of 2 × 2 pixels.

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

/// The first of the largest.
pub fn forward<S: Scalar>(call: &mut Call<'_, S>) {
    let e = call.entry;
    let (batch, height, width, channels) =
        (e.size("batch"), e.constant("HEIGHT") as usize, e.constant("WIDTH") as usize, e.constant("CHANNELS") as usize);
    let (h, w, x) = (height / 2, width / 2, call.floats("x"));
    let mut y = vec![S::constant(0.0); x.len() / 4];
    for b in 0..batch {
        for r in 0..h {
            for s in 0..w {
                for c in 0..channels {
                    let pixel = |i: usize, j: usize| x[((b * height + 2 * r + i) * width + 2 * s + j) * channels + c];
                    let four = [pixel(0, 0), pixel(0, 1), pixel(1, 0), pixel(1, 1)];
                    let top = four.into_iter().reduce(|a, v| if v.value() > a.value() { v } else { a });
                    let last = ((b * h + r) * w + s) * channels + c;
                    let planes = ((b * channels + c) * h + r) * w + s;
                    y[if e.constant("PLANES") == 1 { planes } else { last }] = top.expect("four pixels");
                }
            }
        }
    }
    call.set("y", y);
}
