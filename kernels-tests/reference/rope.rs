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

/// Queries and keys turned, values copied; keys and values for each head that they serve.
pub fn rotate<S: Scalar>(call: &mut Call<'_, S>) {
    let e = call.entry;
    let [heads, kv_heads, d, length] = ["heads", "kv_heads", "head_dim", "length"].map(|size| e.size(size));
    let position = call.state().position as usize;
    let x = call.floats("x");
    let mut spread = Vec::with_capacity(x.len() * 3 * heads / (heads + 2 * kv_heads));
    for row in x.chunks((heads + 2 * kv_heads) * d) {
        let (queries, rest) = row.split_at(heads * d);
        spread.extend_from_slice(queries);
        for part in rest.chunks(kv_heads * d) {
            (0..heads).for_each(|head| spread.extend_from_slice(&part[head * kv_heads / heads * d..][..d]));
        }
    }
    let y = turned(&spread, &call.floats("table"), [heads, d, length, position]);
    call.set("y", y);
}

/// Rows (3, heads, d) of sequences turned by their positions, of which the first is `first`.
pub fn turned<S: Scalar>(x: &[S], table: &[S], [heads, d, length, first]: [usize; 4]) -> Vec<S> {
    let mut y = x.to_vec();
    for (head, pairs) in y.chunks_mut(d).enumerate().filter(|(head, _)| head / heads % 3 < 2) {
        let t = first + head / (3 * heads) % length;
        for c in 0..d / 2 {
            let (cos, sin) = (table[(t * d / 2 + c) * 2], table[(t * d / 2 + c) * 2 + 1]);
            let (a, b) = (pairs[c], pairs[c + d / 2]);
            (pairs[c], pairs[c + d / 2]) = (a * cos - b * sin, b * cos + a * sin);
        }
    }
    y
}
