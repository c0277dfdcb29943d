//! Rotation of pairs by their position.

use super::Call;
use crate::harness::scalar::Scalar;

/// The reference of a pass, if it has one.
pub(super) fn evaluate<S: Scalar>(pass: &str, call: &mut Call<'_, S>) -> bool {
    match pass {
        "rotate" | "rotate_vec4" => rotate(call),
        _ => return false,
    }
    true
}

/// Queries and keys turned, values copied.
pub fn rotate<S: Scalar>(call: &mut Call<'_, S>) {
    let e = call.entry;
    let sizes = [e.size("heads"), e.size("head_dim"), e.size("length"), call.state().position as usize];
    let y = turned(&call.floats("x"), &call.floats("table"), sizes, S::constant(e.scalar("sign")));
    call.set("y", y);
}

/// Rows (3, heads, d) of sequences turned by their positions, of which the first is `first`.
pub fn turned<S: Scalar>(x: &[S], table: &[S], [heads, d, length, first]: [usize; 4], sign: S) -> Vec<S> {
    let mut y = x.to_vec();
    for (head, pairs) in y.chunks_mut(d).enumerate().filter(|(head, _)| head / heads % 3 < 2) {
        let t = first + head / (3 * heads) % length;
        for c in 0..d / 2 {
            let (cos, sin) = (table[(t * d / 2 + c) * 2], sign * table[(t * d / 2 + c) * 2 + 1]);
            let (a, b) = (pairs[c], pairs[c + d / 2]);
            (pairs[c], pairs[c + d / 2]) = (a * cos - b * sin, b * cos + a * sin);
        }
    }
    y
}
