//! The state space of Mamba-2 in chunks. Its values are (batch, chunks, heads, positions, …), or by groups of heads.

use super::graph::{Binary, Op, Value};
use super::translation::Translation;
use crate::error::{Error, Result};
use crate::plan::Entry;

/// Sizes of sequences, chunks and heads.
#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    length: usize,
    chunks: usize,
    size: usize,
    heads: usize,
    groups: usize,
    features: usize,
    states: usize,
}

impl Sizes {
    fn of(e: &Entry) -> Sizes {
        let [batch, length, chunks, size, heads, groups, features, states] =
            ["batch", "length", "chunks", "size", "heads", "groups", "features", "states"].map(|name| e.size(name));
        Sizes { batch, length, chunks, size, heads, groups, features, states }
    }

    /// Heads of a group.
    fn each(self) -> usize {
        self.heads / self.groups
    }

    /// Positions after the end of the sequences in their last chunk.
    fn rest(self) -> usize {
        self.chunks * self.size - self.length
    }
}

/// A pass of the state space.
pub(super) fn pass(t: &mut Translation<'_>, e: &Entry, pass: &str) -> Result<()> {
    let s = Sizes::of(e);
    match pass {
        "arrange" => arrange(t, e, s),
        "decay" => decay(t, e, s),
        "scores" => scores(t, e, s),
        "weigh" => weigh(t, e, s),
        "pass_states" => pass_states(t, e, s),
        "combine" => combine(t, e, s),
        _ => Err(Error::Internal(format!("ssd/{pass} has no translation"))),
    }
}

/// Columns of sequences (batch, length, …) as (batch, chunks, parts, positions, cols).
fn in_chunks(t: &mut Translation<'_>, e: &Entry, s: Sizes, x: Value, [parts, cols]: [usize; 2]) -> Result<Value> {
    let x = if s.rest() == 0 { x } else { t.add(Op::Pad(1, 0, s.rest()), &[x], e, "padded")? };
    let x = t.view(x, &[s.batch, s.chunks, s.size, parts, cols], e)?;
    t.add(Op::Permute(vec![0, 1, 3, 2, 4]), &[x], e, "chunks")
}

/// x, keys and queries.
fn arrange(t: &mut Translation<'_>, e: &Entry, s: Sizes) -> Result<()> {
    let xbc = t.read(e, "xbc")?;
    let (values, keys) = (s.heads * s.features, s.groups * s.states);
    let parts = [
        ("x", 0, values, [s.heads, s.features]),
        ("keys", values, keys, [s.groups, s.states]),
        ("queries", values + keys, keys, [s.groups, s.states]),
    ];
    for (name, first, cols, sizes) in parts {
        if e.tensor(name).is_none() {
            continue;
        }
        let part = t.add(Op::Slice(2, first as i64, (first + cols) as i64), &[xbc], e, name)?;
        let part = in_chunks(t, e, s, part, sizes)?;
        t.write(e, name, part)?;
    }
    Ok(())
}

/// δ = softplus(dt + bias) and the sums α of −δ exp(A_log) over the positions of each chunk.
fn decay(t: &mut Translation<'_>, e: &Entry, s: Sizes) -> Result<()> {
    if e.scalar("low") > 0.0 || e.scalar("high") < f64::from(f32::MAX) {
        return Err(Error::Internal("limits of the step size have no translation".into()));
    }
    let (zx, bias, a_log) = (t.read(e, "zx")?, t.read(e, "dt_bias")?, t.read(e, "a_log")?);
    let width = *t.shape(zx).last().unwrap_or(&0);
    let dt = t.add(Op::Slice(2, (width - s.heads) as i64, -1), &[zx], e, "dt")?;
    let dt = t.binary(Binary::Add, dt, bias, e, "dt_biased")?;
    let delta = t.add(Op::Softplus, &[dt], e, "steps")?;
    let delta = in_chunks(t, e, s, delta, [s.heads, 1])?;
    let delta = t.view(delta, &[s.batch, s.chunks, s.heads, s.size], e)?;
    let rate = t.add(Op::Exp, &[a_log], e, "rate")?;
    let rate = t.view(rate, &[s.heads, 1], e)?;
    let falls = t.binary(Binary::Mul, delta, rate, e, "falls")?;
    let sums = t.add(Op::CumSum(3), &[falls], e, "fall_sums")?;
    let alpha = t.add(Op::Neg, &[sums], e, "decay_sums")?;
    let decay = t.bound(e, "decay")?;
    t.decays.insert(decay, [alpha, delta]);
    Ok(())
}

fn decays(t: &Translation<'_>, e: &Entry) -> Result<[Value; 2]> {
    let decay = t.bound(e, "decay")?;
    t.decays.get(&decay).copied().ok_or_else(|| Error::Internal("a state space without decay".into()))
}

/// 0 where the column is at most the row, less `strictly` by one, and −∞ elsewhere.
fn mask(t: &mut Translation<'_>, size: usize, strictly: bool) -> Value {
    let number = |i: usize| if i % size + usize::from(strictly) <= i / size { 0.0 } else { f32::NEG_INFINITY };
    let name = if strictly { "before" } else { "until" };
    t.constant(&format!("{name}.{size}"), &[size, size], (0..size * size).map(number).collect())
}

/// exp(rows_i − columns_j + mask) of two (…, n).
fn falls(t: &mut Translation<'_>, e: &Entry, [rows, columns, mask]: [Value; 3]) -> Result<Value> {
    let axes = t.shape(rows).len();
    let rows = t.add(Op::Unsqueeze(axes), &[rows], e, "rows")?;
    let columns = t.add(Op::Unsqueeze(axes - 1), &[columns], e, "columns")?;
    let between = t.binary(Binary::Sub, rows, columns, e, "between")?;
    let between = t.binary(Binary::Add, between, mask, e, "masked")?;
    t.add(Op::Exp, &[between], e, "fall")
}

/// m = g · exp(α_i − α_j) δ_j for j ≤ i.
fn scores(t: &mut Translation<'_>, e: &Entry, s: Sizes) -> Result<()> {
    let ([alpha, delta], g) = (decays(t, e)?, t.read(e, "g")?);
    let mask = mask(t, s.size, false);
    let fall = falls(t, e, [alpha, alpha, mask])?;
    let delta = t.add(Op::Unsqueeze(3), &[delta], e, "step_columns")?;
    let weight = t.binary(Binary::Mul, fall, delta, e, "weight")?;
    let weight = t.view(weight, &[s.batch, s.chunks, s.groups, s.each(), s.size, s.size], e)?;
    let g = t.view(g, &[s.batch, s.chunks, s.groups, 1, s.size, s.size], e)?;
    let m = t.binary(Binary::Mul, g, weight, e, "m")?;
    t.write(e, "m", m)
}

/// What positions bring to the state after their chunk, by group.
fn weigh(t: &mut Translation<'_>, e: &Entry, s: Sizes) -> Result<()> {
    let ([alpha, delta], x) = (decays(t, e)?, t.read(e, "x")?);
    let end = t.add(Op::Slice(3, s.size as i64 - 1, s.size as i64), &[alpha], e, "end")?;
    let left = t.binary(Binary::Sub, end, alpha, e, "until_end")?;
    let left = t.add(Op::Exp, &[left], e, "kept")?;
    let weight = t.binary(Binary::Mul, left, delta, e, "weight")?;
    let weight = t.add(Op::Unsqueeze(4), &[weight], e, "weights")?;
    let y = t.binary(Binary::Mul, weight, x, e, "weighed")?;
    let y = t.view(y, &[s.batch, s.chunks, s.groups, s.each(), s.size, s.features], e)?;
    let y = t.add(Op::Permute(vec![0, 1, 2, 4, 3, 5]), &[y], e, "by_group")?;
    t.write(e, "y", y)
}

/// The states before each chunk: what the chunks before it bring, as far as it is left.
fn pass_states(t: &mut Translation<'_>, e: &Entry, s: Sizes) -> Result<()> {
    let ([alpha, _], carried) = (decays(t, e)?, t.read(e, "carried")?);
    let falls_of_chunks = t.add(Op::Take(3, -1), &[alpha], e, "chunk_falls")?;
    let falls_of_chunks = t.add(Op::Permute(vec![0, 2, 1]), &[falls_of_chunks], e, "by_head")?;
    let sums = t.add(Op::CumSum(2), &[falls_of_chunks], e, "sums")?;
    let before = t.binary(Binary::Sub, sums, falls_of_chunks, e, "sums_before")?;
    let mask = mask(t, s.chunks, true);
    let weights = falls(t, e, [before, sums, mask])?;
    let carried = t.view(carried, &[s.batch, s.chunks, s.heads, s.features * s.states], e)?;
    let carried = t.add(Op::Permute(vec![0, 2, 1, 3]), &[carried], e, "carried")?;
    let border = t.add(Op::MatMul, &[weights, carried], e, "borders")?;
    let border = t.add(Op::Permute(vec![0, 2, 1, 3]), &[border], e, "states")?;
    t.write(e, "border", border)
}

/// y = within + D x + exp(α) before.
fn combine(t: &mut Translation<'_>, e: &Entry, s: Sizes) -> Result<()> {
    let (within, x, d) = (t.read(e, "within")?, t.read(e, "x")?, t.read(e, "d")?);
    let shape = [s.batch, s.chunks, s.heads, s.size, s.features];
    let within = t.view(within, &shape, e)?;
    let d = t.view(d, &[s.heads, 1, 1], e)?;
    let through = t.binary(Binary::Mul, x, d, e, "through")?;
    let mut y = t.binary(Binary::Add, within, through, e, "own")?;
    if let Some(before) = t.maybe(e, "before")? {
        let [alpha, _] = decays(t, e)?;
        let before = t.view(before, &[s.batch, s.chunks, s.groups, s.size, s.each(), s.features], e)?;
        let before = t.add(Op::Permute(vec![0, 1, 2, 4, 3, 5]), &[before], e, "before")?;
        let before = t.view(before, &shape, e)?;
        let left = t.add(Op::Exp, &[alpha], e, "left")?;
        let left = t.add(Op::Unsqueeze(4), &[left], e, "lefts")?;
        let before = t.binary(Binary::Mul, left, before, e, "from_before")?;
        y = t.binary(Binary::Add, y, before, e, "sum")?;
    }
    let y = t.add(Op::Permute(vec![0, 1, 3, 2, 4]), &[y], e, "positions")?;
    let mut y = t.view(y, &[s.batch, s.chunks * s.size, s.heads * s.features], e)?;
    if s.rest() > 0 {
        y = t.add(Op::Slice(1, 0, s.length as i64), &[y], e, "cut")?;
    }
    t.write(e, "y", y)
}
