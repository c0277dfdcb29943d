//! Llama (Touvron et al. 2023): a causal transformer over tokens, with the weight names of Hugging Face's `LlamaForCausalLM`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::causal_lm::{Around, CausalLm, DEVIATION};
use super::hugging_face::{HuggingFace, Key};
use super::model::{Build, Model, ModelKind};
use crate::batch::Fields;
use crate::config::{Section, in_range};
use crate::error::Result;
use crate::layers::{Layer, LayerNorm, LlamaBlock, LlamaBlockConfig};

/// Sizes and options of Llama.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LlamaConfig {
    /// Number of features of a position (`hidden_size`), a multiple of 8.
    #[schemars(range(min = 8, max = 1 << 16))]
    pub d_model: usize,
    /// Number of attention heads (`num_attention_heads`); they divide `d_model` into heads of an even number of features, at most 128.
    #[schemars(range(min = 1, max = 1 << 12))]
    pub heads: usize,
    /// Number of heads of keys and values (`num_key_value_heads`), which divides `heads`: grouped queries. Together they have a multiple of
    /// 8 features. Without it, as many as `heads`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1 << 12))]
    pub kv_heads: Option<usize>,
    /// Number of blocks (`num_hidden_layers`).
    #[schemars(range(min = 1, max = 1 << 10))]
    pub layers: usize,
    /// Number of hidden features of the feed-forward networks (`intermediate_size`), a multiple of 8.
    #[schemars(range(min = 8, max = 1 << 18))]
    pub feed_forward: usize,
    /// θ, the base of the rotary angles (`rope_theta`).
    #[serde(default = "theta")]
    #[schemars(range(min = 1))]
    pub rope_theta: f64,
    /// The table of tokens is the weight of the head as well (`tie_word_embeddings`).
    #[serde(default)]
    pub tied: bool,
    /// Dropout rate of the attention probabilities (`attention_dropout`).
    #[serde(default)]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub dropout: f64,
    /// ε, added to the mean squares of the normalisation (`rms_norm_eps`).
    #[serde(default = "eps")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub norm_eps: f64,
}

fn theta() -> f64 {
    10_000.0
}

fn eps() -> f64 {
    1e-6
}

const NAME: &str = "model.kind = \"llama\"";

/// Name of the table of tokens.
const TABLE: &str = "model.embed_tokens.weight";

impl LlamaConfig {
    /// Number of heads of keys and values.
    pub fn shared(&self) -> usize {
        self.kv_heads.unwrap_or(self.heads)
    }
}

impl Section for LlamaConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        in_range(self, "model")?;
        let (heads, shared) = (self.heads, self.shared());
        if !self.d_model.is_multiple_of(2 * heads) || self.d_model / heads > 128 {
            return Err(format!(
                "model.heads = {heads} must divide model.d_model = {} into parts of an even number of features, at most 128",
                self.d_model
            ));
        }
        if !heads.is_multiple_of(shared) {
            return Err(format!("model.kv_heads = {shared} must divide model.heads = {heads}"));
        }
        let of_keys = ("kv_heads", self.d_model / heads * shared);
        for (key, features) in [("d_model", self.d_model), ("feed_forward", self.feed_forward), of_keys] {
            if !features.is_multiple_of(8) {
                return Err(format!("model.{key} makes it {features} features: a multiple of 8 is needed"));
            }
        }
        Ok(())
    }
}

impl ModelKind for LlamaConfig {
    fn hugging_face(&self, fields: &Fields) -> Option<HuggingFace> {
        let ([length], vocabulary) = (fields.shape(NAME, "tokens").ok()?, fields.below(NAME, "tokens").ok()?);
        let also = json!({
            "architectures": ["LlamaForCausalLM"],
            "max_position_embeddings": length,
            "attention_dropout": self.dropout,
            "initializer_range": DEVIATION,
            "rope_theta": self.rope_theta,
            "bos_token_id": null,
            "eos_token_id": null,
            "pad_token_id": null,
            "torch_dtype": "float32",
        });
        Some(HuggingFace {
            keys: vec![
                Key::new("model_type", "llama", None, "model.kind"),
                Key::size("vocab_size", vocabulary, "data.vocabulary"),
                Key::size("hidden_size", self.d_model, "model.d_model"),
                Key::size("intermediate_size", self.feed_forward, "model.feed_forward"),
                Key::size("num_hidden_layers", self.layers, "model.layers"),
                Key::size("num_attention_heads", self.heads, "model.heads"),
                Key::new("num_key_value_heads", self.shared(), Some(self.heads.into()), "model.kv_heads"),
                Key::fixed("head_dim", self.d_model / self.heads),
                Key { same: &["swish"], ..Key::fixed("hidden_act", "silu") },
                Key::new("rms_norm_eps", self.norm_eps, Some(eps().into()), "model.norm_eps"),
                Key {
                    older: Some("rope_theta"),
                    ..Key::new("rope_parameters.rope_theta", self.rope_theta, Some(theta().into()), "model.rope_theta")
                },
                Key { older: Some("rope_scaling"), ..Key::fixed("rope_parameters.rope_type", "default") },
                Key::fixed("attention_bias", false),
                Key::fixed("mlp_bias", false),
                Key::new("tie_word_embeddings", self.tied, Some(false.into()), "model.tied"),
            ],
            also: also.as_object().cloned().unwrap_or_default(),
            prefix: "model.",
            transposed: &[],
            zeros: vec![],
            ignored: if self.tied { &[".rotary_emb.inv_freq", "lm_head.weight"] } else { &[".rotary_emb.inv_freq"] },
        })
    }

    fn build(&self, build: &Build<'_>) -> Result<Box<dyn Model>> {
        let config = LlamaBlockConfig {
            features: self.d_model,
            heads: self.heads,
            kv_heads: self.shared(),
            hidden: self.feed_forward,
            dropout: self.dropout,
            eps: self.norm_eps,
            theta: self.rope_theta,
            limit: build.fields.shape(NAME, "tokens").map(|[length]| length)?,
        };
        let block = |number: usize| {
            let block = LlamaBlock::new(&format!("model.layers.{number}"), config)?.adapted(build.adapters());
            Ok(Box::new(block) as Box<dyn Layer>)
        };
        let blocks = (0..self.layers).map(block).collect::<Result<_>>()?;
        let norm = LayerNorm::rms("model.norm", self.d_model, self.norm_eps);
        let around = Around { table: TABLE, positions: None, features: self.d_model, tied: self.tied, dropout: 0.0 };
        Ok(Box::new(CausalLm::new(build, NAME, around, blocks, norm)?))
    }
}
