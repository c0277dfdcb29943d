//! Cases of the embeddings: gathers, their scatters, and the embedding without weights.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::embedding::{AddPositions, BackwardPositions, BackwardTable, Fixed, Forward, Order};
use crate::plan::Section;
use crate::random::Random;

/// dims: batch, length, cols, vocab; flags: 1 fixed, 2 positions added to vectors, 3 no positions, 4 none and rows sorted by their tokens, 5 the
/// order of these alone.
pub(super) const FAMILY: Family = Family::new(
    "embedding",
    spec,
    140,
    build,
    &[(&[256, 8, 64, 256], &[0]), (&[256, 8, 64, 256], &[2]), (&[4, 1024, 768, 50257], &[4]), (&[64, 256, 384, 65], &[4])],
);

fn spec(i: usize, random: &mut Random) -> Spec {
    let kind = i % 140;
    if kind >= 104 {
        // Runs of tokens within a block of sorted rows, over its borders, and over whole blocks.
        let (batch, length) = (random.pick(&DIMS[..14]), random.pick(&[1, 7, 64, 65]));
        // So many rows have larger blocks.
        let (batch, length) = if kind >= 136 { (129, 65) } else { (batch, length) };
        let dims = vec![batch, length, random.pick(&[1, 2, 5, 33, 65]), random.pick(&[1, 2, 3, 9, 33, 257, 1025])];
        return Spec { dims, flags: vec![if kind % 8 == 7 { 5 } else { 4 }], regime: Regime::Normal, seed: i as u64 };
    }
    // These cases are past 65,535 tokens.
    let large = kind >= 100;
    let vocab = if large { 65_600 } else { DIMS[i % DIMS.len()] };
    let cols = if vocab > 1025 { 2 } else { random.pick(&DIMS[..14]) };
    // With so many rows that not all are loaded for every token.
    let (batch, length) = if large { (64, 8) } else { (random.pick(&DIMS[..10]), random.pick(&DIMS[..8])) };
    let dims = vec![batch, length, cols, vocab];
    Spec {
        dims,
        flags: vec![if large { 0 } else { [0, 0, 2, [0, 3][i / 5 % 2], 1][i % 5] }],
        regime: Regime::Normal,
        seed: i as u64 + u64::from(large),
    }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [batch, length, cols, vocab] = spec.dims[..] else { unreachable!("four sizes") };
    let rows = batch * length;
    let ids = b.ints("ids", &[rows], vocab)?;
    if spec.flags[0] == 1 {
        let y = b.output("y", &[rows, 2])?;
        b.tolerance = Tolerance::Magnitude(4e-7);
        return Fixed { ids, y, rows, length, max_value: 255.0, max_position: 7.0 }.record(&mut b.plan, "case");
    }
    if spec.flags[0] == 5 {
        let first = rows / 3;
        let order = b.output("order", &[rows - first])?;
        b.exact(order);
        return Order { ids, order, first, end: rows }.record(&mut b.plan, "case");
    }
    b.tolerance = Tolerance::sum(rows);
    if spec.flags[0] == 2 {
        let (x, positions, y) = (b.input("x", &[rows, cols])?, b.input("positions", &[length, cols])?, b.output("y", &[rows, cols])?);
        AddPositions { x, positions, y, cols }.record(&mut b.plan, "case")?;
        let dy = b.upstream(y)?;
        let dpositions = b.gradient_summed(positions)?;
        return BackwardPositions { dy, dpositions, batch, n: length * cols }.record(&mut b.plan, "case");
    }
    b.state.position = b.random.between(0, 3) as u32;
    let table = b.input("table", &[vocab, cols])?;
    let positions = match spec.flags[0] {
        3 | 4 => None,
        _ => Some(b.input("positions", &[b.state.position as usize + length, cols])?),
    };
    let y = b.output("y", &[rows, cols])?;
    Forward { ids, table, positions, y, rows, cols, length }.record(&mut b.plan, "case")?;
    let dy = b.upstream(y)?;
    let dtable = b.gradient_summed(table)?;
    // What the sums are made of is not compared by itself.
    b.plan.begin(Section::Backward);
    let of_table = BackwardTable { ids, dy, dtable, rows, cols, vocab };
    if spec.flags[0] == 4 {
        return of_table.record_sorted(&mut b.plan, "case");
    }
    of_table.record(&mut b.plan, "case")?;
    if let Some(positions) = positions.filter(|_| b.state.position == 0) {
        let dpositions = b.gradient_summed(positions)?;
        BackwardPositions { dy, dpositions, batch, n: length * cols }.record(&mut b.plan, "case")?;
    }
    Ok(())
}
