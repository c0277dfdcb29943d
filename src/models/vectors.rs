//! Models that predict the next vector from a context of some: MLP, transformers, LSTM, GRU, and attention over the context (AMN).

use serde::{Deserialize, Serialize};

use super::sequence_transformer::positive;
use crate::error::{Error, Result};
use crate::kernels::matmul::Activation;
use crate::kernels::slice::{self, Rows};
use crate::kernels::{attention_pool, mean, positions};
use crate::layers::{
    BlockConfig, DecoderBlock, Fused, Gru, Head, HeadKind, Layer, LayerNorm, Linear, Lstm, Outputs, TransformerBlock, dropout,
};
use crate::plan::{Plan, Tensor};

/// Sizes that come from the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VectorShape {
    /// Features of a vector.
    pub dim: usize,
    /// Vectors of a context.
    pub context: usize,
    /// Samples of a batch.
    pub batch: usize,
}

/// A model from contexts to raw predictions.
pub trait VectorModel: std::fmt::Debug {
    /// Whether x goes time step after time step, (context, batch, dim), instead of (batch, context, dim).
    fn time_major(&self) -> bool {
        false
    }

    /// Appends the forward pass: (batch, dim).
    ///
    /// # Errors
    /// `Config` when sizes overflow or do not fit each other.
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor>;

    /// Appends the gradients of all weights.
    ///
    /// # Errors
    /// `Internal` before `forward`.
    fn backward(&mut self, plan: &mut Plan, dr: Tensor) -> Result<()>;
}

fn check(ok: bool, what: &str, range: &str) -> std::result::Result<(), String> {
    if ok { Ok(()) } else { Err(format!("model.{what} is out of range: it must be {range}")) }
}

fn check_dropout(rate: f64) -> std::result::Result<(), String> {
    check((0.0..1.0).contains(&rate), &format!("dropout = {rate}"), "in [0, 1)")
}

/// Linear → ReLU → dropout → Linear over the whole context.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorMlpConfig {
    /// Features of the hidden layer.
    pub hidden: usize,
    /// After the activation.
    #[serde(default)]
    pub dropout: f64,
    /// On the input vectors.
    #[serde(default)]
    pub input_dropout: f64,
    /// Predict the difference to the mean of the context.
    #[serde(default)]
    pub residual: bool,
}

impl VectorMlpConfig {
    pub(super) fn validate(&self) -> std::result::Result<(), String> {
        positive("hidden", self.hidden, 1 << 18)?;
        check((0.0..1.0).contains(&self.input_dropout), &format!("input_dropout = {}", self.input_dropout), "in [0, 1)")?;
        check_dropout(self.dropout)
    }

    pub(super) fn build(&self, shape: VectorShape, training: bool) -> Box<dyn VectorModel> {
        let mut first = Linear::new("network.0", shape.context * shape.dim, self.hidden);
        (first.activation, first.training) = (Activation::Relu, training);
        let rate = |rate: f64| if training { rate } else { 0.0 };
        let second = Linear::new("network.3", self.hidden, shape.dim);
        Box::new(Mlp { first, second, rate: rate(self.dropout), input_rate: rate(self.input_dropout), residual: self.residual, shape })
    }
}

#[derive(Debug)]
struct Mlp {
    first: Linear,
    second: Linear,
    rate: f64,
    input_rate: f64,
    residual: bool,
    shape: VectorShape,
}

impl VectorModel for Mlp {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        let base = if self.residual { Some(context_mean(plan, x, self.shape)?) } else { None };
        let x = match dropout(plan, self.input_rate) {
            Some(dropout) => {
                let y = plan.like("input.dropped", x)?;
                crate::kernels::dropout::Apply { x, y, dropout }.record(plan, "input")?;
                y
            }
            None => x,
        };
        self.first.dropout = dropout(plan, self.rate);
        let h = self.first.forward(plan, x)?;
        self.second.forward_fused(plan, h, base)
    }

    fn backward(&mut self, plan: &mut Plan, dr: Tensor) -> Result<()> {
        self.second.backward_params(plan, dr)?;
        let below = Fused { derivative: self.first.derivative()?, dropout: self.first.dropout, residual: None };
        let dz = self.second.backward_input(plan, dr, below)?;
        self.first.backward_params(plan, dz)
    }
}

/// b = mean of the context.
fn context_mean(plan: &mut Plan, x: Tensor, shape: VectorShape) -> Result<Tensor> {
    let VectorShape { dim, context, batch } = shape;
    let y = plan.activation("context.mean", &[batch, dim])?;
    mean::Forward { x, y, batch, length: context, cols: dim }.record(plan, "context")?;
    Ok(y)
}

/// Blocks of a transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blocks {
    /// `torch.nn.TransformerEncoder` without a mask.
    Encoder,
    /// `torch.nn.TransformerDecoder`, causal, whose memory is its own input, causal too.
    Decoder,
}

/// input_proj → sinusoidal positions → post-norm blocks → last position → head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorTransformerConfig {
    /// `encoder` or `decoder`.
    pub blocks: Blocks,
    /// Features.
    pub width: usize,
    /// Heads; they divide `width`.
    pub heads: usize,
    /// Blocks.
    pub layers: usize,
    /// Features of the feed-forward networks.
    pub feed_forward: usize,
    /// `relu`, `gelu_norm` or `linear`.
    pub head: HeadKind,
    /// On probabilities, activations and sublayer outputs.
    #[serde(default)]
    pub dropout: f64,
}

impl VectorTransformerConfig {
    pub(super) fn validate(&self) -> std::result::Result<(), String> {
        let sizes = [
            ("width", self.width, 1 << 16),
            ("heads", self.heads, 1 << 12),
            ("layers", self.layers, 1 << 10),
            ("feed_forward", self.feed_forward, 1 << 18),
        ];
        sizes.into_iter().try_for_each(|(key, value, most)| positive(key, value, most))?;
        check(self.width.is_multiple_of(self.heads), &format!("heads = {}", self.heads), &format!("a divisor of width = {}", self.width))?;
        check(self.width / self.heads <= 128, &format!("heads = {}", self.heads), "so many that a head has at most 128 features")?;
        let decoder = self.blocks == Blocks::Decoder;
        check(!decoder || self.width.is_multiple_of(64), &format!("width = {}", self.width), "a multiple of 64 with decoder blocks")?;
        check_dropout(self.dropout)
    }

    pub(super) fn build(&self, shape: VectorShape, training: bool) -> Result<Box<dyn VectorModel>> {
        let causal = self.blocks == Blocks::Decoder;
        let config = BlockConfig {
            features: self.width,
            heads: self.heads,
            hidden: self.feed_forward,
            activation: Activation::Relu,
            dropout: self.dropout,
            eps: 1e-5,
            causal,
            training,
        };
        let stack = match self.blocks {
            Blocks::Encoder => Stack::Encoder(
                (0..self.layers)
                    .map(|i| TransformerBlock::new(&format!("transformer.layers.{i}"), shape.batch, config))
                    .collect::<Result<_>>()?,
            ),
            Blocks::Decoder => Stack::Decoder(
                (0..self.layers)
                    .map(|i| DecoderBlock::new(&format!("transformer_decoder.layers.{i}"), shape.batch, config))
                    .collect::<Result<_>>()?,
            ),
        };
        let name = if self.head == HeadKind::Linear { "output_proj" } else { "head" };
        Ok(Box::new(Transformer {
            input: Linear::new("input_proj", shape.dim, self.width),
            stack,
            head: Head::new(name, self.head, self.width, shape.dim, self.dropout, training),
            width: self.width,
            shape,
        }))
    }
}

#[derive(Debug)]
enum Stack {
    Encoder(Vec<TransformerBlock>),
    Decoder(Vec<DecoderBlock>),
}

#[derive(Debug)]
struct Transformer {
    input: Linear,
    stack: Stack,
    head: Head,
    width: usize,
    shape: VectorShape,
}

impl Transformer {
    fn last(&self) -> Rows {
        let VectorShape { context, batch, .. } = self.shape;
        Rows { rows: batch * context, cols: self.width, picked: batch, first: context - 1, stride: context }
    }
}

/// y = the picked rows of x.
fn pick(plan: &mut Plan, x: Tensor, rows: Rows) -> Result<Tensor> {
    let y = plan.activation("last", &[rows.picked, rows.cols])?;
    slice::Forward { x, y, rows }.record(plan, "last")?;
    Ok(y)
}

/// The gradient of all rows from that of the picked ones.
fn unpick(plan: &mut Plan, dy: Tensor, rows: Rows) -> Result<Tensor> {
    let dx = plan.activation("last.dx", &[rows.rows, rows.cols])?;
    slice::Backward { dy, dx, rows }.record(plan, "last")?;
    Ok(dx)
}

impl VectorModel for Transformer {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        let projected = self.input.forward(plan, x)?;
        let memory = plan.like("positions.y", projected)?;
        positions::Forward { x: projected, y: memory, cols: self.width, length: self.shape.context }.record(plan, "positions")?;
        let mut x = memory;
        match &mut self.stack {
            Stack::Encoder(blocks) => {
                for block in blocks {
                    x = block.forward(plan, x, None)?;
                }
            }
            Stack::Decoder(blocks) => {
                for block in blocks {
                    x = block.forward(plan, x, memory)?;
                }
            }
        }
        let last = pick(plan, x, self.last())?;
        self.head.forward(plan, last)
    }

    fn backward(&mut self, plan: &mut Plan, dr: Tensor) -> Result<()> {
        let d = self.head.backward(plan, dr)?;
        let mut d = unpick(plan, d, self.last())?;
        match &mut self.stack {
            Stack::Encoder(blocks) => {
                for block in blocks.iter_mut().rev() {
                    d = block.backward(plan, d, true)?.ok_or_else(|| Error::Internal("no gradient of a block's input".into()))?;
                }
                self.input.backward_params(plan, d)
            }
            Stack::Decoder(blocks) => {
                let mut dmemory = None;
                for block in blocks.iter_mut().rev() {
                    let (dx, dm) = block.backward(plan, d, dmemory)?;
                    (d, dmemory) = (dx, Some(dm));
                }
                // The input is the memory as well: both gradients meet in the projection, which is linear.
                self.input.backward_params(plan, d)?;
                dmemory.map_or(Ok(()), |dm| self.input.backward_params(plan, dm))
            }
        }
    }
}

/// LSTM → last step → head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorLstmConfig {
    /// Features of the state.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// `relu`, `gelu_norm` or `linear`.
    pub head: HeadKind,
    /// Between layers, and in a `relu` head.
    #[serde(default)]
    pub dropout: f64,
}

impl VectorLstmConfig {
    pub(super) fn validate(&self) -> std::result::Result<(), String> {
        positive("hidden", self.hidden, 1 << 16)?;
        positive("layers", self.layers, 1 << 8)?;
        check_dropout(self.dropout)
    }

    pub(super) fn build(&self, shape: VectorShape, training: bool) -> Box<dyn VectorModel> {
        let layer = |k: usize| {
            let inputs = if k == 0 { shape.dim } else { self.hidden };
            Lstm::new("lstm", k, [inputs, self.hidden, shape.batch, shape.context])
        };
        let name = if self.head == HeadKind::GeluNorm { "head" } else { "output_proj" };
        Box::new(LstmModel {
            layers: (0..self.layers).map(layer).collect(),
            head: Head::new(name, self.head, self.hidden, shape.dim, self.dropout, training),
            rate: if training { self.dropout } else { 0.0 },
        })
    }
}

#[derive(Debug)]
struct LstmModel {
    layers: Vec<Lstm>,
    head: Head,
    rate: f64,
}

impl VectorModel for LstmModel {
    fn time_major(&self) -> bool {
        true
    }

    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        let (mut x, last) = (x, self.layers.len() - 1);
        for (k, layer) in self.layers.iter_mut().enumerate() {
            x = layer.forward(plan, x, if k == last { Outputs::Last } else { Outputs::All(self.rate) })?;
        }
        self.head.forward(plan, x)
    }

    fn backward(&mut self, plan: &mut Plan, dr: Tensor) -> Result<()> {
        let mut d = self.head.backward(plan, dr)?;
        for (k, layer) in self.layers.iter_mut().enumerate().rev() {
            match layer.backward(plan, d, k > 0)? {
                Some(dx) => d = dx,
                None => break,
            }
        }
        Ok(())
    }
}

/// Where a GRU block normalises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormPlace {
    /// x + GRU(LayerNorm(x)); the recurrent weights are named `blocks.N.mamba`.
    Before,
    /// LayerNorm(x + GRU(x)); the recurrent weights are named `blocks.N.gru`.
    After,
}

/// input_proj → residual GRU blocks → last step → head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorGruConfig {
    /// Features.
    pub width: usize,
    /// Blocks.
    pub layers: usize,
    /// `before` or `after`.
    pub norm: NormPlace,
    /// `gelu_norm`, `linear`, or `relu` without dropout.
    pub head: HeadKind,
}

impl VectorGruConfig {
    pub(super) fn validate(&self) -> std::result::Result<(), String> {
        positive("width", self.width, 1 << 16)?;
        positive("layers", self.layers, 1 << 8)
    }

    pub(super) fn build(&self, shape: VectorShape, training: bool) -> Box<dyn VectorModel> {
        let gru = if self.norm == NormPlace::Before { "mamba" } else { "gru" };
        let block = |i: usize| {
            let sizes = [self.width, self.width, shape.batch, shape.context];
            (Gru::new(&format!("blocks.{i}.{gru}"), 0, sizes), LayerNorm::new(&format!("blocks.{i}.norm"), self.width, 1e-5))
        };
        let name = if self.head == HeadKind::GeluNorm { "head" } else { "output_proj" };
        Box::new(GruModel {
            input: Linear::new("input_proj", shape.dim, self.width),
            blocks: (0..self.layers).map(block).collect(),
            norm: self.norm,
            head: Head::new(name, self.head, self.width, shape.dim, 0.0, training),
            width: self.width,
            shape,
        })
    }
}

#[derive(Debug)]
struct GruModel {
    input: Linear,
    blocks: Vec<(Gru, LayerNorm)>,
    norm: NormPlace,
    head: Head,
    width: usize,
    shape: VectorShape,
}

impl GruModel {
    fn last(&self) -> Rows {
        let VectorShape { context, batch, .. } = self.shape;
        Rows { rows: batch * context, cols: self.width, picked: batch, first: (context - 1) * batch, stride: 1 }
    }
}

impl VectorModel for GruModel {
    fn time_major(&self) -> bool {
        true
    }

    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        let mut x = self.input.forward(plan, x)?;
        for (gru, norm) in &mut self.blocks {
            x = match self.norm {
                NormPlace::Before => {
                    let normed = norm.forward(plan, x)?;
                    gru.forward(plan, normed, Some(x))?
                }
                NormPlace::After => {
                    let sum = gru.forward(plan, x, Some(x))?;
                    norm.forward(plan, sum)?
                }
            };
        }
        let last = pick(plan, x, self.last())?;
        self.head.forward(plan, last)
    }

    fn backward(&mut self, plan: &mut Plan, dr: Tensor) -> Result<()> {
        let d = self.head.backward(plan, dr)?;
        let mut d = unpick(plan, d, self.last())?;
        for (gru, norm) in self.blocks.iter_mut().rev() {
            d = match self.norm {
                NormPlace::Before => {
                    let dn = gru.backward(plan, d, None)?;
                    norm.backward_fused(plan, dn, Fused { residual: Some(d), ..Fused::default() })?
                }
                NormPlace::After => {
                    let ds = norm.backward(plan, d)?;
                    gru.backward(plan, ds, Some(ds))?
                }
            };
        }
        self.input.backward_params(plan, d)
    }
}

/// Attention over the context from its mean b, and a network on [b; w] that corrects b.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorAmnConfig {
    /// Features of query and keys, and of the second hidden layer.
    pub width: usize,
    /// Features of the first hidden layer.
    pub hidden: usize,
}

impl VectorAmnConfig {
    pub(super) fn validate(&self) -> std::result::Result<(), String> {
        positive("width", self.width, 1 << 16)?;
        positive("hidden", self.hidden, 1 << 18)
    }

    pub(super) fn build(&self, shape: VectorShape, training: bool) -> Box<dyn VectorModel> {
        let gelu = |name: &str, inputs: usize, outputs: usize| {
            let mut linear = Linear::new(name, inputs, outputs);
            (linear.activation, linear.training) = (Activation::Gelu, training);
            linear
        };
        Box::new(Amn {
            keys: Linear::new("context_encoder", shape.dim, self.width),
            query: Linear::new("query_encoder", shape.dim, self.width),
            hidden: [
                (gelu("residual_net.0", 2 * shape.dim, self.hidden), LayerNorm::new("residual_net.2", self.hidden, 1e-5)),
                (gelu("residual_net.3", self.hidden, self.width), LayerNorm::new("residual_net.5", self.width, 1e-5)),
            ],
            output: Linear::new("residual_net.6", self.width, shape.dim),
            width: self.width,
            shape,
            saved: None,
        })
    }
}

#[derive(Debug)]
struct Amn {
    keys: Linear,
    query: Linear,
    hidden: [(Linear, LayerNorm); 2],
    output: Linear,
    width: usize,
    shape: VectorShape,
    saved: Option<[Tensor; 4]>,
}

impl VectorModel for Amn {
    fn forward(&mut self, plan: &mut Plan, x: Tensor) -> Result<Tensor> {
        let VectorShape { dim, context, batch } = self.shape;
        let b = context_mean(plan, x, self.shape)?;
        let k = self.keys.forward(plan, x)?;
        let q = self.query.forward(plan, b)?;
        let (a, y) = (plan.activation("attention.a", &[batch, context])?, plan.activation("attention.y", &[batch, 2, dim])?);
        attention_pool::Forward { q, k, x, b, a, y, rows: batch, length: context, features: self.width, cols: dim }
            .record(plan, "attention")?;
        self.saved = Some([q, k, x, a]);
        let mut h = y;
        for (linear, norm) in &mut self.hidden {
            let z = linear.forward(plan, h)?;
            h = norm.forward(plan, z)?;
        }
        self.output.forward_fused(plan, h, Some(b))
    }

    fn backward(&mut self, plan: &mut Plan, dr: Tensor) -> Result<()> {
        let VectorShape { dim, context, batch } = self.shape;
        let [q, k, x, a] = self.saved.ok_or_else(|| Error::Internal("attention: backward before forward".into()))?;
        let mut d = self.output.backward(plan, dr)?;
        for (linear, norm) in self.hidden.iter_mut().rev() {
            let below = Fused { derivative: linear.derivative()?, ..Fused::default() };
            let dz = norm.backward_fused(plan, d, below)?;
            d = linear.backward(plan, dz)?;
        }
        let (dq, dk) = (plan.like("attention.dq", q)?, plan.like("attention.dk", k)?);
        attention_pool::Backward { q, k, x, a, dy: d, dq, dk, rows: batch, length: context, features: self.width, cols: dim }
            .record(plan, "attention")?;
        self.query.backward_params(plan, dq)?;
        self.keys.backward_params(plan, dk)
    }
}
