//! Training steps of a run file in burn, through its wgpu backend with fusion and autotuning: prints the adapter once the steps are warm,
//! then the milliseconds of a step, a median, for each line of standard input. Data are made up. Clipping is burn's own, by the norm of
//! each tensor.

use std::io::BufRead;
use std::time::Instant;

use burn::grad_clipping::GradientClippingConfig;
use burn::module::Module;
use burn::nn::activation::ActivationConfig;
use burn::nn::attention::generate_autoregressive_mask;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::transformer::{TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput};
use burn::nn::{
    Dropout, DropoutConfig, Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig, Lstm, LstmConfig,
    PositionalEncoding, PositionalEncodingConfig,
};
use burn::optim::{AdamConfig, AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::activation::{gelu, log_softmax, relu};
use burn::tensor::{Device, DeviceKind, Distribution, Int, Tensor};
use toml::Value;

/// A number of the run file, or 0.
fn number(section: &Value, key: &str) -> f64 {
    section.get(key).and_then(|v| v.as_float().or(v.as_integer().map(|i| i as f64))).unwrap_or(0.0)
}

fn size(section: &Value, key: &str) -> usize {
    number(section, key) as usize
}

fn word<'a>(section: &'a Value, key: &str) -> &'a str {
    section.get(key).and_then(Value::as_str).unwrap_or("")
}

fn encoder(model: &Value, width: usize, activation: ActivationConfig, device: &Device) -> TransformerEncoder {
    TransformerEncoderConfig::new(width, size(model, "feed_forward"), size(model, "heads"), size(model, "layers"))
        .with_dropout(number(model, "dropout"))
        .with_activation(activation)
        .init(device)
}

/// Linear → ReLU → dropout → linear, linear → GELU → normalisation → linear, or one linear.
#[derive(Module, Debug)]
struct Head {
    first: Option<Linear>,
    norm: Option<LayerNorm>,
    dropout: Dropout,
    last: Linear,
}

impl Head {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let x = match (&self.first, &self.norm) {
            (Some(first), Some(norm)) => norm.forward(gelu(first.forward(x))),
            (Some(first), None) => self.dropout.forward(relu(first.forward(x))),
            _ => x,
        };
        self.last.forward(x)
    }
}

/// `vector_mlp`, `vector_transformer` with encoder blocks, and `vector_lstm`.
#[derive(Module, Debug)]
struct Vectors {
    input: Option<Linear>,
    positions: Option<PositionalEncoding>,
    encoder: Option<TransformerEncoder>,
    lstm: Vec<Lstm>,
    dropout: Dropout,
    head: Head,
}

impl Vectors {
    fn new(model: &Value, dim: usize, context: usize, device: &Device) -> Option<Self> {
        let (hidden, width) = (size(model, "hidden"), size(model, "width"));
        let dropout = DropoutConfig::new(number(model, "dropout")).init();
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        let (kind, blocks) = (word(model, "kind"), word(model, "blocks"));
        let (input, from, inside) = match (kind, blocks) {
            ("vector_mlp", _) if model.get("residual").is_none() => (None, context * dim, hidden),
            ("vector_transformer", "encoder") => (Some(linear(dim, width)), width, width),
            ("vector_lstm", _) => (None, hidden, hidden),
            _ => return None,
        };
        let layers = if kind == "vector_lstm" { size(model, "layers") } else { 0 };
        let name = word(model, "head");
        Some(Self {
            positions: input.is_some().then(|| PositionalEncodingConfig::new(width).with_max_sequence_size(context).init(device)),
            encoder: input.is_some().then(|| encoder(model, width, ActivationConfig::Relu, device)),
            input,
            lstm: (0..layers).map(|i| LstmConfig::new(if i == 0 { dim } else { hidden }, hidden, true).init(device)).collect(),
            head: Head {
                first: (name != "linear").then(|| linear(from, inside)),
                norm: (name == "gelu_norm").then(|| LayerNormConfig::new(inside).init(device)),
                dropout: dropout.clone(),
                last: linear(inside, dim),
            },
            dropout,
        })
    }

    fn forward(&self, mut x: Tensor<3>) -> Tensor<2> {
        if let (Some(input), Some(positions), Some(encoder)) = (&self.input, &self.positions, &self.encoder) {
            x = encoder.forward(TransformerEncoderInput::new(positions.forward(input.forward(x))));
        }
        for (i, lstm) in self.lstm.iter().enumerate() {
            x = lstm.forward(if i == 0 { x } else { self.dropout.forward(x) }, None).0;
        }
        if self.encoder.is_none() && self.lstm.is_empty() {
            return self.head.forward(x.flatten(1, 2));
        }
        let [batch, length, width] = x.dims();
        self.head.forward(x.slice([0..batch, length - 1..length, 0..width]).reshape([batch, width]))
    }
}

fn unit(x: Tensor<2>) -> Tensor<2> {
    let norm = x.clone().square().sum_dim(1).sqrt().clamp_min(1e-12);
    x / norm
}

/// The weighted sum of a run's loss terms.
fn vector_loss(loss: &Value, r: Tensor<2>, t: Tensor<2>) -> Option<Tensor<1>> {
    let (p, batch, device) = (unit(r.clone()), r.dims()[0], r.device());
    let deviation = |x: Tensor<2>| x.var(0).sqrt();
    let mut sum: Option<Tensor<1>> = None;
    for (name, options) in loss.as_table()?.iter().filter(|(name, _)| *name != "kind") {
        let value = match name.as_str() {
            "cosine" => (p.clone() * unit(t.clone())).sum_dim(1).mean().neg() + 1.0,
            "mse" => ((if word(options, "on") == "normalized" { p.clone() } else { r.clone() }) - t.clone()).square().mean(),
            "infonce" => {
                let logits = p.clone().matmul(unit(t.clone()).transpose()) / number(options, "temperature");
                let (ce, own) = (CrossEntropyLossConfig::new().init(&device), Tensor::<1, Int>::arange(0..batch as i64, &device));
                ce.forward(logits.clone(), own.clone()) + ce.forward(logits.transpose(), own)
            }
            "moment" => {
                let mean = (r.clone().mean_dim(0) - t.clone().mean_dim(0)).square().mean();
                mean + (deviation(r.clone()) - deviation(t.clone())).square().mean()
            }
            "variance" => relu(deviation(p.clone()).neg() + 1.0).mean(),
            _ => return None,
        } * number(options, "weight");
        sum = Some(match sum {
            Some(sum) => sum + value,
            None => value,
        });
    }
    sum
}

/// `sequence_transformer` with learned embeddings.
#[derive(Module, Debug)]
struct Sequences {
    value: Embedding,
    position: Embedding,
    encoder: TransformerEncoder,
    output: Linear,
}

impl Sequences {
    fn new(model: &Value, values: usize, context: usize, device: &Device) -> Option<Self> {
        let width = size(model, "d_model");
        (word(model, "embedding") == "learned").then(|| Self {
            value: EmbeddingConfig::new(values, width).init(device),
            position: EmbeddingConfig::new(context, width).init(device),
            encoder: encoder(model, width, ActivationConfig::Gelu, device),
            output: LinearConfig::new(width, values).init(device),
        })
    }

    /// The cross-entropy, weighted by the distance of the best guess from the target.
    fn loss(&self, tokens: Tensor<2, Int>, targets: Tensor<2, Int>, alpha: f64) -> Tensor<1> {
        let ([batch, length], device) = (tokens.dims(), tokens.device());
        let positions = Tensor::<1, Int>::arange(0..length as i64, &device).unsqueeze::<2>();
        let x = self.value.forward(tokens) + self.position.forward(positions);
        let mask = generate_autoregressive_mask(batch, length, &device);
        let logits = self.output.forward(self.encoder.forward(TransformerEncoderInput::new(x).mask_attn(mask)));
        let targets = targets.unsqueeze_dim::<3>(2);
        let distance = (logits.clone().argmax(2) - targets.clone()).abs().float();
        let ce = log_softmax(logits, 2).gather(2, targets).neg();
        (ce * (distance * alpha + 1.0)).mean()
    }
}

fn optimizer(section: &Value) -> ModuleOptimizer {
    let clip = Some(number(section, "clip_norm")).filter(|c| *c > 0.0).map(|c| GradientClippingConfig::Norm(c as f32));
    let decay = number(section, "weight_decay") as f32;
    if word(section, "kind") == "adamw" {
        return AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(decay).with_grad_clipping(clip).init();
    }
    AdamConfig::new().with_epsilon(1e-8).with_grad_clipping(clip).init()
}

/// Steps of a model with its loss, one after the other.
fn steps<M: Module + 'static>(run: &Value, mut model: M, loss: impl Fn(&M, usize) -> Tensor<1> + 'static) -> Box<dyn FnMut(usize)> {
    let (mut optimizer, rate) = (optimizer(&run["optimizer"]), number(&run["optimizer"], "learning_rate"));
    Box::new(move |i| {
        let gradients = GradientsParams::from_grads(loss(&model, i).backward(), &model);
        model = optimizer.step(rate, model.clone(), gradients);
    })
}

fn stepper(run: &Value, device: &Device) -> Option<Box<dyn FnMut(usize)>> {
    let (model, data, loss) = (&run["model"], &run["data"], run["loss"].clone());
    let batch = size(&run["train"], "batch");
    let context = if data.get("context").is_some() { size(data, "context") } else { 8 };
    if word(data, "kind") == "vectors" {
        let dim = size(data, "dim");
        let made_up: Vec<_> = (0..8)
            .map(|_| {
                let vectors = unit(Tensor::random([batch * (context + 1), dim], Distribution::Normal(0.0, 1.0), device));
                let context_rows = vectors.clone().slice([0..batch * context]).reshape([batch, context, dim]);
                (context_rows, vectors.slice([batch * context..batch * (context + 1)]))
            })
            .collect();
        let first = vector_loss(&loss, made_up[0].1.clone(), made_up[0].1.clone());
        let model = Vectors::new(model, dim, context, device).filter(|_| first.is_some())?;
        return Some(steps(run, model, move |model, i| {
            let (x, t) = made_up[i % 8].clone();
            vector_loss(&loss, model.forward(x), t).unwrap()
        }));
    }
    if word(model, "kind") != "sequence_transformer" {
        return None;
    }
    let random = || Tensor::<2>::random([batch, context], Distribution::Uniform(0.0, 255.9), device).int();
    let made_up: Vec<_> = (0..8).map(|_| (random(), random())).collect();
    let alpha = number(&loss, "alpha");
    Some(steps(run, Sequences::new(model, 256, context, device)?, move |model, i| {
        let (x, t) = made_up[i % 8].clone();
        model.loss(x, t, alpha)
    }))
}

fn main() {
    let path = std::env::args().nth(1).expect("a run file");
    let run: Value = toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let device = Device::wgpu(DeviceKind::DefaultDevice).autodiff();
    let Some(mut step) = stepper(&run, &device) else {
        println!("not written");
        return;
    };
    let mut done = 0;
    // Milliseconds of each of `count` steps that the device is given together.
    let mut time = |count: usize| {
        let start = Instant::now();
        for _ in 0..count {
            step(done);
            done += 1;
        }
        device.sync().unwrap();
        start.elapsed().as_secs_f64() * 1e3 / count as f64
    };
    // The first steps tune and compile, and what is fused changes for some steps more.
    for _ in 0..5 {
        time(1);
    }
    let count = if time(1) > 300.0 { 1 } else { 8 };
    println!("{}", device.identity().map(|d| d.name).unwrap_or_default());
    for _ in std::io::stdin().lock().lines() {
        let start = Instant::now();
        let mut times = vec![];
        while times.len() < 3 || (start.elapsed().as_secs_f64() < 3.0 && times.len() < 11) {
            times.push(time(count));
        }
        times.sort_by(f64::total_cmp);
        println!("{}", times[times.len() / 2]);
    }
}
