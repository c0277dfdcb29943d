//! GPT-2 (Radford et al. 2019): a causal transformer over tokens, with the weight names of Hugging Face's `GPT2LMHeadModel`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::causal_lm::{Around, CausalLm, DEVIATION};
use super::hugging_face::{HuggingFace, Key};
use super::model::{Build, Model, ModelKind};
use crate::batch::Fields;
use crate::config::{Section, in_range};
use crate::error::Result;
use crate::kernels::matmul::Activation;
use crate::layers::{FeedForward, Layer, LayerNorm, Linear, LowRank, Mask, SelfAttention, TransformerBlock};
use crate::plan::Init;

/// Sizes and options of GPT-2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GptConfig {
    /// Number of features of a position (`n_embd`).
    #[schemars(range(min = 1, max = 1 << 16))]
    pub d_model: usize,
    /// Number of attention heads (`n_head`); they divide `d_model` into heads of at most 128 features.
    #[schemars(range(min = 1, max = 1 << 12))]
    pub heads: usize,
    /// Number of blocks (`n_layer`).
    #[schemars(range(min = 1, max = 1 << 10))]
    pub layers: usize,
    /// Number of hidden features of the feed-forward networks (`n_inner`); without it, four times `d_model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1 << 18))]
    pub feed_forward: Option<usize>,
    /// Activation of the feed-forward networks: GPT-2 has GELU in its tanh form, nanoGPT the exact one.
    #[serde(default = "tanh_form")]
    pub activation: Activation,
    /// Biases in linear layers and norms.
    #[serde(default = "yes")]
    pub bias: bool,
    /// Dropout rate of the embeddings, of attention probabilities and of sublayer outputs.
    #[serde(default)]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub dropout: f64,
    /// ε, added to the variance of the normalisation.
    #[serde(default = "eps")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub norm_eps: f64,
}

fn tanh_form() -> Activation {
    Activation::GeluTanh
}

fn yes() -> bool {
    true
}

fn eps() -> f64 {
    1e-5
}

const NAME: &str = "model.kind = \"gpt\"";

/// Name of the table of tokens, which is the weight of the head as well.
const TABLE: &str = "transformer.wte.weight";

impl GptConfig {
    /// Number of hidden features of the feed-forward networks.
    pub fn hidden(&self) -> usize {
        self.feed_forward.unwrap_or(4 * self.d_model)
    }

    fn linear(&self, name: &str, inputs: usize, outputs: usize, deviation: f64) -> Linear {
        let [weight, bias] = ["weight", "bias"].map(|what| format!("{name}.{what}"));
        match self.bias {
            true => Linear::new(name, inputs, outputs).with([weight, bias], [Init::Normal(deviation), Init::Zeros]),
            false => Linear::without_bias(name, &[weight], inputs, outputs, Init::Normal(deviation)),
        }
    }

    fn norm(&self, name: &str) -> LayerNorm {
        LayerNorm::new(name, self.d_model, self.norm_eps).with_bias(self.bias)
    }

    /// Names and lengths of the biases that GPT-2 has.
    fn biases(&self) -> Vec<(String, usize)> {
        let (d, hidden) = (self.d_model, self.hidden());
        let of_block = [("ln_1", d), ("attn.c_attn", 3 * d), ("attn.c_proj", d), ("ln_2", d), ("mlp.c_fc", hidden), ("mlp.c_proj", d)];
        let blocks =
            (0..self.layers).flat_map(|block| of_block.map(|(part, length)| (format!("transformer.h.{block}.{part}.bias"), length)));
        blocks.chain([("transformer.ln_f.bias".into(), d)]).collect()
    }

    fn block(&self, number: usize, [of_attention, of_others]: [Option<LowRank>; 2]) -> Result<TransformerBlock> {
        let (d, hidden, name) = (self.d_model, self.hidden(), format!("transformer.h.{number}"));
        let part = |part: &str| format!("{name}.{part}");
        // Each block adds two results to the residual stream, whose variance is that of one so.
        let of_residual = DEVIATION / (2.0 * self.layers as f64).sqrt();
        let projections = [self.linear(&part("attn.c_attn"), d, 3 * d, DEVIATION), self.linear(&part("attn.c_proj"), d, d, of_residual)];
        let projections = projections.map(|projection| projection.adapted(of_attention));
        let attention = SelfAttention::between(projections, &part("attn"), d, self.heads, Mask::Causal, self.dropout)?;
        let first = self.linear(&part("mlp.c_fc"), d, hidden, DEVIATION).activated(self.activation);
        let second = self.linear(&part("mlp.c_proj"), hidden, d, of_residual);
        let [first, second] = [first, second].map(|linear| linear.adapted(of_others));
        let norms = ["ln_1", "ln_2"].map(|norm| self.norm(&part(norm)));
        Ok(TransformerBlock::pre_norm(attention, norms, FeedForward::of([(first, 0.0), (second, self.dropout)])))
    }
}

impl Section for GptConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        in_range(self, "model")?;
        if !self.d_model.is_multiple_of(self.heads) {
            return Err(format!("model.heads = {} must divide model.d_model = {}", self.heads, self.d_model));
        }
        if self.d_model / self.heads > 128 {
            return Err(format!("model.heads = {} leaves heads of {} features: at most 128", self.heads, self.d_model / self.heads));
        }
        Ok(())
    }
}

impl ModelKind for GptConfig {
    fn hugging_face(&self, fields: &Fields) -> Option<HuggingFace> {
        let ([length], vocabulary) = (fields.shape(NAME, "tokens").ok()?, fields.below(NAME, "tokens").ok()?);
        let (activation, same): (&str, &[&str]) = match self.activation {
            Activation::Gelu => ("gelu", &[]),
            Activation::GeluTanh => ("gelu_new", &["gelu_pytorch_tanh"]),
            Activation::Relu => ("relu", &[]),
            Activation::Sigmoid => ("sigmoid", &[]),
            Activation::Silu => ("silu", &["swish"]),
            Activation::Tanh => ("tanh", &[]),
            Activation::Identity => ("linear", &[]),
        };
        let also = json!({
            "architectures": ["GPT2LMHeadModel"],
            "attn_pdrop": self.dropout,
            "embd_pdrop": self.dropout,
            "resid_pdrop": self.dropout,
            "initializer_range": DEVIATION,
            "bos_token_id": null,
            "eos_token_id": null,
            "torch_dtype": "float32",
        });
        Some(HuggingFace {
            keys: vec![
                Key::new("model_type", "gpt2", None, "model.kind"),
                Key::size("vocab_size", vocabulary, "data.vocabulary"),
                Key::size("n_positions", length, "data.context"),
                Key::size("n_embd", self.d_model, "model.d_model"),
                Key::size("n_layer", self.layers, "model.layers"),
                Key::size("n_head", self.heads, "model.heads"),
                Key::new("n_inner", self.hidden(), Some((4 * self.d_model).into()), "model.feed_forward"),
                Key { same, ..Key::new("activation_function", activation, Some("gelu_new".into()), "model.activation") },
                Key::new("layer_norm_epsilon", self.norm_eps, Some(eps().into()), "model.norm_eps"),
                Key::fixed("tie_word_embeddings", true),
                Key::fixed("scale_attn_weights", true),
                Key::fixed("scale_attn_by_inverse_layer_idx", false),
                Key::fixed("add_cross_attention", false),
            ],
            also: also.as_object().cloned().unwrap_or_default(),
            prefix: "transformer.",
            transposed: &[".c_attn.weight", ".c_proj.weight", ".c_fc.weight"],
            zeros: if self.bias { vec![] } else { self.biases() },
            ignored: &[".attn.bias", ".attn.masked_bias", "lm_head.weight"],
        })
    }

    fn build(&self, build: &Build<'_>) -> Result<Box<dyn Model>> {
        let block = |number: usize| Ok(Box::new(self.block(number, build.adapters())?) as Box<dyn Layer>);
        let blocks = (0..self.layers).map(block).collect::<Result<_>>()?;
        let positions = Some("transformer.wpe.weight");
        let around = Around { table: TABLE, positions, features: self.d_model, tied: true, dropout: self.dropout };
        Ok(Box::new(CausalLm::new(build, NAME, around, blocks, self.norm("transformer.ln_f"))?))
    }
}
