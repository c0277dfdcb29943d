//! What is computed of each row by itself: activations, normalisations, gates, features.

use super::graph::{Binary, Op, Phases};
use super::translation::Translation;
use crate::error::{Error, Result};
use crate::kernels::matmul::Activation;
use crate::plan::Entry;

/// f(x).
pub(super) fn activation(t: &mut Translation<'_>, e: &Entry) -> Result<()> {
    let x = t.read(e, "x")?;
    let y = t.activated(x, e.constant("KIND"), e, "y")?;
    t.write(e, "y", y)
}

/// Normalisation of rows, by mean and variance, or without a bias by their root mean square.
pub(super) fn layer_norm(t: &mut Translation<'_>, e: &Entry) -> Result<()> {
    let (x, w) = (t.read(e, "x")?, t.read(e, "w")?);
    let (cols, rows) = (e.size("cols"), e.size("rows"));
    let x = if t.shape(x).last() == Some(&cols) { x } else { t.view(x, &[rows, cols], e)? };
    let y = match t.maybe(e, "b")? {
        Some(b) => t.add(Op::LayerNorm(e.scalar("eps")), &[x, w, b], e, "y")?,
        None => {
            let y = t.add(Op::Rms(e.scalar("eps")), &[x], e, "rms")?;
            t.binary(Binary::Mul, y, w, e, "y")?
        }
    };
    t.write(e, "y", y)
}

/// w · rms(y · silu(z)) over groups of columns.
pub(super) fn gated_norm(t: &mut Translation<'_>, e: &Entry) -> Result<()> {
    let [cols, width, groups] = ["cols", "width", "groups"].map(|name| e.size(name));
    let (y, z, w) = (t.read(e, "y")?, t.read(e, "z")?, t.read(e, "w")?);
    let last = t.shape(z).len() - 1;
    if t.shape(z).last() != Some(&width) || t.shape(y).last() != Some(&cols) {
        return Err(Error::Internal("a gate of another shape than the rows".into()));
    }
    let gate = t.add(Op::Slice(last, 0, cols as i64), &[z], e, "gate")?;
    let gate = t.add(Op::Activate(Activation::Silu), &[gate], e, "silu")?;
    let gated = t.binary(Binary::Mul, y, gate, e, "gated")?;
    let shape = t.shape(gated);
    let split = [&shape[..shape.len() - 1], &[groups, cols / groups]].concat();
    let gated = if groups == 1 { gated } else { t.view(gated, &split, e)? };
    let normed = t.add(Op::Rms(e.scalar("eps")), &[gated], e, "rms")?;
    let normed = t.view(normed, &shape, e)?;
    let out = t.binary(Binary::Mul, normed, w, e, "out")?;
    t.write(e, "out", out)
}

/// silu(a) · b of the halves of each row.
pub(super) fn swiglu(t: &mut Translation<'_>, e: &Entry) -> Result<()> {
    let (x, cols) = (t.read(e, "x")?, e.size("cols") as i64);
    let last = t.shape(x).len() - 1;
    let gate = t.add(Op::Slice(last, 0, cols), &[x], e, "gate")?;
    let up = t.add(Op::Slice(last, cols, -1), &[x], e, "up")?;
    let gate = t.add(Op::Activate(Activation::Silu), &[gate], e, "silu")?;
    let y = t.binary(Binary::Mul, gate, up, e, "gated")?;
    t.write(e, "y", y)
}

/// z = μ, the first half of each row.
pub(super) fn sample(t: &mut Translation<'_>, e: &Entry) -> Result<()> {
    if e.constant("NOISE") != 0 {
        return Err(Error::Internal("a prediction with noise".into()));
    }
    let x = t.read(e, "x")?;
    let last = t.shape(x).len() - 1;
    let z = t.add(Op::Slice(last, 0, e.size("cols") as i64), &[x], e, "mean")?;
    t.write(e, "z", z)
}

/// Sines and cosines of coordinates.
pub(super) fn fourier(t: &mut Translation<'_>, e: &Entry) -> Result<()> {
    let (x, count) = (t.read(e, "x")?, e.size("count") as i32);
    let phases = match e.constant("KIND") {
        1 => Phases::HalfTurns((0..count).map(|k| 2f64.powi(k)).collect()),
        2 => Phases::HalfTurns((1..=count).map(f64::from).collect()),
        3 => Phases::Radians((1..=count).map(f64::from).collect()),
        _ => Phases::Random,
    };
    let inputs: Vec<_> = [Some(x), t.maybe(e, "b")?].into_iter().flatten().collect();
    let y = t.add(Op::Fourier(phases), &inputs, e, "y")?;
    t.write(e, "y", y)
}
