//! Recurrent layers: the launches of all time steps are one operation.

use std::collections::HashSet;

use super::graph::{Binary, Cell, Op};
use super::translation::Translation;
use crate::error::{Error, Result};
use crate::plan::{Entry, FixedPlan, Tensor};

fn is_cell(entry: &Entry) -> bool {
    ["lstm/forward", "gru/forward"].contains(&entry.shader.name.as_str())
}

/// Tensors of the states of recurrent layers.
pub(super) fn states(plan: &FixedPlan) -> HashSet<Tensor> {
    plan.entries().iter().filter(|entry| is_cell(entry)).filter_map(|entry| entry.tensor("h")).collect()
}

/// The first time step becomes the whole layer, and the others nothing.
pub(super) fn step(t: &mut Translation<'_>, e: &Entry) -> Result<()> {
    if e.constant("FIRST") != 1 {
        return Ok(());
    }
    let cell = if e.shader.name.starts_with("lstm") { Cell::Lstm } else { Cell::Gru };
    // The product with the inputs of all steps is part of the operation, too.
    let gx = t.read(e, "gx")?;
    let product = t.graph.nodes.iter().find(|node| node.output == gx && node.op == Op::Linear);
    let [x, w_ih, b_ih] = product.and_then(|node| node.inputs[..].try_into().ok()).ok_or_else(|| missing("a product with its inputs"))?;
    let bias = t.bound(e, "u")?;
    let name = t.plan.info(bias).name.replace("bias_hh", "weight_hh");
    let weight = t.plan.find(&name).ok_or_else(|| missing(&name))?;
    let (w_hh, b_hh) = (t.value(weight)?, t.value(bias)?);
    let all = t.add(Op::Recurrent(cell), &[x, w_ih, w_hh, b_ih, b_hh], e, "states")?;
    let h = t.bound(e, "h")?;
    let mut steps = t.plan.entries().iter().filter(|other| is_cell(other) && other.tensor("h") == Some(h));
    let end = steps.rfind(|other| other.tensor("y").is_some()).ok_or_else(|| missing("a result"))?;
    let y = match (t.plan.shape(t.bound(end, "y")?).len(), t.maybe(e, "residual")?) {
        (2, None) => t.add(Op::Take(0, -1), &[all], e, "out")?,
        (3, Some(residual)) => t.binary(Binary::Add, all, residual, e, "out")?,
        (3, None) => all,
        _ => return Err(missing("all states")),
    };
    t.write(end, "y", y)
}

fn missing(what: &str) -> Error {
    Error::Internal(format!("a recurrent layer without {what}"))
}
