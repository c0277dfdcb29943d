//! From the recorded forward pass to the graph: each launch becomes the operations that it is made of.

use super::graph::{Graph, Value};
use super::translation::{Past, Translation};
use super::{attention, elements, products, recurrent, sequences, state_space};
use crate::error::{Error, Result};
use crate::plan::{Buffer, Entry, FixedPlan, Tensor};

/// Families of kernels that leave positions apart, and attention.
const BY_POSITION: [&str; 9] =
    ["matmul", "activation", "layer_norm", "gated_norm", "swiglu", "positions", "embedding", "rope", "attention"];

/// Translates a forward pass whose inputs have these values; with a number of positions that the model sees, for new positions after past
/// ones.
///
/// # Errors
/// `Config` for a kernel that has no translation.
pub(super) fn translate<'a>(
    plan: &'a FixedPlan,
    buffers: &'a [Buffer],
    graph: Graph,
    inputs: &[(Tensor, Value)],
    limit: Option<usize>,
) -> Result<Translation<'a>> {
    let mut translation = Translation::new(plan, buffers, graph, inputs, recurrent::states(plan));
    translation.past = limit.map(|limit| Past { limit, layers: vec![] });
    plan.entries().iter().try_for_each(|entry| launch(&mut translation, entry))?;
    Ok(translation)
}

fn launch(t: &mut Translation<'_>, entry: &Entry) -> Result<()> {
    let kernel = entry.shader.name.as_str();
    let (family, pass) = kernel.split_once('/').unwrap_or((kernel, ""));
    if t.past.is_some() && (!BY_POSITION.contains(&family) || family == "attention" && entry.constant("CAUSAL") == 0) {
        return Err(Error::Config(format!(
            "--decode is for models whose positions see each other by causal self-attention alone. {} has {kernel}: leave --decode out",
            entry.label
        )));
    }
    let translated = match (family, pass) {
        ("matmul", _) => products::product(t, entry),
        ("patches", "forward") => products::patches(t, entry),
        ("conv1d", "unfold") => products::unfold(t, entry),
        ("conv1d", "depthwise") => products::depthwise(t, entry),
        ("max_pool", "forward") => products::max_pool(t, entry),
        ("upsample", "forward") => products::upsample(t, entry),
        ("activation", "forward") => elements::activation(t, entry),
        ("layer_norm", "forward") => elements::layer_norm(t, entry),
        ("gated_norm", "forward") => elements::gated_norm(t, entry),
        ("swiglu", "forward" | "forward_vec4") => elements::swiglu(t, entry),
        ("vae", "sample") => elements::sample(t, entry),
        ("fourier", "features") => elements::fourier(t, entry),
        ("positions", "forward") => sequences::sinusoids(t, entry),
        ("embedding", "forward") => sequences::embedding(t, entry),
        ("embedding", "fixed") => sequences::fixed_embedding(t, entry),
        ("embedding", "add_positions") => sequences::add_positions(t, entry),
        ("tokens", "forward") => sequences::tokens(t, entry),
        ("slice", "forward") => sequences::last(t, entry),
        ("mean", "forward") => sequences::mean(t, entry),
        ("weighted_mean", "weights") => sequences::pool_weights(t, entry),
        ("weighted_mean", "forward") => sequences::weighted_mean(t, entry),
        ("concat", "forward") => sequences::concat(t, entry),
        ("transpose", "forward") => sequences::transpose(t, entry),
        ("attention", "forward_rows") => attention::attention(t, entry),
        ("attention_pool", "forward") => attention::pool(t, entry),
        ("rope", "rotate" | "rotate_vec4") => attention::rope(t, entry),
        ("lstm" | "gru", "forward") => recurrent::step(t, entry),
        ("ssd", pass) => state_space::pass(t, entry, pass),
        _ => return Err(Error::Config(format!("{}: the kernel {kernel} has no translation to other programs", entry.label))),
    };
    translated.map_err(|e| e.of(&format!("export of {} at {}", entry.shader.name, entry.label)))
}
