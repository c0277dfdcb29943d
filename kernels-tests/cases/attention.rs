//! Cases of attention: whole sequences with their gradient, a position over a cache, and
//! what enters it of whole sequences.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::Dropout;
use crate::kernels::attention::{Backward, Cached, Forward, Shape, Store};
use crate::kernels::rope::table;
use crate::plan::Section;
use crate::random::Random;

/// dims: batch, length, heads, head_dim; flags: causal, dropout, 1 cached or 2 cross, rotary positions where the kernel has them.
pub(super) const FAMILY: Family = Family {
    allows: |[(a, x), (b, y)]| (a, b) != ("CROSS", "ROPE") || (x, y) != (1, 1),
    ..Family::new(
        "attention",
        spec,
        132,
        build,
        &[
            (&[32, 64, 4, 16], &[1, 0, 0, 0]),
            (&[32, 64, 4, 16], &[1, 0, 2, 0]),
            (&[32, 64, 4, 16], &[1, 0, 1, 0]),
            (&[2, 512, 4, 64], &[1, 0, 0, 0]),
        ],
    )
};

fn spec(i: usize, random: &mut Random) -> Spec {
    let cached = [0, 2, 0, 1][i % 4];
    let lengths: &[usize] = if cached == 1 { &DIMS[..14] } else { &DIMS[..18] };
    let length = lengths[i % lengths.len()];
    let head_dim = random.pick(if length > 64 {
        &[1, 16]
    } else if i.is_multiple_of(16) {
        &[64]
    } else {
        &[1, 2, 3, 16, 17]
    });
    let mut dims = vec![random.pick(&[1, 2, 3]), length, random.pick(&[1, 2, 3]), head_dim];
    let tiled = cached != 1 && i % 13 == 3;
    if tiled {
        // Tiles: parts of some, several of each side, eight rows an invocation and four.
        dims = [[1, 70, 2, 20], [2, 33, 1, 32], [1, 97, 1, 128], [7, 65, 4, 16], [14, 40, 4, 36]][i / 13 % 5].to_vec();
    }
    let regime = [Regime::Normal, Regime::Normal, Regime::OneHot][i % 3];
    Spec {
        dims,
        flags: vec![
            usize::from(i % 3 != 1),
            usize::from(if tiled { i / 13 % 3 != 2 } else { i % 5 == 2 }),
            cached,
            usize::from(i / 4 % 2 == 1),
        ],
        regime,
        seed: i as u64,
    }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [batch, length, heads, head_dim] = spec.dims[..] else { unreachable!("four sizes") };
    b.tolerance = Tolerance::sum(head_dim + length);
    if spec.flags[2] == 1 {
        let limit = length;
        b.state.position = b.random.between(0, limit as i64 - 1) as u32;
        let sources = b.ints("sources", &[batch, limit], batch)?;
        // The cache has as many heads, or some of which each serves two or three.
        let kv_heads = heads;
        let heads = kv_heads * [1, 2, 3][(spec.seed / 4 % 3) as usize];
        let cache = [batch, kv_heads, limit, head_dim];
        let qkv = b.input("qkv", &[batch, 3, heads, head_dim])?;
        let (keys, values) = (b.normal("keys", &cache)?, b.normal("values", &cache)?);
        let y = b.output("y", &[batch, heads, head_dim])?;
        Cached { qkv, sources, keys, values, y, batch, heads, kv_heads, head_dim, limit }.record(&mut b.plan, "case")?;
        let positions = limit - b.random.between(0, limit as i64 - 1) as usize;
        let sequences = b.input("sequences", &[batch, positions, 3, heads, head_dim])?;
        let (keys, values) = (b.normal("all_keys", &cache)?, b.normal("all_values", &cache)?);
        return Store { qkv: sequences, keys, values, batch, positions, heads, kv_heads, head_dim, limit }.record(&mut b.plan, "case");
    }
    let dropout = (spec.flags[1] == 1).then_some(Dropout { rate: 0.2, stream: 9 });
    let mut shape = Shape { batch, length, heads, head_dim, causal: spec.flags[0] == 1, dropout, rope: None };
    let cross = spec.flags[2] == 2;
    if spec.flags[3] == 1 && !cross && shape.turns(&b.plan) {
        shape.rope = Some(b.given("table", &[length + 1, head_dim / 2, 2], table(length + 1, head_dim, 100.0))?);
    }
    let qkv = b.input("qkv", &[batch, length, if cross { 2 } else { 3 }, heads, head_dim])?;
    let q = if cross { Some(b.input("q", &[batch, length, heads, head_dim])?) } else { None };
    let (y, lse) = (b.output("y", &[batch, length, heads, head_dim])?, b.output("lse", &[batch, heads, length])?);
    Forward { qkv, q, y, lse, shape }.record(&mut b.plan, "case")?;
    let dy = b.upstream(y)?;
    b.plan.begin(Section::Backward);
    let dqkv = b.gradient(qkv)?;
    let q = q.map(|q| Ok::<_, crate::error::Error>((q, b.gradient(q)?))).transpose()?;
    Backward { qkv, q, y, lse, dy, dqkv, shape }.record(&mut b.plan, "case")
}
