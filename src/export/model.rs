//! A trained model as a graph: its inputs as data have them, its outputs in the unit of the data, and its weights.

use super::graph::{Axes, Binary, Graph, Numbers, Op, Value};
use super::launches::translate;
use super::translation::Translation;
use crate::batch::{Field, Normalization, Scale};
use crate::error::{Error, Result};
use crate::gpu::Target;
use crate::plan::{Buffer, FixedPlan, Parameter};
use crate::problem::Problem;
use crate::problem::prediction::Prediction;
use crate::registry::Config;
use crate::tasks::{DataKind, Purpose, kept_characters};
use crate::train::Weights;

/// Parts of an autoencoder that can be exported by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// From images to latents.
    Encoder,
    /// From latents to images.
    Decoder,
}

/// A trained model as a graph, with its weights and what is known of its origin.
#[derive(Debug)]
pub struct Exported {
    pub(super) graph: Graph,
    /// Flat weights.
    pub(super) flat: Vec<f32>,
    /// What the file says about itself, by key.
    pub(super) about: Vec<(String, String)>,
}

impl Exported {
    /// Translates the model of a run, with these weights.
    ///
    /// # Errors
    /// `Data` when the weights do not fit, `Config` for a model without such a part or with a kernel that has no translation.
    pub fn of(config: &Config, weights: &mut Weights, part: Option<Part>) -> Result<Exported> {
        let mut problem = Problem::open(config, Purpose::Predict)?;
        let buffers = weights.buffers(problem.buffers())?;
        problem.use_saved_buffers(buffers.clone());
        let fixed = Recorded::of(&problem, 1, None, part)?;
        let primes = fixed.primes();
        let graph = any_number(&problem, &primes, part)?;
        let graph = any_length(config, &buffers, &graph, &fixed.parameters, primes, part).unwrap_or(graph);
        fixed.with(graph, weights, &problem)
    }

    /// Translates the model of a run that continues sequences, with these weights. Besides the tokens of new positions the graph takes the
    /// keys and values of past ones, `past_key_values.N.key` and `past_key_values.N.value` (batch, heads, past_length, d) of the N-th
    /// attention, and gives those of all: `present.N.key` and `present.N.value`. Both numbers of positions may be any, none of past ones
    /// too, up to as many as the model sees together.
    ///
    /// # Errors
    /// As `of`, and `Config` for a model in which more than causal attention connects positions.
    pub fn decoding(config: &Config, weights: &mut Weights) -> Result<Exported> {
        let mut problem = Problem::open(config, Purpose::Predict)?;
        problem.use_saved_buffers(weights.buffers(problem.buffers())?);
        let fixed = Recorded::of(&problem, 1, None, None)?;
        let graph = any_past(&problem, &fixed)?;
        fixed.with(graph, weights, &problem)
    }

    /// What the file says about itself: kind, configuration, metrics and step of the weights, checksums of the data, version, words of the
    /// classes.
    pub fn about(&self) -> &[(String, String)] {
        &self.about
    }

    /// Inputs and outputs with their shapes, in which names stand for any length.
    pub fn signature(&self) -> String {
        let one = |value: &Value| {
            let info = self.graph.info(*value);
            let axes: Vec<String> = self.graph.dimensions(*value).into_iter().map(|axis| axis.to_string()).collect();
            format!("{} ({})", info.name, axes.join(", "))
        };
        let list = |values: &[Value]| values.iter().map(one).collect::<Vec<_>>().join(", ");
        format!("{} → {}", list(&self.graph.inputs), list(&self.graph.outputs))
    }

    /// Numbers of a weight.
    pub(super) fn numbers(&self, value: Value) -> Result<&[f32]> {
        let found = self.graph.weights.iter().find(|(weight, _)| *weight == value);
        let missing = || Error::Internal(format!("{} is no weight", self.graph.info(value).name));
        Ok(match &found.ok_or_else(missing)?.1 {
            Numbers::Flat(range) => &self.flat[range.clone()],
            Numbers::Kept(numbers) | Numbers::Constant(numbers) => numbers,
        })
    }

    /// Number of weights.
    pub fn numbers_of_weights(&self) -> usize {
        self.graph.weights.iter().map(|(value, _)| self.graph.shape(*value).iter().product::<usize>()).sum()
    }
}

/// Lengths that stand for any; two that give the same graph show that nothing of it depends on them.
const PRIMES: [usize; 18] = [11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79];

/// The target that has the fewest variants of kernels, without the limits of a device.
fn target() -> Target {
    Target { software: true, max_groups: u32::MAX, max_binding: u64::MAX, loop_iterations: u64::MAX, ..Target::default() }
}

/// A graph recorded for one number of samples and positions.
struct Recorded {
    graph: Graph,
    parameters: Vec<Parameter>,
    /// Lengths of all axes of inputs and weights.
    lengths: Vec<usize>,
    /// Words of the classes, in the order of the logits.
    words: Vec<String>,
}

impl Recorded {
    fn of(problem: &Problem, batch: usize, time: Option<usize>, part: Option<Part>) -> Result<Recorded> {
        let (plan, io) = problem.record_prediction(target(), batch)?;
        let prediction = problem.prediction(&plan, &io);
        let mut graph = Graph::new(Axes { batch: if batch == 1 { usize::MAX } else { batch }, time, past: None });
        let mut inputs = vec![];
        for (field, tensor) in &prediction.fields {
            let shape = [&[batch], &field.shape[..]].concat();
            let value = graph.input(field.name, &shape, field.below.is_some());
            let mut value = normalised(&mut graph, value, field)?;
            if problem.time_major() && field.shape.len() == 2 {
                value = graph.add(Op::Permute(vec![1, 0, 2]), &[value], field.name, "time_major")?;
            }
            inputs.push((*tensor, value));
        }
        let mut translation = translate(&plan, problem.buffers(), graph, &inputs, None)?;
        let output = translation.value(io.output)?;
        let latents = plan.find("z").map(|z| translation.value(z)).transpose()?;
        let mut graph = translation.graph;
        match (part, latents) {
            (None, _) => outputs(&mut graph, output, &prediction, batch)?,
            (Some(Part::Encoder), Some(z)) => graph.output(z, "latents")?,
            (Some(Part::Decoder), Some(z)) => {
                let shape = graph.shape(z).to_vec();
                let given = graph.input("latents", &shape, false);
                graph.nodes.iter_mut().flat_map(|node| &mut node.inputs).filter(|input| **input == z).for_each(|input| *input = given);
                outputs(&mut graph, output, &prediction, batch)?;
            }
            (Some(_), None) => return Err(Error::Config("--part is for an autoencoder (model.kind = \"image_vae\"): leave it out".into())),
        }
        graph.prune();
        let parameters = plan.parameters().to_vec();
        let fields = prediction.fields.iter().flat_map(|(field, _)| field.shape.clone());
        let lengths = parameters.iter().flat_map(|p| p.shape.clone()).chain(fields).collect();
        let words = prediction.answer.filter(|_| prediction.classes.is_some()).map(|answer| answer.words).unwrap_or_default();
        Ok(Recorded { graph, parameters, lengths, words })
    }

    /// Lengths that can stand for any.
    fn primes(&self) -> Vec<usize> {
        PRIMES.into_iter().filter(|prime| self.lacks(*prime)).collect()
    }

    /// True if no axis has a multiple of this length.
    fn lacks(&self, length: usize) -> bool {
        self.lengths.iter().all(|own| !own.is_multiple_of(length))
    }

    /// A graph of this model with its weights, and what the file says about itself.
    fn with(self, graph: Graph, weights: &mut Weights, problem: &Problem) -> Result<Exported> {
        let flat = weights.load(&self.parameters)?;
        let mut about = weights.about(&problem.toml);
        if !self.words.is_empty() {
            about.push(("classes".into(), serde_json::json!(self.words).to_string()));
        }
        if let Some(characters) = kept_characters(&weights.buffers(problem.buffers())?) {
            about.push(("characters".into(), serde_json::json!(characters).to_string()));
        }
        Ok(Exported { graph, flat, about })
    }
}

/// The graph for new positions after past ones, any number of each, of any number of samples.
fn any_past(problem: &Problem, fixed: &Recorded) -> Result<Graph> {
    let mut before: Option<Graph> = None;
    for lengths in fixed.primes().chunks_exact(3).filter(|lengths| fixed.lacks(lengths[1] + lengths[2])) {
        let graph = after_past(problem, [lengths[0], lengths[1], lengths[2]])?;
        if before.is_some_and(|before| before.same(&graph)) {
            return Ok(graph);
        }
        before = Some(graph);
    }
    Err(Error::Internal("the model depends on the numbers of samples and positions".into()))
}

/// The graph recorded for one number of samples, of new positions and of past ones.
fn after_past(problem: &Problem, [batch, time, past]: [usize; 3]) -> Result<Graph> {
    let none =
        |what: &str| Error::Config(format!("--decode is for models of tokens that causal attention continues: {what}. Leave it out"));
    if problem.source().decodes() {
        return Err(none("a mechanism has its few joints at once"));
    }
    let (plan, io): (FixedPlan, _) =
        problem.record_sequences(target(), batch, time)?.ok_or_else(|| none("this run continues no sequences"))?;
    let prediction = problem.prediction(&plan, &io);
    let [(field, tensor)] = &prediction.fields[..] else { return Err(none("this one has other inputs")) };
    let mut graph = Graph::new(Axes { batch, time: Some(time), past: Some(past) });
    let tokens = graph.input(field.name, plan.shape(*tensor), true);
    let limit = field.shape.first().copied();
    let mut translation: Translation<'_> = translate(&plan, problem.buffers(), graph, &[(*tensor, tokens)], limit)?;
    let output = translation.value(io.output)?;
    let Translation { mut graph, past, .. } = translation;
    let layers = past.map(|past| past.layers).unwrap_or_default();
    let (keys, _) = *layers.first().ok_or_else(|| none("this one has no attention"))?;
    graph.nodes.iter_mut().filter(|node| matches!(node.op, Op::Placed(_))).for_each(|node| node.inputs.push(keys));
    outputs(&mut graph, output, &prediction, batch)?;
    for (number, (_, [k, v])) in layers.into_iter().enumerate() {
        graph.output(k, &format!("present.{number}.key"))?;
        graph.output(v, &format!("present.{number}.value"))?;
    }
    graph.prune();
    Ok(graph)
}

/// The graph for any number of samples: that of two numbers which give the same.
fn any_number(problem: &Problem, primes: &[usize], part: Option<Part>) -> Result<Graph> {
    let mut before: Option<Graph> = None;
    for prime in primes {
        let graph = Recorded::of(problem, *prime, None, part)?.graph;
        if before.is_some_and(|before| before.same(&graph)) {
            return Ok(graph);
        }
        before = Some(graph);
    }
    Err(Error::Internal("the model depends on the number of samples".into()))
}

/// The graph for sequences of any length, if the model has the same weights and does the same whatever the length.
fn any_length(
    config: &Config,
    buffers: &[Buffer],
    graph: &Graph,
    parameters: &[Parameter],
    primes: Vec<usize>,
    part: Option<Part>,
) -> Option<Graph> {
    let batch = graph.axes.batch;
    let mut found: Option<Graph> = None;
    for time in primes.into_iter().filter(|prime| *prime != batch).take(2) {
        let mut config = config.clone();
        let fields = Problem::open(&config, Purpose::Predict).ok()?.source().fields().0;
        let sequences =
            fields.iter().filter(|field| !field.answer && (field.shape.len() == 2 || field.shape.len() == 1 && field.below.is_some()));
        let shapes: Vec<(&str, Vec<usize>)> = sequences.map(|field| (field.name, [&[time], &field.shape[1..]].concat())).collect();
        config.data.take_inputs(&shapes).ok()?;
        let mut problem = Problem::open(&config, Purpose::Predict).ok()?;
        problem.use_saved_buffers(buffers.to_vec());
        let recorded = Recorded::of(&problem, batch, Some(time), part).ok()?;
        let same = |a: &Parameter, b: &Parameter| a.name == b.name && a.shape == b.shape;
        let fits = recorded.parameters.len() == parameters.len() && recorded.parameters.iter().zip(parameters).all(|(a, b)| same(a, b));
        let takes = recorded.graph.inputs.iter().any(|input| recorded.graph.shape(*input).contains(&time));
        if !fits || !takes || found.as_ref().is_some_and(|before| !before.same(&recorded.graph)) {
            return None;
        }
        found = Some(recorded.graph);
    }
    found
}

/// The input as the model sees it.
fn normalised(graph: &mut Graph, x: Value, field: &Field) -> Result<Value> {
    match &field.normalization {
        Normalization::None => Ok(x),
        Normalization::Unit => graph.add(Op::Unit, &[x], field.name, "unit"),
        Normalization::Scale(scale) => {
            let [mean, deviation] = scales(graph, field.name, scale);
            graph.add(Op::Scaled, &[x, mean, deviation], field.name, "scaled")
        }
    }
}

/// Mean and deviation of a field.
fn scales(graph: &mut Graph, field: &str, scale: &Scale) -> [Value; 2] {
    let mut weight = |what: &str, values: &[f32]| {
        graph.weight(&format!("normalization.{field}.{what}"), &[values.len()], Numbers::Kept(values.to_vec()))
    };
    [weight("mean", &scale.mean), weight("deviation", &scale.deviation)]
}

/// The output in the unit of the data.
fn unscaled(graph: &mut Graph, y: Value, field: &Field) -> Result<Value> {
    let Normalization::Scale(scale) = &field.normalization else { return Ok(y) };
    let [mean, deviation] = scales(graph, field.name, scale);
    let y = graph.add(Op::Binary(Binary::Mul), &[y, deviation], field.name, "stretched")?;
    graph.add(Op::Binary(Binary::Add), &[y, mean], field.name, "moved")
}

/// Names the outputs: the answer by its name, logits of classes, or the reconstruction.
fn outputs(graph: &mut Graph, y: Value, prediction: &Prediction, batch: usize) -> Result<()> {
    let Some(answer) = &prediction.answer else {
        let y = graph.view(y, &[&[batch], &prediction.shape[..]].concat(), "reconstruction")?;
        return graph.output(y, "reconstruction");
    };
    // Joints come with the logit of a stop bit, after tokens whose outputs mean nothing.
    if let ([length, columns], [joints, axes]) = (&prediction.shape[..], &answer.shape[..])
        && (columns, answer.name) == (&(axes + 1), "joints")
    {
        let first = (length - joints) as i64;
        let y = graph.view(y, &[batch, *length, *columns], "joints")?;
        let rows = graph.add(Op::Slice(1, first, -1), &[y], "joints", "rows")?;
        let places = graph.add(Op::Slice(2, 0, *axes as i64), &[rows], "joints", "places")?;
        let places = unscaled(graph, places, answer)?;
        graph.output(places, "joints")?;
        let stop = graph.add(Op::Take(2, *axes as i64), &[rows], "stop", "logits")?;
        return graph.output(stop, "stop");
    }
    let y = graph.view(y, &[&[batch], &prediction.shape[..]].concat(), answer.name)?;
    match (prediction.numbers(), prediction.classes) {
        (Some(answer), _) => {
            let y = unscaled(graph, y, answer)?;
            graph.output(y, answer.name)
        }
        (None, Some(_)) => graph.output(y, &format!("{}_logits", answer.name)),
        (None, None) => graph.output(y, answer.name),
    }
}
