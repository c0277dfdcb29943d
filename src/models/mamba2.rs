//! Mamba-2 (Dao & Gu 2024) as a language model, with the weight names of Hugging Face's `Mamba2ForCausalLM`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::causal_lm::{Around, CausalLm, DEVIATION};
use super::hugging_face::{HuggingFace, Key};
use super::model::{Build, Model, ModelKind};
use crate::batch::Fields;
use crate::config::{Section, in_range};
use crate::error::Result;
use crate::layers::{Layer, LayerNorm, MAMBA2_EPS, Mamba2Block, Mamba2Config};

/// Mamba-2 over tokens: embedding → blocks, x + mixer(RMSNorm(x)) → norm → head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mamba2LmConfig {
    /// Number of features of a position (`hidden_size`).
    #[schemars(range(min = 1, max = 1 << 16))]
    pub d_model: usize,
    /// Number of blocks (`num_hidden_layers`).
    #[schemars(range(min = 1, max = 1 << 8))]
    pub layers: usize,
    /// Sizes of a mixer: `state`, `head`, `expand`, `conv`, `groups` and `chunk`.
    #[serde(default)]
    pub mixer: Mamba2Config,
    /// The table of tokens is the weight of the head as well (`tie_word_embeddings`).
    #[serde(default)]
    pub tied: bool,
}

const NAME: &str = "model.kind = \"mamba2\"";

/// Name of the table of tokens.
const TABLE: &str = "backbone.embeddings.weight";

impl Section for Mamba2LmConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        in_range(self, "model")
    }
}

impl ModelKind for Mamba2LmConfig {
    /// The model with one group: with several, transformers normalises over all of them together, and `mamba_ssm` and this engine over
    /// each.
    fn hugging_face(&self, fields: &Fields) -> Option<HuggingFace> {
        let vocabulary = fields.below(NAME, "tokens").ok().filter(|_| self.mixer.groups == 1)?;
        let Mamba2Config { state, head, expand, conv, chunk, .. } = self.mixer;
        let also = json!({
            "architectures": ["Mamba2ForCausalLM"],
            "chunk_size": chunk,
            "initializer_range": DEVIATION,
            "bos_token_id": null,
            "eos_token_id": null,
            "pad_token_id": null,
            "torch_dtype": "float32",
        });
        Some(HuggingFace {
            keys: vec![
                Key::new("model_type", "mamba2", None, "model.kind"),
                Key::size("vocab_size", vocabulary, "data.vocabulary"),
                Key::size("hidden_size", self.d_model, "model.d_model"),
                Key::size("num_hidden_layers", self.layers, "model.layers"),
                Key::size("state_size", state, "model.mixer.state"),
                Key::size("num_heads", expand * self.d_model / head, "model.mixer.head"),
                Key::size("head_dim", head, "model.mixer.head"),
                Key::new("expand", expand, Some(2.into()), "model.mixer.expand"),
                Key::new("conv_kernel", conv, Some(4.into()), "model.mixer.conv"),
                Key::new("n_groups", 1, Some(8.into()), "model.mixer.groups"),
                Key::fixed("layer_norm_epsilon", MAMBA2_EPS),
                Key { same: &["swish"], ..Key::fixed("hidden_act", "silu") },
                Key::fixed("use_bias", false),
                Key::fixed("use_conv_bias", true),
                Key::fixed("time_step_limit", json!([0.0, { "__float__": "Infinity" }])),
                Key::new("tie_word_embeddings", self.tied, Some(false.into()), "model.tied"),
            ],
            also: also.as_object().cloned().unwrap_or_default(),
            prefix: "backbone.",
            transposed: &[],
            zeros: vec![],
            ignored: if self.tied { &["lm_head.weight"] } else { &[] },
        })
    }

    fn build(&self, build: &Build<'_>) -> Result<Box<dyn Model>> {
        let block = |number: usize| {
            let block = Mamba2Block::new(&format!("backbone.layers.{number}"), self.d_model, self.layers, self.mixer.clone())?;
            let [_, adapter] = build.adapters();
            Ok(Box::new(block.adapted(adapter)) as Box<dyn Layer>)
        };
        let blocks = (0..self.layers).map(block).collect::<Result<_>>()?;
        let norm = LayerNorm::rms("backbone.norm_f", self.d_model, MAMBA2_EPS);
        let around = Around { table: TABLE, positions: None, features: self.d_model, tied: self.tied, dropout: 0.0 };
        Ok(Box::new(CausalLm::new(build, NAME, around, blocks, norm)?))
    }
}
