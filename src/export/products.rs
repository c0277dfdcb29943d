//! Products with weights: linear layers, and convolutions, which are products over the surroundings of each place.

use super::graph::{Binary, Op, Value};
use super::translation::Translation;
use crate::error::{Error, Result};
use crate::plan::{Entry, Storage};

/// y = f(A·B + bias) + residual.
pub(super) fn product(t: &mut Translation<'_>, e: &Entry) -> Result<()> {
    let (a, b) = (t.bound(e, "a")?, t.bound(e, "b")?);
    if t.states.contains(&a) {
        return Ok(());
    }
    let weights = matches!(t.plan.info(b).storage, Storage::Parameter { .. });
    let y = match (weights, e.constant("TRANS_A"), e.constant("TRANS_B"), e.size("batch")) {
        (true, 0, 1, 1) => linear(t, e)?,
        (false, ..) => matrices(t, e)?,
        _ => return Err(Error::Internal("a product with a weight that is no linear layer".into())),
    };
    let y = t.activated(y, e.constant("ACTIVATION"), e, "activated")?;
    let y = match t.maybe(e, "residual")? {
        Some(residual) => {
            let shape = t.shape(y);
            let residual = t.view(residual, &shape, e)?;
            t.binary(Binary::Add, y, residual, e, "sum")?
        }
        None => y,
    };
    t.write(e, "y", y)
}

fn linear(t: &mut Translation<'_>, e: &Entry) -> Result<Value> {
    let (m, n, k) = (e.size("m"), e.size("n"), e.size("k"));
    let (a, w) = (t.bound(e, "a")?, t.read(e, "b")?);
    if let Some((x, op)) = t.surroundings.get(&a).cloned() {
        let channels = *t.shape(x).last().unwrap_or(&1);
        let bias = t.read(e, "bias")?;
        let w = if matches!(op, Op::Conv1d { .. }) { t.view(w, &[n, channels, k / channels], e)? } else { w };
        return t.add(op, &[x, w, bias], e, "y");
    }
    let mut x = t.value(a)?;
    if t.shape(x).last() != Some(&k) {
        x = t.view(x, &[m, k], e)?;
    }
    let w = t.view(w, &[n, k], e)?;
    match t.maybe(e, "bias")? {
        Some(bias) => t.add(Op::Linear, &[x, w, bias], e, "y"),
        None => t.add(Op::Linear, &[x, w], e, "y"),
    }
}

/// Products of results with results, several at once.
fn matrices(t: &mut Translation<'_>, e: &Entry) -> Result<Value> {
    let (m, n, k, batch) = (e.size("m"), e.size("n"), e.size("k"), e.size("batch"));
    let mut factor = |name: &str, transposed: bool, [rows, cols]: [usize; 2]| {
        let value = t.read(e, name)?;
        if !transposed {
            return t.view(value, &[batch, rows, cols], e);
        }
        let value = t.view(value, &[batch, cols, rows], e)?;
        t.add(Op::Permute(vec![0, 2, 1]), &[value], e, "transposed")
    };
    let a = factor("a", e.constant("TRANS_A") == 1, [m, k])?;
    let b = factor("b", e.constant("TRANS_B") == 1, [k, n])?;
    t.add(Op::MatMul, &[a, b], e, "product")
}

/// Patches of images, which a product makes a convolution.
pub(super) fn patches(t: &mut Translation<'_>, e: &Entry) -> Result<()> {
    let x = images(t, e)?;
    let y = t.bound(e, "y")?;
    t.surroundings.insert(y, (x, Op::Conv2d));
    Ok(())
}

/// x as (batch, height, width, channels).
fn images(t: &mut Translation<'_>, e: &Entry) -> Result<Value> {
    let x = t.read(e, "x")?;
    let [height, width, channels] = sides(e);
    t.view(x, &[e.size("batch"), height, width, channels], e)
}

fn sides(e: &Entry) -> [usize; 3] {
    ["HEIGHT", "WIDTH", "CHANNELS"].map(|name| e.constant(name) as usize)
}

/// Surroundings of positions, which a product makes a convolution over time.
pub(super) fn unfold(t: &mut Translation<'_>, e: &Entry) -> Result<()> {
    let [batch, length, channels, dilation, before] = ["batch", "length", "channels", "dilation", "before"].map(|name| e.size(name));
    let x = t.read(e, "x")?;
    let x = t.view(x, &[batch, length, channels], e)?;
    let after = (e.constant("K") as usize - 1) * dilation - before;
    let y = t.bound(e, "y")?;
    t.surroundings.insert(y, (x, Op::Conv1d { dilation, before, after, groups: 1 }));
    Ok(())
}

/// A convolution of each channel with a kernel of its own, of some columns of x.
pub(super) fn depthwise(t: &mut Translation<'_>, e: &Entry) -> Result<()> {
    let [batch, length, channels, width, first] = ["batch", "length", "channels", "width", "first"].map(|name| e.size(name));
    let (x, w, bias) = (t.read(e, "x")?, t.read(e, "w")?, t.read(e, "bias")?);
    let x = t.view(x, &[batch, length, width], e)?;
    let x = t.add(Op::Slice(2, first as i64, (first + channels) as i64), &[x], e, "channels")?;
    let (before, kernel) = (e.constant("K") as usize - 1, e.constant("K") as usize);
    let w = t.view(w, &[channels, 1, kernel], e)?;
    let y = t.add(Op::Conv1d { dilation: 1, before, after: 0, groups: channels }, &[x, w, bias], e, "convolved")?;
    let y = t.activated(y, e.constant("ACTIVATION"), e, "activated")?;
    t.write(e, "y", y)
}

/// Largest of 2 × 2 pixels, channel by channel if `PLANES`.
pub(super) fn max_pool(t: &mut Translation<'_>, e: &Entry) -> Result<()> {
    let x = images(t, e)?;
    let mut y = t.add(Op::MaxPool, &[x], e, "pooled")?;
    if e.constant("PLANES") == 1 {
        y = t.add(Op::Permute(vec![0, 3, 1, 2]), &[y], e, "planes")?;
    }
    t.write(e, "y", y)
}

/// Each pixel four times, from channel by channel if `PLANES`.
pub(super) fn upsample(t: &mut Translation<'_>, e: &Entry) -> Result<()> {
    let x = match e.constant("PLANES") {
        1 => {
            let ([height, width, channels], x) = (sides(e), t.read(e, "x")?);
            let x = t.view(x, &[e.size("batch"), channels, height, width], e)?;
            t.add(Op::Permute(vec![0, 2, 3, 1]), &[x], e, "pixels")?
        }
        _ => images(t, e)?,
    };
    let y = t.add(Op::Upsample, &[x], e, "upsampled")?;
    t.write(e, "y", y)
}
