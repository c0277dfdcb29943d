//! The graph as a torch module: a Python file that can be read and changed, with its weights in a .safetensors file beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use super::graph::{Binary, Cell, Graph, Node, Numbers, Op, Phases, Value};
use super::model::Exported;
use crate::error::{Error, Result};
use crate::files;
use crate::kernels::matmul::Activation;
use crate::train::write_exported;

impl Exported {
    /// Writes the model as a torch module into one file, and its weights and constants into another.
    ///
    /// # Errors
    /// `Config` for a graph with past keys and values, `Io` when a file cannot be written.
    pub fn write_torch(&self, module: &Path, weights: &Path) -> Result<()> {
        if self.graph.axes.past.is_some() {
            return Err(Error::Config("a torch module takes whole sequences: past keys and values are for .onnx files".into()));
        }
        let mut tensors = vec![];
        for (value, _) in &self.graph.weights {
            let info = self.graph.info(*value);
            tensors.push((info.name.clone(), &info.shape[..], self.numbers(*value)?));
        }
        write_exported(weights, &tensors, &self.about)?;
        let beside = weights.file_name().unwrap_or_default().to_string_lossy();
        files::write(module, self.torch(&beside).as_bytes())
    }

    /// Text of the module that reads its weights from the file of this name.
    pub fn torch(&self, weights: &str) -> String {
        let known = |key: &str| self.about.iter().find(|(known, _)| known == key).map_or("", |(_, value)| value);
        let names = names(&self.graph);
        let list = |values: &[Value]| values.iter().map(|value| names[value].as_str()).collect::<Vec<_>>().join(", ");
        let (inputs, outputs) = (list(&self.graph.inputs), list(&self.graph.outputs));
        let body: String = self.graph.nodes.iter().scan("", |layer, node| Some(statement(&self.graph, &names, node, layer))).collect();
        let of_kind = |kept: bool| {
            let weights = self.graph.weights.iter().filter(|(_, numbers)| matches!(numbers, Numbers::Flat(_)) != kept);
            let one = |value: Value| format!("    {}: {},\n", quoted(&self.graph.info(value).name), tuple(self.graph.shape(value)));
            let all: String = weights.map(|(value, _)| one(*value)).collect();
            if all.is_empty() { "{}\n".to_string() } else { format!("{{\n{all}}}\n") }
        };
        let math = if body.contains("math.") { "import math\n" } else { "" };
        let helpers: String = HELPERS.iter().filter(|helper| body.contains(&format!("{}(", helper.0))).map(|helper| helper.1).collect();
        format!(
            "\"\"\"{kind}, written by engine {version}: {signature}.\n\n    model = load()\n    {outputs} = model({inputs})\n\"\"\"\n\n\
             {math}import pathlib\n\nimport safetensors.torch\nimport torch\nimport torch.nn.functional as F\n\n\
             # Shapes of the weights, by their names in the file beside this one.\nPARAMETERS = {parameters}\n\
             # What is kept with them and not trained.\nBUFFERS = {buffers}\n{helpers}\
             {CLASS}\
             \x20   def forward(self, {inputs}):\n        w = self.state_dict(keep_vars=True)\n{body}        return {outputs}\n\n\n\
             def load(path=pathlib.Path(__file__).with_name({file})):\n    \"\"\"The model with its trained weights.\"\"\"\n    model = Model()\n    \
             model.load_state_dict(safetensors.torch.load_file(path))\n    return model.eval()\n",
            kind = known("kind"),
            version = known("engine_version"),
            signature = self.signature(),
            parameters = of_kind(false),
            buffers = of_kind(true),
            file = quoted(weights),
        )
    }
}

/// What every module begins with.
const CLASS: &str = r#"
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        for name, shape in PARAMETERS.items():
            module, last = self.place(name)
            module.register_parameter(last, torch.nn.Parameter(torch.zeros(shape)))
        for name, shape in BUFFERS.items():
            module, last = self.place(name)
            module.register_buffer(last, torch.zeros(shape))

    def place(self, name):
        """The module that a name with dots leads to, and the last part of the name."""
        module, (*path, last) = self, name.split(".")
        for part in path:
            module = module._modules.setdefault(part, torch.nn.Module())
        return module, last

"#;

/// Functions that modules have if they use them.
const HELPERS: [(&str, &str); 7] = [
    (
        "lstm",
        r#"
def lstm(x, *weights):
    """Hidden states of an LSTM layer over x (time, batch, features), from zeros."""
    zeros = x.new_zeros(1, x.shape[1], weights[1].shape[1])
    return torch.lstm(x, (zeros, zeros), weights, True, 1, 0.0, False, False, False)[0]

"#,
    ),
    (
        "gru",
        r#"
def gru(x, *weights):
    """Hidden states of a GRU layer over x (time, batch, features), from zeros."""
    zeros = x.new_zeros(1, x.shape[1], weights[1].shape[1])
    return torch.gru(x, zeros, weights, True, 1, 0.0, False, False, False)[0]

"#,
    ),
    (
        "rms",
        r#"
def rms(x, eps):
    """x over the root of its mean square along the last axis."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)

"#,
    ),
    (
        "masked",
        r#"
def masked(x, lengths, fill):
    """x (batch, time, …) with `fill` after the end of each sequence."""
    there = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
    return torch.where(there.reshape(*there.shape, *[1] * (x.dim() - 2)), x, fill)

"#,
    ),
    (
        "backwards",
        r#"
def backwards(x, lengths, time):
    """x with each sequence from its end to its beginning; what comes after its end stays."""
    x = x if time == 1 else x.transpose(0, 1)
    place = torch.arange(x.shape[1], device=x.device)
    place = torch.where(place < lengths[:, None], lengths[:, None] - 1 - place, place)
    x = x.gather(1, place[:, :, None].expand_as(x))
    return x if time == 1 else x.transpose(0, 1)

"#,
    ),
    (
        "waves",
        r#"
def waves(phases):
    """Sines, then cosines, of phases in 64 bits."""
    return torch.cat([phases.sin(), phases.cos()], -1).float()

"#,
    ),
    (
        "steps",
        r#"
def steps(x, numbers):
    """Each coordinate times each number, in 64 bits."""
    return x.double()[..., None] * torch.tensor(numbers, dtype=torch.float64, device=x.device)

"#,
    ),
];

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A tuple in Python.
fn tuple(numbers: &[usize]) -> String {
    match numbers {
        [one] => format!("({one},)"),
        all => format!("({})", all.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    }
}

/// Variables of the values, by what Python allows; weights are entries of a dictionary.
fn names(graph: &Graph) -> BTreeMap<Value, String> {
    const TAKEN: [&str; 42] = [
        "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del", "elif", "else", "except", "finally", "for",
        "from", "global", "if", "import", "in", "is", "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while", "with",
        "yield", "self", "w", "F", "torch", "math", "lstm", "gru", "rms", "waves", "steps",
    ];
    let mut taken: BTreeSet<String> = TAKEN.iter().map(|name| name.to_string()).collect();
    taken.extend(["masked", "backwards", "print", "None", "True", "False"].map(String::from));
    let mut names = BTreeMap::new();
    // Inputs and outputs first: those are the names that others see.
    let weights: BTreeSet<Value> = graph.weights.iter().map(|(value, _)| *value).collect();
    let seen = graph.inputs.iter().chain(&graph.outputs).copied();
    let others = graph.nodes.iter().map(|node| node.output);
    for value in seen.chain(others) {
        if names.contains_key(&value) {
            continue;
        }
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let mut name: String = graph.info(value).name.chars().map(plain).collect();
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            name.insert_str(0, "layer_");
        }
        while !taken.insert(name.clone()) {
            name.push('_');
        }
        names.insert(value, name);
    }
    names.extend(weights.into_iter().map(|value| (value, format!("w[{}]", quoted(&graph.info(value).name)))));
    names
}

/// A statement, under the name of its layer where that is another than before.
fn statement<'a>(graph: &'a Graph, names: &BTreeMap<Value, String>, node: &'a Node, layer: &mut &'a str) -> String {
    let mut text = String::new();
    if *layer != node.layer {
        let _ = writeln!(text, "        # {}", node.layer);
        *layer = &node.layer;
    }
    let inputs: Vec<&str> = node.inputs.iter().map(|value| names[value].as_str()).collect();
    let _ = writeln!(text, "        {} = {}", names[&node.output], expression(graph, node, &inputs));
    text
}

/// An index that leaves the axes before this one as they are.
fn indexed(x: &str, axis: usize, index: &str) -> String {
    format!("{x}[{}{index}]", ":, ".repeat(axis))
}

fn expression(graph: &Graph, node: &Node, inputs: &[&str]) -> String {
    let (x, all) = (inputs[0], inputs.join(", "));
    match &node.op {
        Op::Linear => format!("F.linear({all})"),
        Op::MatMul => format!("{x} @ {}", inputs[1]),
        Op::Binary(Binary::Add) => format!("{x} + {}", inputs[1]),
        Op::Binary(Binary::Sub) => format!("{x} - {}", inputs[1]),
        Op::Binary(Binary::Mul) => format!("{x} * {}", inputs[1]),
        Op::Binary(Binary::Div) => format!("{x} / {}", inputs[1]),
        Op::Activate(kind) => match kind {
            Activation::Identity => x.into(),
            Activation::Relu => format!("F.relu({x})"),
            Activation::Gelu => format!("F.gelu({x})"),
            Activation::GeluTanh => format!("F.gelu({x}, approximate=\"tanh\")"),
            Activation::Sigmoid => format!("torch.sigmoid({x})"),
            Activation::Silu => format!("F.silu({x})"),
            Activation::Tanh => format!("torch.tanh({x})"),
        },
        Op::Exp => format!("torch.exp({x})"),
        Op::Neg => format!("-{x}"),
        Op::Softplus => format!("F.softplus({x})"),
        Op::Float => format!("{x}.float()"),
        Op::LayerNorm(eps) => format!("F.layer_norm({x}, {x}.shape[-1:], {}, {}, {:e})", inputs[1], inputs[2], *eps as f32),
        Op::Rms(eps) => format!("rms({x}, {:e})", *eps as f32),
        Op::Scaled => format!("(({x}.double() - {}) / {}).float()", inputs[1], inputs[2]),
        Op::Unit => format!("{x} / {x}.norm(dim=-1, keepdim=True).clamp_min(1e-12)"),
        Op::Softmax(axis) => format!("torch.softmax({x}, {axis})"),
        Op::Concat(axis) => format!("torch.cat([{all}], {axis})"),
        Op::Sum(axis) => format!("{x}.sum({axis})"),
        Op::Mean(axis) => format!("{x}.mean({axis})"),
        Op::CumSum(axis) => format!("{x}.cumsum({axis})"),
        Op::Rows => format!("F.embedding({}, {x})", inputs[1]),
        Op::LastOf => format!("{x}[torch.arange(len({x}), device={x}.device), {} - 1]", inputs[1]),
        Op::Masked(fill) if fill.is_infinite() => format!("masked({all}, -math.inf)"),
        Op::Masked(fill) => format!("masked({all}, {fill:?})"),
        Op::Reverse(time) => format!("backwards({all}, {time})"),
        Op::ExpandAs => format!("{x}.expand_as({})", inputs[1]),
        Op::Attention(causal) => {
            let causal = if *causal { ", is_causal=True" } else { "" };
            format!("F.scaled_dot_product_attention({all}{causal})")
        }
        Op::Recurrent(Cell::Lstm) => format!("lstm({all})"),
        Op::Recurrent(Cell::Gru) => format!("gru({all})"),
        Op::Fourier(phases) => fourier(phases, inputs, graph.shape(node.output).last().copied().unwrap_or(0)),
        Op::Conv1d { .. } | Op::Conv2d | Op::MaxPool | Op::Upsample => images(graph, node, inputs),
        _ => axes(graph, node, x),
    }
}

/// What changes axes alone.
fn axes(graph: &Graph, node: &Node, x: &str) -> String {
    let list = |numbers: &[usize]| numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    match &node.op {
        Op::Reshape(to) => {
            // Features into parts, or parts into features.
            let (from, kept) = (graph.shape(node.inputs[0]).len(), to.iter().take_while(|length| **length == 0).count());
            let rest: Vec<usize> = to[kept..].iter().filter_map(|length| usize::try_from(*length).ok()).collect();
            if rest.len() + kept == to.len() && kept > 0 && kept + 1 == from && rest.len() > 1 {
                return format!("{x}.unflatten({kept}, {})", tuple(&rest));
            }
            if kept > 0 && kept + 1 == to.len() && from > to.len() {
                return format!("{x}.flatten({kept})");
            }
            let one = |(i, length): (usize, &i64)| if *length == 0 { format!("{x}.shape[{i}]") } else { length.to_string() };
            format!("{x}.reshape({})", to.iter().enumerate().map(one).collect::<Vec<_>>().join(", "))
        }
        Op::Permute(order) => format!("{x}.permute({})", list(order)),
        Op::Unsqueeze(axis) => format!("{x}.unsqueeze({axis})"),
        Op::Slice(axis, from, to) => {
            let end = if *to == -1 { String::new() } else { to.to_string() };
            indexed(x, *axis, &format!("{from}:{end}"))
        }
        Op::Take(axis, at) => indexed(x, *axis, &at.to_string()),
        Op::Flip(axis) => format!("{x}.flip({axis})"),
        Op::Pad(axis, before, after) => {
            let behind = "0, 0, ".repeat(graph.shape(node.inputs[0]).len() - 1 - axis);
            format!("F.pad({x}, ({behind}{before}, {after}))")
        }
        _ => x.into(),
    }
}

/// Convolutions, pooling and upsampling, for which torch has channels before places.
fn images(graph: &Graph, node: &Node, inputs: &[&str]) -> String {
    let x = inputs[0];
    let (to, back) = ("permute(0, 3, 1, 2)", "permute(0, 2, 3, 1)");
    match &node.op {
        Op::Conv1d { dilation, before, after, groups } => {
            let rows = format!("F.pad({x}.transpose(1, 2), ({before}, {after}))");
            let dilation = if *dilation == 1 { String::new() } else { format!(", dilation={dilation}") };
            let groups = if *groups == 1 { String::new() } else { format!(", groups={groups}") };
            format!("F.conv1d({rows}, {}, {}{dilation}{groups}).transpose(1, 2)", inputs[1], inputs[2])
        }
        Op::Conv2d => {
            let padding = graph.shape(node.inputs[1])[2] / 2;
            format!("F.conv2d({x}.{to}, {}, {}, padding={padding}).{back}", inputs[1], inputs[2])
        }
        Op::MaxPool => format!("F.max_pool2d({x}.{to}, 2).{back}"),
        _ => format!("{x}.repeat_interleave(2, 1).repeat_interleave(2, 2)"),
    }
}

/// Features (…, width) of coordinates.
fn fourier(phases: &Phases, inputs: &[&str], width: usize) -> String {
    let x = inputs[0];
    let numbers = |numbers: &[f64]| numbers.iter().map(|number| format!("{number:?}")).collect::<Vec<_>>().join(", ");
    match phases {
        Phases::HalfTurns(all) => format!("waves(math.pi * steps({x}, [{}]).fmod(2)).reshape(*{x}.shape[:-1], {width})", numbers(all)),
        Phases::Radians(all) => format!("waves(steps({x}, [{}])).reshape(*{x}.shape[:-1], {width})", numbers(all)),
        Phases::Random => format!("waves(math.pi * (2 * {x}.double() @ {}.double()).fmod(2))", inputs[1]),
    }
}
