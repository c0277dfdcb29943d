//! Each pixel four times.

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

/// Nearest neighbours.
pub fn forward<S: Scalar>(call: &mut Call<'_, S>) {
    let e = call.entry;
    let (batch, height, width, channels) =
        (e.size("batch"), e.constant("HEIGHT") as usize, e.constant("WIDTH") as usize, e.constant("CHANNELS") as usize);
    let x = call.floats("x");
    let mut y = Vec::with_capacity(4 * x.len());
    for b in 0..batch {
        for r in 0..2 * height {
            for s in 0..2 * width {
                for c in 0..channels {
                    let last = ((b * height + r / 2) * width + s / 2) * channels + c;
                    let planes = ((b * channels + c) * height + r / 2) * width + s / 2;
                    y.push(x[if e.constant("PLANES") == 1 { planes } else { last }]);
                }
            }
        }
    }
    call.set("y", y);
}
