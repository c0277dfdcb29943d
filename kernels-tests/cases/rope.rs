//! Cases of rotary positions and their gradient, with as many heads of keys as of queries and with fewer.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::rope::{Backward, Rotate, Shape, table};
use crate::plan::Section;
use crate::random::Random;

/// dims: batch, length, heads of keys, heads of queries for each, half a head, position of the first.
pub(super) const FAMILY: Family = Family::new("rope", spec, 96, build, &[(&[256, 10, 8, 1, 32, 1], &[]), (&[64, 256, 2, 3, 32, 1], &[])]);

fn spec(i: usize, random: &mut Random) -> Spec {
    let [kv_heads, served] = [[1, 1], [2, 1], [3, 1], [1, 2], [1, 3], [2, 2]][i / 2 % 6];
    let mut dims =
        vec![random.pick(&DIMS[..6]), random.pick(&DIMS[..9]), kv_heads, served, random.pick(&DIMS[..9]), random.between(1, 5) as usize];
    dims[i % 2] = DIMS[..20][i / 2 % 20];
    Spec { dims, flags: vec![], regime: [Regime::Normal, Regime::Extreme][i % 2], seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [batch, length, kv_heads, served, half, first] = spec.dims[..] else { unreachable!("six sizes") };
    b.state.position = first as u32 - 1;
    let (rows, heads, head_dim) = (batch * length, kv_heads * served, 2 * half);
    let angles = table(first - 1 + length, head_dim, 10_000.0);
    let x = b.input("x", &[rows, heads + 2 * kv_heads, head_dim])?;
    let table = b.given("table", &[first - 1 + length, half, 2], angles)?;
    let y = b.output("y", &[rows, 3, heads, head_dim])?;
    b.tolerance = Tolerance::sum(2 * served);
    let shape = Shape { length, heads, kv_heads, head_dim };
    Rotate { x, table, y, shape }.record(&mut b.plan, "case")?;
    let dy = b.upstream(y)?;
    let dx = b.gradient(x)?;
    b.plan.begin(Section::Backward);
    Backward { dy, table, dx, shape }.record(&mut b.plan, "case")
}
