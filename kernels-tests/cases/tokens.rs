//! Cases of a mechanism's tokens: whole sequences with their gradients, and one token.

use super::{Builder, DIMS, Family, Regime, Spec, Tolerance};
use crate::error::Result;
use crate::kernels::embedding::BackwardTable;
use crate::kernels::tokens::{Backward, BackwardParams, Forward};
use crate::plan::Section;
use crate::random::Random;

/// dims: batch, joints, cols, types; flags: one token of that position + 1, or 0 for whole sequences.
pub(super) const FAMILY: Family = Family::new("tokens", spec, 100, build, &[(&[256, 7, 512, 17], &[0])]);

fn spec(i: usize, random: &mut Random) -> Spec {
    let dims = vec![DIMS[i % 20], random.between(1, 9) as usize, random.pick(&DIMS[..14]), random.pick(&[1, 2, 17])];
    let flags = vec![if i % 3 == 2 { 1 + i / 3 % 6 } else { 0 }];
    Spec { dims, flags, regime: [Regime::Normal, Regime::OneHot][i % 2], seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [batch, joints, cols, vocab] = spec.dims[..] else { unreachable!("four sizes") };
    let (length, given) = if spec.flags[0] > 0 { (1, 1) } else { (3 + joints, joints) };
    b.state.position = spec.flags[0].saturating_sub(1) as u32;
    let (latent, ids) = (b.input("latent", &[batch, cols])?, b.ints("ids", &[batch], vocab)?);
    let (table, sos) = (b.normal("table", &[vocab, cols])?, b.normal("sos", &[cols])?);
    let (positions, joint) = (b.normal("positions", &[joints + 6, cols])?, b.input("joint", &[batch, given, cols])?);
    let y = b.output("y", &[batch, length, cols])?;
    b.tolerance = Tolerance::sum(batch + 2);
    Forward { latent, ids, table, sos, positions, joint, y, batch, length, cols, joints: given }.record(&mut b.plan, "case")?;
    if spec.flags[0] > 0 {
        return Ok(());
    }
    let dy = b.upstream(y)?;
    let (dlatent, djoint) = (b.gradient(latent)?, b.gradient(joint)?);
    // Compared as part of the table's gradient.
    let dtype = b.output("dtype", &[batch, cols])?;
    b.plan.begin(Section::Backward);
    Backward { dy, dlatent, dtype, djoint, batch, cols, joints }.record(&mut b.plan, "case")?;
    let dtable = b.gradient_summed(table)?;
    BackwardTable { ids, dy: dtype, dtable, rows: batch, cols, vocab }.record(&mut b.plan, "case")?;
    let (dpositions, dsos) = (b.gradient_summed(positions)?, b.gradient_summed(sos)?);
    BackwardParams { dy, dpositions, dsos, batch, length, cols }.record(&mut b.plan, "case")
}
