//! What is done with whole sequences: positions, embeddings, pooling, and other orders of axes.

use super::graph::{Binary, Op};
use super::translation::Translation;
use crate::error::{Error, Result};
use crate::plan::Entry;

/// Sines and cosines of falling frequency, added to each position.
pub(super) fn sinusoids(t: &mut Translation<'_>, e: &Entry) -> Result<()> {
    let (cols, length) = (e.size("cols"), t.table_length(e.size("length")));
    let wave = |i: usize| {
        let angle = (i / cols) as f64 * 10_000f64.powf(-((i % cols / 2 * 2) as f64) / cols as f64);
        (if (i % cols).is_multiple_of(2) { angle.sin() } else { angle.cos() }) as f32
    };
    let table = t.constant(&format!("{}.table", e.label), &[length, cols], (0..length * cols).map(wave).collect());
    let x = t.read(e, "x")?;
    let table = t.placed(table, 0, x, e, "positions")?;
    let y = t.binary(Binary::Add, x, table, e, "y")?;
    t.write(e, "y", y)
}

/// Rows of a table, plus learned positions.
pub(super) fn embedding(t: &mut Translation<'_>, e: &Entry) -> Result<()> {
    let (table, ids) = (t.read(e, "table")?, t.read(e, "ids")?);
    let mut y = t.add(Op::Rows, &[table, ids], e, "rows")?;
    if let Some(positions) = t.maybe(e, "positions")? {
        let length = e.size("length");
        let part = match t.shape(positions)[0] == length {
            _ if t.past.is_some() => t.placed(positions, 0, y, e, "positions")?,
            true => positions,
            false => t.add(Op::Slice(0, 0, length as i64), &[positions], e, "positions")?,
        };
        y = t.binary(Binary::Add, y, part, e, "y")?;
    }
    t.write(e, "y", y)
}

/// (token / largest, position / largest).
pub(super) fn fixed_embedding(t: &mut Translation<'_>, e: &Entry) -> Result<()> {
    let (ids, length) = (t.read(e, "ids")?, e.size("length"));
    let ids = t.add(Op::Float, &[ids], e, "numbers")?;
    let ids = t.add(Op::Unsqueeze(2), &[ids], e, "column")?;
    let largest = t.constant(&format!("{}.largest", e.label), &[1], vec![e.scalar("max_value") as f32]);
    let tokens = t.binary(Binary::Div, ids, largest, e, "tokens")?;
    let place = |i: usize| (i as f64 / e.scalar("max_position")) as f32;
    let all = t.table_length(length);
    let places = t.constant(&format!("{}.positions", e.label), &[1, all, 1], (0..all).map(place).collect());
    let places = t.placed(places, 1, tokens, e, "places")?;
    let places = t.add(Op::ExpandAs, &[places, tokens], e, "positions")?;
    let y = t.add(Op::Concat(2), &[tokens, places], e, "y")?;
    t.write(e, "y", y)
}

/// x plus numbers that are the same for each sequence, or plus another result.
pub(super) fn add_positions(t: &mut Translation<'_>, e: &Entry) -> Result<()> {
    let (x, positions) = (t.read(e, "x")?, t.read(e, "positions")?);
    let (shape, own) = (t.shape(x), t.shape(positions));
    let positions = if t.past.is_some() && own.len() == 2 && shape.len() == 3 && own[0] == t.table_length(shape[1]) {
        t.placed(positions, 0, x, e, "positions")?
    } else if shape.ends_with(&own) {
        positions
    } else if own.iter().product::<usize>() == shape.iter().product::<usize>() {
        t.view(positions, &shape, e)?
    } else {
        let axes = (0..shape.len()).find(|axis| shape[*axis..].iter().product::<usize>() == own.iter().product::<usize>());
        let axes = axes.ok_or_else(|| Error::Internal(format!("{own:?} added to {shape:?}")))?;
        t.view(positions, &shape[axes..], e)?
    };
    let y = t.binary(Binary::Add, x, positions, e, "sum")?;
    t.write(e, "y", y)
}

/// The tokens of a mechanism: latent, type, start, joints; positions begin at the type.
pub(super) fn tokens(t: &mut Translation<'_>, e: &Entry) -> Result<()> {
    let [batch, length, cols, joints] = ["batch", "length", "cols", "joints"].map(|name| e.size(name));
    let latent = t.read(e, "latent")?;
    let latent = t.view(latent, &[batch, 1, cols], e)?;
    let (table, ids) = (t.read(e, "table")?, t.read(e, "ids")?);
    let kind = t.add(Op::Rows, &[table, ids], e, "type")?;
    let kind = t.view(kind, &[batch, 1, cols], e)?;
    let sos = t.read(e, "sos")?;
    let sos = t.view(sos, &[1, 1, cols], e)?;
    let sos = t.add(Op::ExpandAs, &[sos, latent], e, "start")?;
    let joint = t.read(e, "joint")?;
    let mut joint = t.view(joint, &[batch, joints, cols], e)?;
    if length - 3 < joints {
        joint = t.add(Op::Slice(1, 0, length as i64 - 3), &[joint], e, "joints")?;
    }
    let rest = t.add(Op::Concat(1), &[kind, sos, joint], e, "rest")?;
    let positions = t.read(e, "positions")?;
    let positions = t.add(Op::Slice(0, 0, length as i64 - 1), &[positions], e, "positions")?;
    let rest = t.binary(Binary::Add, rest, positions, e, "placed")?;
    let y = t.add(Op::Concat(1), &[latent, rest], e, "y")?;
    t.write(e, "y", y)
}

/// The last position of each sequence.
pub(super) fn last(t: &mut Translation<'_>, e: &Entry) -> Result<()> {
    let [cols, picked, first, stride, rows] = ["cols", "picked", "first", "stride", "rows"].map(|name| e.size(name));
    let (x, length) = (t.read(e, "x")?, rows / picked);
    let y = match (t.maybe(e, "lengths")?, stride) {
        (Some(lengths), _) => {
            let x = t.view(x, &[picked, length, cols], e)?;
            t.add(Op::LastOf, &[x, lengths], e, "y")?
        }
        (None, 1) if first + picked == rows => {
            let x = t.view(x, &[length, picked, cols], e)?;
            t.add(Op::Take(0, -1), &[x], e, "y")?
        }
        (None, _) if first + 1 == stride && stride == length => {
            let x = t.view(x, &[picked, length, cols], e)?;
            t.add(Op::Take(1, -1), &[x], e, "y")?
        }
        _ => return Err(Error::Internal(format!("rows from {first}, every {stride}th of {rows}"))),
    };
    t.write(e, "y", y)
}

/// Mean over the positions that count.
pub(super) fn mean(t: &mut Translation<'_>, e: &Entry) -> Result<()> {
    let x = t.read(e, "x")?;
    let x = t.view(x, &["batch", "length", "cols"].map(|name| e.size(name)), e)?;
    let y = match t.maybe(e, "lengths")? {
        None => t.add(Op::Mean(1), &[x], e, "y")?,
        Some(lengths) => {
            let kept = t.add(Op::Masked(0.0), &[x, lengths], e, "kept")?;
            let sum = t.add(Op::Sum(1), &[kept], e, "sum")?;
            let count = t.add(Op::Float, &[lengths], e, "count")?;
            let count = t.add(Op::Unsqueeze(1), &[count], e, "counts")?;
            t.binary(Binary::Div, sum, count, e, "y")?
        }
    };
    t.write(e, "y", y)
}

/// Softmax over the positions that count, head by head.
pub(super) fn pool_weights(t: &mut Translation<'_>, e: &Entry) -> Result<()> {
    let s = t.read(e, "s")?;
    let mut s = t.view(s, &["batch", "length", "heads"].map(|name| e.size(name)), e)?;
    if let Some(lengths) = t.maybe(e, "lengths")? {
        s = t.add(Op::Masked(f32::NEG_INFINITY), &[s, lengths], e, "kept")?;
    }
    let a = t.add(Op::Softmax(1), &[s], e, "weights")?;
    t.write(e, "a", a)
}

/// Sum of the positions by weight; each head has its part of the features.
pub(super) fn weighted_mean(t: &mut Translation<'_>, e: &Entry) -> Result<()> {
    let [batch, length, heads, cols] = ["batch", "length", "heads", "cols"].map(|name| e.size(name));
    let (a, x) = (t.read(e, "a")?, t.read(e, "x")?);
    let x = if heads == 1 { x } else { t.view(x, &[batch, length, heads, cols / heads], e)? };
    let a = if heads == 1 { a } else { t.add(Op::Unsqueeze(3), &[a], e, "column")? };
    let weighed = t.binary(Binary::Mul, a, x, e, "weighed")?;
    let y = t.add(Op::Sum(1), &[weighed], e, "mean")?;
    let y = t.view(y, &[batch, cols], e)?;
    t.write(e, "y", y)
}

/// Rows beside each other.
pub(super) fn concat(t: &mut Translation<'_>, e: &Entry) -> Result<()> {
    let (a, b) = (t.read(e, "a")?, t.read(e, "b")?);
    let last = t.shape(a).len() - 1;
    if t.shape(a)[last] != e.size("left") || t.shape(b)[last] != e.size("right") {
        return Err(Error::Internal("rows of other lengths".into()));
    }
    let y = t.add(Op::Concat(last), &[a, b], e, "both")?;
    t.write(e, "y", y)
}

/// Axes in the other order, with time backwards before that or after it.
pub(super) fn transpose(t: &mut Translation<'_>, e: &Entry) -> Result<()> {
    let x = t.read(e, "x")?;
    let mut x = t.view(x, &["first", "second", "cols"].map(|name| e.size(name)), e)?;
    let time = match e.constant("REVERSE") {
        0 => None,
        1 => Some(1),
        _ => Some(0),
    };
    if let Some(time) = time {
        x = match t.maybe(e, "lengths")? {
            Some(lengths) => t.add(Op::Reverse(time), &[x, lengths], e, "reversed")?,
            None => t.add(Op::Flip(time), &[x], e, "reversed")?,
        };
    }
    let y = t.add(Op::Permute(vec![1, 0, 2]), &[x], e, "turned")?;
    t.write(e, "y", y)
}
