//! softmax(q·kᵀ/√D)·v with the whole row of scores at hand.

use super::Call;
use crate::harness::scalar::Scalar;
use crate::random::keep;

/// The reference of a pass, if it has one.
pub(super) fn evaluate<S: Scalar>(pass: &str, call: &mut Call<'_, S>) -> bool {
    match pass {
        "forward_short" | "forward_lanes" | "forward_tiled" | "forward_rows" => forward(call),
        "cached" => cached(call),
        "store" => store(call),
        _ => return false,
    }
    true
}

/// Softmax weights of scores, and their log-sum-exp.
pub fn softmax<S: Scalar>(scores: &[S]) -> (Vec<S>, S) {
    let top = scores.iter().map(|s| s.value()).fold(f64::NEG_INFINITY, f64::max);
    let exps: Vec<S> = scores.iter().map(|s| (*s - S::constant(top)).exp()).collect();
    let total = S::sum(&exps);
    (exps.iter().map(|e| *e / total).collect(), total.ln() + S::constant(top))
}

/// Weighted sum of rows.
pub fn mix<S: Scalar>(weights: &[S], rows: &[&[S]], d: usize) -> Vec<S> {
    (0..d).map(|c| S::dot(weights, &rows.iter().map(|r| r[c]).collect::<Vec<_>>())).collect()
}

/// y and lse.
pub fn forward<S: Scalar>(call: &mut Call<'_, S>) {
    let e = call.entry;
    let (batch, length, heads, d) = (e.size("batch"), e.size("length"), e.size("heads"), e.constant("D") as usize);
    let (mut qkv, q) = (call.floats("qkv"), call.maybe("q_other"));
    if let Some(table) = call.maybe("table") {
        qkv = super::rope::turned(&qkv, &table, [heads, d, length, 0]);
    }
    let part = |b: usize, t: usize, which: usize, h: usize| match (&q, which) {
        (None, _) => &qkv[(((b * length + t) * 3 + which) * heads + h) * d..][..d],
        (Some(q), 0) => &q[((b * length + t) * heads + h) * d..][..d],
        (Some(_), _) => &qkv[(((b * length + t) * 2 + which - 1) * heads + h) * d..][..d],
    };
    let scale = S::constant(1.0 / (d as f64).sqrt());
    let mut y = vec![S::constant(0.0); batch * length * heads * d];
    let mut lse = Vec::with_capacity(batch * heads * length);
    for b in 0..batch {
        for h in 0..heads {
            for i in 0..length {
                let last = if e.constant("CAUSAL") == 1 { i + 1 } else { length };
                let scores: Vec<S> = (0..last).map(|j| S::dot(part(b, i, 0, h), part(b, j, 1, h)) * scale).collect();
                let (mut weights, sum) = softmax(&scores);
                lse.push(sum);
                if e.constant("DROPOUT") == 1 {
                    let state = call.state();
                    for (j, weight) in weights.iter_mut().enumerate() {
                        let index = ((b * heads + h) * length + i) * length + j;
                        let kept = keep(state.seed, e.size("stream") as u32, state.tick, index as u32, e.scalar("rate") as f32);
                        *weight = *weight * S::constant(kept.into());
                    }
                }
                let values: Vec<&[S]> = (0..last).map(|j| part(b, j, 2, h)).collect();
                let at = ((b * length + i) * heads + h) * d;
                y[at..at + d].copy_from_slice(&mix(&weights, &values, d));
            }
        }
    }
    call.set("y", y);
    call.set("lse", lse);
}

/// y of one new position, and the cache with it, which takes the key and the value of the first head that each of its heads serves.
pub fn cached<S: Scalar>(call: &mut Call<'_, S>) {
    let e = call.entry;
    let [batch, heads, kv_heads, limit] = ["batch", "heads", "kv_heads", "limit"].map(|size| e.size(size));
    let (d, served) = (e.constant("D") as usize, heads / kv_heads);
    let position = call.state().position as usize;
    let (qkv, sources) = (call.floats("qkv"), call.ints("sources"));
    let (mut keys, mut values) = (call.floats("keys"), call.floats("values"));
    let at = |row: usize, head: usize, j: usize| ((row * kv_heads + head) * limit + j) * d;
    let new = |b: usize, part: usize, h: usize| &qkv[((b * 3 + part) * heads + h) * d..][..d];
    for b in 0..batch {
        for head in 0..kv_heads {
            keys[at(b, head, position)..][..d].copy_from_slice(new(b, 1, head * served));
            values[at(b, head, position)..][..d].copy_from_slice(new(b, 2, head * served));
        }
    }
    let scale = S::constant(1.0 / (d as f64).sqrt());
    let mut y = Vec::with_capacity(batch * heads * d);
    for b in 0..batch {
        for h in 0..heads {
            let row = |of: &'_ [S], j: usize| of[at(sources[b * limit + j] as usize, h / served, j)..][..d].to_vec();
            let seen = |of: &[S], part: usize| (0..position).map(|j| row(of, j)).chain([new(b, part, h).to_vec()]).collect::<Vec<_>>();
            let (seen_keys, seen_values) = (seen(&keys, 1), seen(&values, 2));
            let scores: Vec<S> = seen_keys.iter().map(|key| S::dot(new(b, 0, h), key) * scale).collect();
            y.extend(mix(&softmax(&scores).0, &seen_values.iter().map(Vec::as_slice).collect::<Vec<_>>(), d));
        }
    }
    call.set("y", y);
    call.set("keys", keys);
    call.set("values", values);
}

/// The cache with the keys and values of whole sequences, of the first head that each of its heads serves.
pub fn store<S: Scalar>(call: &mut Call<'_, S>) {
    let e = call.entry;
    let [batch, positions, heads, kv_heads] = ["batch", "positions", "heads", "kv_heads"].map(|size| e.size(size));
    let [d, limit] = ["head_dim", "limit"].map(|size| e.size(size));
    let qkv = call.floats("qkv");
    for (part, name) in ["keys", "values"].into_iter().enumerate() {
        let mut cache = call.floats(name);
        for (b, m, g) in (0..batch).flat_map(|b| (0..positions).flat_map(move |m| (0..kv_heads).map(move |g| (b, m, g)))) {
            let new = &qkv[(((b * positions + m) * 3 + 1 + part) * heads + g * heads / kv_heads) * d..][..d];
            cache[((b * kv_heads + g) * limit + m) * d..][..d].clone_from_slice(new);
        }
        call.set(name, cache);
    }
}
