//! Surroundings of pixels.

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

/// Patches, 0 outside of the image.
pub fn forward<S: Scalar>(call: &mut Call<'_, S>) {
    let e = call.entry;
    let (batch, height, width, channels) =
        (e.size("batch"), e.constant("HEIGHT") as usize, e.constant("WIDTH") as usize, e.constant("CHANNELS") as usize);
    let (k, x, at) = (e.constant("K") as usize, call.floats("x"), e.size("x_at"));
    let mut y = Vec::with_capacity(batch * height * width * channels * k * k);
    for b in 0..batch {
        for r in 0..height {
            for s in 0..width {
                for c in 0..channels {
                    for i in 0..k {
                        for j in 0..k {
                            let (row, column) = ((r + i).wrapping_sub(k / 2), (s + j).wrapping_sub(k / 2));
                            let inside = row < height && column < width;
                            y.push(if inside { x[at + ((b * height + row) * width + column) * channels + c] } else { S::constant(0.0) });
                        }
                    }
                }
            }
        }
    }
    call.set_first("y", y);
}
