//! Attention, and the turning of its queries and keys.

use super::graph::{Binary, Op, Value};
use super::translation::Translation;
use crate::error::Result;
use crate::plan::Entry;

/// softmax(q·kᵀ / √D)·v.
pub(super) fn attention(t: &mut Translation<'_>, e: &Entry) -> Result<()> {
    let ([batch, length, heads], d) = (["batch", "length", "heads"].map(|name| e.size(name)), e.constant("D") as usize);
    let qkv = t.read(e, "qkv")?;
    let cross = t.maybe(e, "q_other")?;
    let parts = if cross.is_some() { 2 } else { 3 };
    let qkv = t.view(qkv, &[batch, length, parts, heads, d], e)?;
    let by_head = |t: &mut Translation<'_>, value: Value, what: &str| t.add(Op::Permute(vec![0, 2, 1, 3]), &[value], e, what);
    let part = |t: &mut Translation<'_>, at: usize, what: &str| {
        let value = t.add(Op::Take(2, at as i64), &[qkv], e, &format!("{what}_rows"))?;
        by_head(t, value, what)
    };
    let (k, v) = (part(t, parts - 2, "k")?, part(t, parts - 1, "v")?);
    let [k, v] = t.with_past([k, v], e)?;
    let q = match cross {
        None => part(t, 0, "q")?,
        Some(q) => {
            let q = t.view(q, &[batch, length, heads, d], e)?;
            by_head(t, q, "q")?
        }
    };
    let y = t.add(Op::Attention(e.constant("CAUSAL") == 1), &[q, k, v], e, "heads")?;
    let y = by_head(t, y, "attended")?;
    let y = t.view(y, &[batch, length, heads * d], e)?;
    t.write(e, "y", y)
}

/// The mean beside the sum of the positions by their softmax weights.
pub(super) fn pool(t: &mut Translation<'_>, e: &Entry) -> Result<()> {
    let [rows, features, cols] = ["rows", "features", "cols"].map(|name| e.size(name));
    let length = e.constant("T") as usize;
    let (q, k, x, b) = (t.read(e, "q")?, t.read(e, "k")?, t.read(e, "x")?, t.read(e, "b")?);
    let q = t.view(q, &[rows, features], e)?;
    let q = t.add(Op::Unsqueeze(2), &[q], e, "query")?;
    let k = t.view(k, &[rows, length, features], e)?;
    let scores = t.add(Op::MatMul, &[k, q], e, "products")?;
    let scale = t.constant(&format!("{}.scale", e.label), &[1], vec![(features as f64).sqrt() as f32]);
    let scores = t.binary(Binary::Div, scores, scale, e, "scores")?;
    let a = t.add(Op::Softmax(1), &[scores], e, "weights")?;
    let x = t.view(x, &[rows, length, cols], e)?;
    let weighed = t.binary(Binary::Mul, a, x, e, "weighed")?;
    let mean = t.add(Op::Sum(1), &[weighed], e, "mean")?;
    let b = t.view(b, &[rows, cols], e)?;
    let y = t.add(Op::Concat(1), &[b, mean], e, "y")?;
    t.write(e, "a", a)?;
    t.write(e, "y", y)
}

/// Queries and keys turned by their positions, and keys and values for each head that they serve.
pub(super) fn rope(t: &mut Translation<'_>, e: &Entry) -> Result<()> {
    let [rows, length, heads, kv_heads, d] = ["rows", "length", "heads", "kv_heads", "head_dim"].map(|name| e.size(name));
    let table = t.given(e, "table")?;
    let all = t.table_length(length);
    let x = t.read(e, "x")?;
    let x = t.view(x, &[rows / length, length, heads + 2 * kv_heads, d], e)?;
    let mut angles = |name: &str, at: usize| {
        let values = table.iter().skip(at).step_by(2).take(all * d / 2).copied().collect();
        let values = t.constant(&format!("rope.{name}"), &[all, 1, d / 2], values);
        t.placed(values, 0, x, e, name)
    };
    let (cos, sin) = (angles("cos", 0)?, angles("sin", 1)?);
    let turning = t.add(Op::Slice(2, 0, (heads + kv_heads) as i64), &[x], e, "queries_keys")?;
    let half = (d / 2) as i64;
    let a = t.add(Op::Slice(3, 0, half), &[turning], e, "a")?;
    let b = t.add(Op::Slice(3, half, -1), &[turning], e, "b")?;
    let [a_cos, a_sin, b_cos, b_sin] = [(a, cos, "a_cos"), (a, sin, "a_sin"), (b, cos, "b_cos"), (b, sin, "b_sin")]
        .map(|(x, angle, what)| t.binary(Binary::Mul, x, angle, e, what));
    let first = t.binary(Binary::Sub, a_cos?, b_sin?, e, "first")?;
    let second = t.binary(Binary::Add, b_cos?, a_sin?, e, "second")?;
    let turned = t.add(Op::Concat(3), &[first, second], e, "turned")?;
    let values = t.add(Op::Slice(2, (heads + kv_heads) as i64, -1), &[x], e, "values")?;
    let y = if heads == kv_heads {
        t.add(Op::Concat(2), &[turned, values], e, "y")?
    } else {
        let queries = t.add(Op::Slice(2, 0, heads as i64), &[turned], e, "queries")?;
        let keys = t.add(Op::Slice(2, heads as i64, -1), &[turned], e, "keys")?;
        let [keys, values] = [(keys, "keys"), (values, "values")].map(|(shared, what)| {
            let apart = t.add(Op::Unsqueeze(3), &[shared], e, &format!("{what}_apart"))?;
            let repeated = t.add(Op::Concat(3), &vec![apart; heads / kv_heads], e, &format!("{what}_repeated"))?;
            t.view(repeated, &[rows / length, length, heads, d], e)
        });
        t.add(Op::Concat(2), &[queries, keys?, values?], e, "y")?
    };
    t.write(e, "y", y)
}
