//! Every kind of model, data and loss, by the name that a run file gives it: made from the lists in `models`, `tasks` and `losses`. Nowhere
//! else is there a choice by kind.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batch::Fields;
use crate::config::{self, Section, Settings};
use crate::error::Result;
use crate::losses::{Loss, LossKind, loss_kinds};
use crate::models::{Build, HuggingFace, Model, ModelKind, model_kinds};
use crate::plan::Buffer;
use crate::tasks::{Data, DataKind, InputRows, InputSource, Purpose, Source, data_kinds};

/// The configuration of a run file.
pub type Config = config::Config<ModelConfig, DataConfig, LossConfig>;

macro_rules! kinds {
    ($(#[$doc:meta])* $name:ident: $kind:ident { $($(#[$of:meta])* $variant:ident($config:ty),)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        pub enum $name {
            $($(#[$of])* $variant($config),)*
        }

        impl $name {
            /// The configuration in the table, of whatever kind.
            pub fn kind(&self) -> &dyn $kind {
                match self {
                    $($name::$variant(config) => config,)*
                }
            }

            /// The configuration in the table, for changes.
            pub fn kind_mut(&mut self) -> &mut dyn $kind {
                match self {
                    $($name::$variant(config) => config,)*
                }
            }
        }

        impl Section for $name {
            fn validate(&self) -> std::result::Result<(), String> {
                self.kind().validate()
            }

            fn tables(name: &str) -> Vec<config::Table> {
                config::tables_of::<Self>(name)
            }
        }
    };
}

model_kinds!(kinds);

data_kinds!(kinds);

loss_kinds!(kinds);

impl ModelKind for ModelConfig {
    fn time_major(&self) -> bool {
        self.kind().time_major()
    }

    fn integers_below(&self) -> Option<usize> {
        self.kind().integers_below()
    }

    fn buffers(&self, seed: u64) -> Vec<Buffer> {
        self.kind().buffers(seed)
    }

    fn hugging_face(&self, fields: &Fields) -> Option<HuggingFace> {
        self.kind().hugging_face(fields)
    }

    fn build(&self, build: &Build<'_>) -> Result<Box<dyn Model>> {
        self.kind().build(build)
    }
}

impl DataKind for DataConfig {
    fn files(&self) -> Vec<(&'static str, &Path)> {
        self.kind().files()
    }

    fn curriculum_epochs(&self) -> f64 {
        self.kind().curriculum_epochs()
    }

    fn resize(&mut self) -> Result<()> {
        self.kind_mut().resize()
    }

    fn on_file(&mut self, file: &Path) -> Result<()> {
        self.kind_mut().on_file(file)
    }

    fn take_inputs(&mut self, shapes: &[(&str, Vec<usize>)]) -> Result<()> {
        self.kind_mut().take_inputs(shapes)
    }

    fn read_inputs(&self, from: InputSource<'_>) -> Result<Option<InputRows>> {
        self.kind().read_inputs(from)
    }

    fn columns(&self, field: &str) -> Vec<String> {
        self.kind().columns(field)
    }

    fn answers(&self, len: usize) -> Vec<String> {
        self.kind().answers(len)
    }

    fn open(&self, settings: &Settings, purpose: Purpose) -> Result<Box<dyn Source>> {
        self.kind().open(settings, purpose)
    }

    fn made_up(&self, settings: &Settings, samples: usize, integers_below: Option<usize>) -> Result<Box<dyn Data>> {
        self.kind().made_up(settings, samples, integers_below)
    }
}

impl LossKind for LossConfig {
    fn build(&self) -> Box<dyn Loss> {
        self.kind().build()
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "[model]\nkind = \"sequence_transformer\"\nembedding = \"fixed\"\nd_model = 2\nheads = 2\nlayers = 2\n\
                       feed_forward = 32\ndropout = 0.0\n[data]\nkind = \"integer_sequences\"\n[loss]\nkind = \"cross_entropy\"\nalpha = 0.1\n[train]\nbatch = 8\n";

    fn error(text: &str, overrides: &[&str]) -> String {
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        let error = Config::parse(text, "run.toml", &overrides).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    }

    #[test]
    fn overrides_reach_every_table() {
        let set: Vec<String> =
            ["train.shuffle=false", "model.dropout=0", "train.log_every=1", "optimizer.learning_rate=0.01", "loss.weight=quadratic"]
                .map(String::from)
                .into();
        let config = Config::parse(RUN, "run.toml", &set).unwrap();
        assert!(!config.train.shuffle && config.train.log_every == 1 && config.optimizer.learning_rate == 0.01);
        let again = Config::parse(&config.to_toml().unwrap(), "saved", &[]).unwrap();
        assert_eq!(config, again);
    }

    #[test]
    fn a_kind_has_its_own_keys_alone() {
        let of = |set: &[&str]| Config::parse(RUN, "run.toml", &set.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        // Each kind is saved with its keys, and read again as it was.
        for kind in ["optimizer.kind=adam", "optimizer.kind=adamw", "optimizer.kind=sgd"] {
            let saved = of(&[kind]).to_toml().unwrap();
            assert_eq!(saved.contains("momentum = "), kind.ends_with("sgd"), "{saved}");
            assert_eq!(saved.contains("beta2 = "), !kind.ends_with("sgd"), "{saved}");
            assert_eq!(Config::parse(&saved, "saved", &[]).unwrap(), of(&[kind]));
        }
        for kind in ["constant", "warmup_cosine", "plateau", "epoch_cosine", "step", "exponential"] {
            let config = of(&[&format!("schedule.kind={kind}")]);
            let saved = config.to_toml().unwrap();
            assert_eq!(saved.contains("factor = 0.5"), ["plateau", "step", "exponential"].contains(&kind), "{saved}");
            assert_eq!(Config::parse(&saved, "saved", &[]).unwrap(), config);
        }
        // Another kind on the command line does not keep what the file gives for its own.
        let file = format!("{RUN}[schedule]\nkind = \"step\"\nevery_epochs = 3\n");
        assert!(error(&file, &["schedule.kind=plateau", "schedule.every_epochs=4"]).contains("schedule.kind = \"step\" has it"));
        let other = Config::parse(&file, "run.toml", &["schedule.kind=plateau".into()]).unwrap().to_toml().unwrap();
        assert!(!other.contains("every_epochs"), "{other}");
        // What a run once saved is read without what did nothing.
        let old = file.replace("\"step\"", "\"constant\"");
        assert!(
            error(&old, &[]).contains("line 18: unknown field `every_epochs`, expected one of `kind`. schedule.kind = \"step\" has it")
        );
        assert_eq!(Config::parse_saved(&old, "saved").unwrap(), of(&["schedule.kind=constant"]));
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_line_and_the_nearest_known() {
        let text = RUN.replace("batch = 8", "btach = 8");
        let message = error(&text, &[]);
        assert!(message.contains("line 15") && message.contains("Did you mean `batch`?"), "{message}");
        let text = RUN.replace("heads = 2", "haeds = 2");
        let message = error(&text, &[]);
        assert!(message.contains("line 5") && message.contains("Did you mean `heads`?"), "{message}");
        let message = error(RUN, &["train.bacth=3"]);
        assert!(message.contains("--set") && message.contains("Did you mean `batch`?"), "{message}");
        // Nothing there is like it in spelling: the keys that there are, and another table that has it.
        let message = error(RUN, &["data.dropout=0"]);
        assert!(
            message.contains("`seed`, `transition_epochs`, `transition`, `context`, `shortest`, `values`. Did you mean model.dropout?"),
            "{message}"
        );
        let message = error(RUN, &["data.zzz=0"]);
        assert!(
            message.contains("`seed`, `transition_epochs`, `transition`, `context`, `shortest`, `values`")
                && !message.contains("Did you mean"),
            "{message}"
        );
    }

    #[test]
    fn numbers_are_what_their_key_wants_and_names_lead_to_their_table() {
        let config = |set: &[&str]| Config::parse(RUN, "run.toml", &set.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        assert_eq!(config(&["train.batch=1e3", "train.log_every=2.0"]).train.batch, 1000);
        assert_eq!(config(&["optimizer.learning_rate=1"]).optimizer.learning_rate, 1.0);
        // Only both together make a run.
        let both =
            ["data={kind='vectors',file='x.npz'}", "loss={kind='vectors',cosine={weight=1.0}}", "model={kind='vector_mlp',hidden=4}"];
        assert!(matches!(config(&both).data, DataConfig::Vectors(_)));
        let message = error(RUN, &["batch=8"]);
        assert!(message.contains("Did you mean train.batch?"), "{message}");
        let message = error(RUN, &["model.batch=8"]);
        assert!(message.contains("Did you mean train.batch?"), "{message}");
        assert!(error(RUN, &["optimizer.learning_rate=1e-30", "optimizer.eps=-1e-20"]).contains("-1e-20"));
    }

    #[test]
    fn no_type_of_rust_reaches_a_user() {
        let texts = [
            "[train]\nbatch = 1.5",
            "[train]\nbatch = -1",
            "[model]\nd_model = 2",
            "model = 3",
            "[model]\nkind = 3",
            "[train]\nbatch = \"x\"",
            "train = []",
        ];
        let mut messages: Vec<String> = texts.iter().map(|text| error(text, &[])).collect();
        for set in [
            "train.batch=1.5",
            "train.batch=-1",
            "train.batch=x",
            "train.shuffle=3",
            "train=3",
            "model=3",
            "model.kind=3",
            "model={kind='nothing'}",
            "model.heads=1e400",
            "loss.alpha=x",
            "data.split=sideways",
            "optimizer.kind=sgd9",
            "abort_if=3",
            "abort_if=[{metric=3}]",
            "model.embedding=other",
        ] {
            messages.push(error(RUN, &[set]));
        }
        for message in messages {
            let word = |w: &str| message.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == w);
            let named = ["usize", "u64", "u32", "i64", "f64", "f32", "struct", "enum", "tagged", "TrainConfig", "serde"]
                .into_iter()
                .find(|w| word(w));
            assert!(named.is_none(), "{named:?} in: {message}");
            println!("{message}");
        }
    }

    #[test]
    fn impossible_values_are_errors_with_the_range() {
        for set in [
            "train.batch=0",
            "optimizer.learning_rate=0",
            "optimizer.learning_rate=nan",
            "optimizer.beta1=1.0",
            "optimizer.beta2=-0.1",
            "model.heads=3",
            "model.heads=0",
            "model.dropout=1",
            "train.batch=18446744073709551616",
            "train.batch=9000000000000000000",
            "model.d_model=0",
            "train.epochs=0",
            "train.log_every=0",
            "loss.alpha=-1",
            "schedule.min_learning_rate=1",
        ] {
            let message = error(RUN, &[set]);
            assert!(message.contains(set.split(['.', '=']).nth(1).unwrap()) || message.contains("--set"), "{set}: {message}");
        }
    }
}
