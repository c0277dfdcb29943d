//! Cases of whole layers: their backward pass against the tape of their forward pass, weights included.

use super::{Builder, Family, Regime, Spec, Tolerance};
use crate::batch::{Inputs, Outputs};
use crate::error::Result;
use crate::kernels::cross_entropy::{IGNORED, Per};
use crate::kernels::matmul::Activation;
use crate::kernels::rope;
use crate::layers::{
    BlockConfig, DecoderBlock, Embedding, FeedForward, Fused, Gru, Head, HeadKind, Layer, LayerNorm, Linear, LlamaBlock, LlamaBlockConfig,
    LowRank, Lstm, Projected, Projection, TransformerBlock, Wanted,
};
use crate::losses::{CrossEntropyConfig, Loss};
use crate::plan::{Init, Plan, Section, Tensor};
use crate::random::Random;

type Backward = Box<dyn FnMut(&mut Plan, Tensor) -> Result<Tensor>>;

/// dims: batch, length, features / heads, heads, hidden; flags: layer, activation, dropout, adapters.
pub(super) const FAMILY: Family =
    Family { kinks: |spec| spec.flags[1] == 2 || spec.flags[0] == 5, ..Family::new("layers", spec, 208, build, &[]) };

fn spec(i: usize, random: &mut Random) -> Spec {
    let dims = vec![
        random.pick(&[1, 2, 5]),
        random.pick(&[1, 3, 8]),
        random.pick(&[1, 2, 8, 17]),
        random.pick(&[1, 2, 3]),
        random.pick(&[4, 7, 33]),
    ];
    Spec { dims, flags: vec![i % 13, i / 13 % 4, i / 52 % 2, i / 104], regime: Regime::Normal, seed: i as u64 }
}

fn build(b: &mut Builder, spec: &Spec) -> Result<()> {
    let [batch, length, head_dim, heads, hidden] = spec.dims[..] else { unreachable!("five sizes") };
    // Normalisation over two features leaves one bit of each row, and gradients that are rounding errors for whole blocks.
    let features = (head_dim * heads).max(4);
    let recurrent = (8..=10).contains(&spec.flags[0]);
    let heads = if features.is_multiple_of(heads) { heads } else { 1 };
    let activation = [Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Identity][spec.flags[1]];
    let dropout = [0.0, 0.25][spec.flags[2]];
    // Scaled and not.
    let adapter = (spec.flags[3] > 0).then(|| LowRank { rank: 1 + spec.seed as usize % 4, scale: [1.0, 0.75][spec.seed as usize % 2] });
    b.tolerance = Tolerance::Nmse(1e-9);
    if spec.flags[0] == 0 {
        let ids = b.ints("ids", &[batch, length], 40)?;
        let mut layer = Embedding::new("embedding", 40, (spec.flags[1] < 3).then_some(length), features);
        let y = layer.forward(&mut b.plan, ids)?;
        let dy = b.upstream(y)?;
        b.plan.begin(Section::Backward);
        layer.backward(&mut b.plan, dy)?;
        return b.parameters();
    }
    // Parts of a weight begin at multiples of 64.
    let (features, heads) = if spec.flags[0] == 7 { (64, 4) } else { (features, heads) };
    let x = b.input("x", &(if recurrent { [length, batch, features] } else { [batch, length, features] }))?;
    let mut backward: Backward;
    let y;
    if spec.flags[0] == 7 {
        let norm_first = spec.flags[0] == 4 && spec.seed / 2 % 2 == 1;
        let config =
            BlockConfig { features, heads, hidden, activation, dropout, eps: 1e-5, causal: spec.seed.is_multiple_of(2), norm_first };
        let mut block = DecoderBlock::new("block", config)?;
        let memory = b.input("memory", &[batch, length, features])?;
        y = block.forward(&mut b.plan, x, memory)?;
        let dy = b.upstream(y)?;
        b.plan.begin(Section::Backward);
        let (dx, dmemory) = block.backward(&mut b.plan, dy, None)?;
        b.gradient_is(x, dx);
        b.gradient_is(memory, dmemory);
        return b.parameters();
    }
    if spec.flags[0] == 11 {
        // Joined weights begin at multiples of 64, heads turn in pairs.
        let (features, heads, hidden) = (8 * head_dim.min(4), [1, 2, 4][heads - 1], 8 * (1 + hidden % 3));
        // Grouped queries, where keys of fewer heads still begin at such a place.
        let kv_heads = if (spec.seed / 12).is_multiple_of(2) && (features / heads * features).is_multiple_of(64) { 1 } else { heads };
        let config = LlamaBlockConfig { features, heads, kv_heads, hidden, dropout, eps: 1e-6, theta: 1e4, limit: length };
        let mut block = LlamaBlock::new("model.layers.0", config)?.adapted([adapter; 2]);
        // Of one position the queries have no gradient but rounding errors.
        let length = length.max(2);
        let x = b.input("x_llama", &[batch, length, features])?;
        let angles = rope::table(length, features / heads, 1e4);
        b.given("rope.table", &[length, features / heads / 2, 2], angles)?;
        let y = block.forward(&mut b.plan, x, None)?;
        let dy = b.upstream(y)?;
        b.plan.begin(Section::Backward);
        let dx = block.backward(&mut b.plan, dy)?;
        b.gradient_is(x, dx);
        return b.parameters();
    }
    if spec.flags[0] == 12 {
        return head_and_loss(b, x, [batch * length, features, hidden], spec);
    }
    if spec.flags[0] >= 8 {
        if spec.flags[0] == 8 {
            let outputs = if spec.flags[1] == 0 { Wanted::Last } else { Wanted::All(dropout) };
            let mut layer = Lstm::new("lstm", 0, features, hidden);
            y = layer.forward(&mut b.plan, x, outputs)?;
            backward = Box::new(move |plan, dy| layer.backward(plan, dy));
        } else {
            let mut norm = LayerNorm::new("norm", features, 1e-5);
            let mut layer = Gru::new("gru", 0, features, features);
            if spec.flags[0] == 9 {
                let normed = norm.forward(&mut b.plan, x)?;
                y = layer.forward(&mut b.plan, normed, Some(x))?;
                backward = Box::new(move |plan, dy| {
                    let d = layer.backward(plan, dy, None)?;
                    norm.backward_fused(plan, d, Fused { residual: Some(dy), ..Fused::default() })
                });
            } else {
                let sum = layer.forward(&mut b.plan, x, Some(x))?;
                y = norm.forward(&mut b.plan, sum)?;
                backward = Box::new(move |plan, dy| {
                    let d = norm.backward(plan, dy)?;
                    layer.backward(plan, d, Some(d))
                });
            }
        }
    } else if spec.flags[0] == 4 {
        let norm_first = spec.flags[0] == 4 && spec.seed / 2 % 2 == 1;
        let config =
            BlockConfig { features, heads, hidden, activation, dropout, eps: 1e-5, causal: spec.seed.is_multiple_of(2), norm_first };
        let mut block = TransformerBlock::new("block", config)?;
        y = block.forward(&mut b.plan, x, None)?;
        backward = Box::new(move |plan, dy| block.backward(plan, dy));
    } else {
        let mut layer: Box<dyn Layer> = match spec.flags[0] {
            1 => Box::new(Linear::new("linear", features, hidden)),
            2 => Box::new(LayerNorm::new("norm", features, 1e-5)),
            5 => Box::new(Head::new("head", HeadKind::Relu, features, hidden, dropout)),
            6 => Box::new(Head::new("head", HeadKind::GeluNorm, features, hidden, dropout)),
            _ => {
                let first = Linear::new("network.linear1", features, hidden).activated(activation).adapted(adapter);
                Box::new(FeedForward::of([(first, dropout), (Linear::new("network.linear2", hidden, features).adapted(adapter), dropout)]))
            }
        };
        y = layer.forward(&mut b.plan, x)?;
        backward = Box::new(move |plan, dy| layer.backward(plan, dy));
    }
    let dy = b.upstream(y)?;
    b.plan.begin(Section::Backward);
    let dx = backward(&mut b.plan, dy)?;
    b.gradient_is(x, dx);
    b.parameters()
}

/// The last layer of a classifier, whose logits are made in chunks of rows by the loss, which goes back through both.
fn head_and_loss(b: &mut Builder, x: Tensor, [rows, inputs, outputs]: [usize; 3], spec: &Spec) -> Result<()> {
    let weight = b.plan.parameter("head.weight", &[outputs, inputs], Init::Zeros)?;
    let bias = (spec.flags[1] % 2 == 1).then(|| b.plan.parameter("head.bias", &[outputs], Init::Zeros)).transpose()?;
    let chunk = [1, 3, 7, rows.div_ceil(2)][spec.flags[1]].min(rows);
    let head = Projection { label: "head".into(), x, weight, bias, rows, inputs, outputs, chunk };
    let per = if spec.flags[1] == 2 { Per::Sequence } else { Per::Position };
    let loss = CrossEntropyConfig { per, label_smoothing: [0.0, 0.1][spec.flags[2]], ..CrossEntropyConfig::default() };
    // Of every third row the target is no class.
    let classes: Vec<u32> = (0..rows).map(|row| if row % 3 == 2 { IGNORED } else { (row * 5 % outputs) as u32 }).collect();
    let known = classes.iter().filter(|class| **class != IGNORED).count();
    let samples = if per == Per::Sequence { spec.dims[0] } else { known };
    (b.state.rows, b.state.count) = (rows as u32, samples as u32);
    let targets = b.words("targets", &[rows], classes)?;
    let inputs = Inputs::new(spec.dims[0]).with("targets", targets);
    let recorded = loss.record(&mut b.plan, &Outputs::projected(Projected::Chunked(head)), &inputs, true)?;
    b.weighted(recorded.rows, (0..rows * 4).map(|i| if i % 4 == 0 { 1.0 / samples as f32 } else { 0.0 }).collect());
    b.gradient_is(x, recorded.gradients.expect("a gradient that was asked for").main);
    b.parameters()
}
