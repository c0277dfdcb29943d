//! A run's configuration: one TOML file and `--set` overrides. Unknown keys are errors, never ignored.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, out_of_range};
use crate::losses::LossConfig;
use crate::models::ModelConfig;
use crate::optim::{OptimizerConfig, ScheduleConfig, ScheduleKind};

/// Everything that a run depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What is trained.
    pub model: ModelConfig,
    /// What it is trained on.
    pub data: DataConfig,
    /// What is minimised.
    pub loss: LossConfig,
    /// How weights move.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// How the learning rate moves.
    #[serde(default)]
    pub schedule: ScheduleConfig,
    /// Steps, batches, seeds.
    #[serde(default)]
    pub train: TrainConfig,
    /// Validation and early stopping.
    #[serde(default)]
    pub validation: ValidationConfig,
    /// Checkpoints.
    #[serde(default)]
    pub checkpoint: CheckpointConfig,
    /// Conditions under which the run stops.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub abort_if: Vec<AbortRule>,
    /// What the run is expected to reach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<Expectation>,
}

/// The data set, by its `kind`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DataConfig {
    /// Integer sequences generated on the fly.
    IntegerSequences(IntegerSequencesConfig),
    /// Contexts of vectors and the vectors that follow, from an .npz file.
    Vectors(VectorsConfig),
    /// Latents and types with the joints of mechanisms, from an .npz file.
    Mechanisms(MechanismsConfig),
    /// Grey images, from an .npz file.
    Images(ImagesConfig),
}

impl DataConfig {
    /// The file that is trained on, where there is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            DataConfig::IntegerSequences(_) => None,
            DataConfig::Vectors(d) => Some(&d.file),
            DataConfig::Mechanisms(d) => Some(&d.file),
            DataConfig::Images(d) => Some(&d.file),
        }
    }

    /// All files that are read, by their keys.
    pub fn files(&self) -> Vec<(&'static str, &Path)> {
        let ood = match self {
            DataConfig::Vectors(d) => d.ood_file.as_deref(),
            DataConfig::IntegerSequences(_) | DataConfig::Mechanisms(_) | DataConfig::Images(_) => None,
        };
        [("data.file", self.file()), ("data.ood_file", ood)].into_iter().filter_map(|(key, file)| Some((key, file?))).collect()
    }
}

/// Integer sequences generated on the fly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntegerSequencesConfig {
    /// Seed of the generator.
    #[serde(default = "one")]
    pub seed: u64,
    /// Epochs over which the later phases of the curriculum enter; 0 trains on the full mixture from the start.
    #[serde(default = "transition")]
    pub transition_epochs: f64,
}

/// Contexts of vectors and the vectors that follow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorsConfig {
    /// The .npz file; a relative path is looked up where the command runs.
    pub file: PathBuf,
    /// Another .npz file whose samples are out of distribution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ood_file: Option<PathBuf>,
    /// Where validation samples come from.
    #[serde(default)]
    pub split: SplitKind,
    /// Share of the samples that validate, where the file does not give them.
    #[serde(default = "tenth")]
    pub validation_share: f64,
    /// Seed of the random split.
    #[serde(default = "one")]
    pub seed: u64,
    /// Features of a vector, to estimate with while there is no file; the file's own count wins.
    #[serde(default = "dim")]
    pub dim: usize,
    /// Vectors of a context, to estimate with while there is no file; the file's own count wins.
    #[serde(default = "context")]
    pub context: usize,
    /// Leave out samples with NaN or infinity instead of refusing the file.
    #[serde(default)]
    pub skip_non_finite: bool,
}

/// Latents and types with the joints of mechanisms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MechanismsConfig {
    /// The .npz file; a relative path is looked up where the command runs.
    pub file: PathBuf,
    /// Where validation samples come from: `random` or `sequential`.
    #[serde(default = "random_split")]
    pub split: SplitKind,
    /// Share of the samples that validate.
    #[serde(default = "fifth")]
    pub validation_share: f64,
    /// Seed of the random split.
    #[serde(default = "one")]
    pub seed: u64,
    /// Leave out samples with NaN or infinity instead of refusing the file.
    #[serde(default)]
    pub skip_non_finite: bool,
    /// Learn coordinates less their mean, over their deviation, by axis.
    #[serde(default = "yes")]
    pub normalize: bool,
    /// Numbers of a latent, to estimate with while there is no file; the file's own count wins.
    #[serde(default = "latents")]
    pub latents: usize,
}

/// Grey images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagesConfig {
    /// The .npz file; a relative path is looked up where the command runs.
    pub file: PathBuf,
    /// Where validation samples come from: `random` or `sequential`.
    #[serde(default = "random_split")]
    pub split: SplitKind,
    /// Share of the samples that validate.
    #[serde(default = "fifth")]
    pub validation_share: f64,
    /// Seed of the random split.
    #[serde(default = "one")]
    pub seed: u64,
    /// Pixels of a side, to estimate with while there is no file; the file's own count wins.
    #[serde(default = "side")]
    pub side: usize,
}

/// Where validation samples come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitKind {
    /// The file's own validation members if it has them, else its last samples.
    #[default]
    Auto,
    /// The file's own validation members.
    Given,
    /// The last samples.
    Sequential,
    /// Samples drawn with the seed.
    Random,
}

/// A condition under which a run stops, with exit code 76. Metrics are `train_…` (mean of the epoch) or `validation_…`, followed by a name in
/// `metrics.jsonl`. Each rule has one of the conditions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbortRule {
    /// Such as `train_cosine`.
    pub metric: String,
    /// It is below this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
    /// It is above this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    /// Its best value since the first epoch is not better than the first by more than this: flat progression. Losses improve downwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flat: Option<f64>,
    /// It is worse than its best by more than this: divergence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worse: Option<f64>,
    /// Looked at after this epoch (from 1) and, but for `flat`, after each later one.
    #[serde(default = "one")]
    pub after_epoch: u64,
}

/// What a run is expected to reach; the report marks it met or missed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// As in an abort rule, or `ood_…` of the kept weights.
    pub metric: String,
    /// Met when it is not below this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// Met when it is not above this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// After this epoch (from 1); without it, of the kept weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
}

fn random_split() -> SplitKind {
    SplitKind::Random
}

fn fifth() -> f64 {
    0.2
}

fn yes() -> bool {
    true
}

fn latents() -> usize {
    50
}

fn side() -> usize {
    64
}

fn tenth() -> f64 {
    0.1
}

fn dim() -> usize {
    768
}

fn context() -> usize {
    5
}

fn one() -> u64 {
    1
}

fn transition() -> f64 {
    20.0
}

/// Steps, batches, seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Seed of the initial weights, of dropout and of the order of samples.
    pub seed: u64,
    /// Samples of a micro-step.
    pub batch: usize,
    /// Micro-steps whose gradients are added up for one update.
    pub accumulate: usize,
    /// Epochs.
    pub epochs: u64,
    /// Updates of an epoch of generated data; samples of a file are seen once an epoch.
    pub steps_per_epoch: u64,
    /// Visit the samples of an epoch in a random order.
    pub shuffle: bool,
    /// Leave out the samples of an epoch that do not fill a batch. A step on a handful of samples can undo much just before a validation.
    pub drop_last: bool,
    /// Steps between two lines of `metrics.jsonl`.
    pub log_every: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig { seed: 1, batch: 32, accumulate: 1, epochs: 60, steps_per_epoch: 1000, shuffle: true, drop_last: true, log_every: 100 }
    }
}

/// Validation and early stopping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ValidationConfig {
    /// Steps between validations; without it, one an epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// Fresh sequences of each, of generated data.
    pub sequences: usize,
    /// The metric that chooses the best weights, and that patience and a plateau schedule follow: `loss`, or any other that a validation gives.
    pub select: String,
    /// Validations without improvement before the run stops; 0 never stops early.
    pub patience: u64,
    /// Step up to which patience does not count; without it, the end of the warm-up or of the curriculum's transition, whichever is later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience_after: Option<u64>,
    /// By how much the selected metric must be better to count as an improvement.
    pub min_delta: f64,
}

impl Default for ValidationConfig {
    fn default() -> Self {
        ValidationConfig { every: None, sequences: 100, select: "loss".into(), patience: 10, patience_after: None, min_delta: 0.001 }
    }
}

/// Checkpoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// Steps between checkpoints; without it, one an epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// How many of the newest are kept, besides the best weights.
    pub keep: usize,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        CheckpointConfig { every: None, keep: 3 }
    }
}

impl Config {
    /// Reads a run file and applies overrides of the form `table.key=value`.
    ///
    /// # Errors
    /// `MissingInput` when the file is not there, `Config` with key, line and range for what is wrong in it.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Config> {
        let text = std::fs::read_to_string(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::MissingInput(format!("no run file {}. Run files are in data/runs/", path.display())),
            _ => Error::read(path, &e),
        })?;
        Self::parse(&text, &path.display().to_string(), overrides)
    }

    /// Parses the text of a run file; `source` names it in errors.
    ///
    /// # Errors
    /// As `load`.
    pub fn parse(text: &str, source: &str, overrides: &[String]) -> Result<Config> {
        let mut table: toml::Table =
            text.parse().map_err(|e: toml::de::Error| Error::Config(format!("{source}: {}", located(&e, text))))?;
        // The file alone first, so that its own mistakes are reported with their lines.
        let mut config: Config = toml::from_str(text).map_err(|e| Error::Config(format!("{source}: {}", located(&e, text))))?;
        // One override may need the next one: what the first is said to lack counts only if the whole lacks it.
        let mut first_error = None;
        for item in overrides {
            match apply(&mut table, item)? {
                Ok(with) => (config, first_error) = (with, None),
                Err(error) => drop(first_error.get_or_insert(error)),
            }
        }
        if let Some(error) = first_error {
            return Err(error);
        }
        config.validate().map_err(|what| Error::Config(format!("{source}: {what}")))?;
        Ok(config)
    }

    /// The configuration as TOML.
    ///
    /// # Errors
    /// `Internal` when it cannot be written as TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string_pretty(self).map_err(|e| Error::Internal(format!("configuration to TOML: {e}")))
    }

    /// Step after which patience counts: until warm-up and curriculum are over, a validation without improvement says little.
    pub(crate) fn patience_after(&self, steps_per_epoch: u64) -> u64 {
        let curriculum = match &self.data {
            DataConfig::IntegerSequences(d) => (d.transition_epochs * steps_per_epoch as f64).ceil() as u64,
            DataConfig::Vectors(_) | DataConfig::Mechanisms(_) | DataConfig::Images(_) => 0,
        };
        self.validation.patience_after.unwrap_or_else(|| self.schedule.warmup(steps_per_epoch).max(curriculum))
    }

    fn validate(&self) -> std::result::Result<(), String> {
        let range = |ok: bool, key: &str, value: f64, range: &str| {
            if ok { Ok(()) } else { Err(out_of_range(key, value, range)) }
        };
        let (t, v, c) = (&self.train, &self.validation, &self.checkpoint);
        range(t.batch >= 1 && t.batch <= 1 << 20, "train.batch", t.batch as f64, "from 1 to 1048576")?;
        range(t.accumulate >= 1 && t.accumulate <= 1 << 16, "train.accumulate", t.accumulate as f64, "from 1 to 65536")?;
        range(t.epochs >= 1 && t.epochs <= 1_000_000, "train.epochs", t.epochs as f64, "from 1 to 1000000")?;
        range((1..=1_000_000_000).contains(&t.steps_per_epoch), "train.steps_per_epoch", t.steps_per_epoch as f64, "from 1 to 1e9")?;
        let samples = (t.batch * t.accumulate) as u64;
        range(
            samples.saturating_mul(t.steps_per_epoch) < 1 << 31,
            "train.steps_per_epoch × train.batch × train.accumulate",
            (samples as f64) * t.steps_per_epoch as f64,
            "below 2^31",
        )?;
        range(t.log_every >= 1, "train.log_every", t.log_every as f64, "at least 1")?;
        range(t.seed <= i64::MAX as u64, "train.seed", t.seed as f64, "below 2^63")?;
        range(v.every != Some(0), "validation.every", 0.0, "at least 1")?;
        range((1..=1 << 20).contains(&v.sequences), "validation.sequences", v.sequences as f64, "from 1 to 1048576")?;
        range(v.min_delta >= 0.0 && v.min_delta.is_finite(), "validation.min_delta", v.min_delta, "0 or more, and finite")?;
        range(c.every != Some(0), "checkpoint.every", 0.0, "at least 1")?;
        range((1..=1000).contains(&c.keep), "checkpoint.keep", c.keep as f64, "from 1 to 1000")?;
        match &self.data {
            DataConfig::IntegerSequences(d) => {
                let epochs = d.transition_epochs;
                range(epochs >= 0.0 && epochs.is_finite(), "data.transition_epochs", epochs, "0 or more")?;
                range(d.seed <= i64::MAX as u64, "data.seed", d.seed as f64, "below 2^63")?;
            }
            DataConfig::Vectors(d) => {
                range(d.validation_share > 0.0 && d.validation_share < 1.0, "data.validation_share", d.validation_share, "in (0, 1)")?;
                range(d.seed <= i64::MAX as u64, "data.seed", d.seed as f64, "below 2^63")?;
                range((1..=1 << 16).contains(&d.dim), "data.dim", d.dim as f64, "from 1 to 65536")?;
                range((1..=1 << 12).contains(&d.context), "data.context", d.context as f64, "from 1 to 4096")?;
            }
            DataConfig::Mechanisms(d) => range((1..=1 << 16).contains(&d.latents), "data.latents", d.latents as f64, "from 1 to 65536")?,
            DataConfig::Images(d) => range((1..=1 << 12).contains(&d.side), "data.side", d.side as f64, "from 1 to 4096")?,
        }
        if let DataConfig::Mechanisms(MechanismsConfig { split, validation_share, seed, .. })
        | DataConfig::Images(ImagesConfig { split, validation_share, seed, .. }) = &self.data
        {
            range(*validation_share > 0.0 && *validation_share < 1.0, "data.validation_share", *validation_share, "in (0, 1)")?;
            range(*seed <= i64::MAX as u64, "data.seed", *seed as f64, "below 2^63")?;
            if !matches!(split, SplitKind::Random | SplitKind::Sequential) {
                return Err("data.split: these data have no validation members of their own. Use \"random\" or \"sequential\"".into());
            }
        }
        let epoch_of = |what: &str, epoch: u64| {
            let name = format!("{what}: the epoch");
            range((1..=t.epochs).contains(&epoch), &name, epoch as f64, &format!("from 1 to train.epochs = {}", t.epochs))
        };
        for rule in &self.abort_if {
            let AbortRule { metric, below, above, flat, worse, after_epoch } = rule;
            let what = format!("abort_if of {metric}");
            let limits = [("below", below), ("above", above), ("flat", flat), ("worse", worse)];
            let given: Vec<_> = limits.into_iter().filter_map(|(name, limit)| Some((name, (*limit)?))).collect();
            let [(name, limit)] = given[..] else {
                return Err(format!("{what} has {} conditions: give one of below, above, flat, worse", given.len()));
            };
            range(limit.is_finite(), &format!("{what}: {name}"), limit, "a finite number")?;
            range(limit >= 0.0 || !matches!(name, "flat" | "worse"), &format!("{what}: {name}"), limit, "0 or more")?;
            epoch_of(&what, *after_epoch)?;
        }
        for Expectation { metric, at_least, at_most, epoch } in &self.expect {
            let what = format!("expect of {metric}");
            let ([Some(limit), None] | [None, Some(limit)]) = [*at_least, *at_most] else {
                return Err(format!("{what}: give at_least or at_most"));
            };
            range(limit.is_finite(), &format!("{what}: the limit"), limit, "a finite number")?;
            epoch.map_or(Ok(()), |epoch| epoch_of(&what, epoch))?;
        }
        let of_model = match &self.model {
            ModelConfig::SequenceTransformer(_) => "integer_sequences",
            ModelConfig::MechanismTransformer(_) => "mechanisms",
            ModelConfig::ImageVae(_) => "images",
            _ => "vectors",
        };
        let of_data = match &self.data {
            DataConfig::IntegerSequences(_) => "integer_sequences",
            DataConfig::Vectors(_) => "vectors",
            DataConfig::Mechanisms(_) => "mechanisms",
            DataConfig::Images(_) => "images",
        };
        let of_loss = match &self.loss {
            LossConfig::CrossEntropy(_) => "integer_sequences",
            LossConfig::Vectors(_) => "vectors",
            LossConfig::Joints(_) => "mechanisms",
            LossConfig::Vae(_) => "images",
        };
        if of_model != of_data || of_data != of_loss {
            return Err("model, data and loss do not fit each other. What goes together (model.kind, data.kind, loss.kind): \
                        sequence_transformer, integer_sequences, cross_entropy; vector_…, vectors, vectors; mechanism_transformer, mechanisms, \
                        joints; image_vae, images, vae"
                .into());
        }
        let s = &self.schedule;
        range(
            s.kind != ScheduleKind::EpochCosine || s.warmup_epochs < t.epochs,
            "schedule.warmup_epochs",
            s.warmup_epochs as f64,
            &format!("below train.epochs = {}", t.epochs),
        )?;
        self.model.validate()?;
        self.loss.validate()?;
        self.optimizer.validate()?;
        self.schedule.validate(&self.optimizer)
    }
}

/// Puts `value` at `table.key`, and gives the configuration with it or what is wrong with that. The value is TOML if it parses as such, else
/// a string.
fn apply(table: &mut toml::Table, item: &str) -> Result<Result<Config>> {
    let wrong = |why: &str| Error::Config(format!("--set {item}: {why}"));
    let expected = "expected table.key=value, as in --set train.batch=64";
    let (path, value) = item.split_once('=').ok_or_else(|| wrong(expected))?;
    let value = value.trim();
    let given = format!("v = {value}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("v"));
    let given = given.unwrap_or_else(|| toml::Value::String(value.into()));
    // `model.dropout=0` means a fraction and `train.batch=1e3` a whole number: the key decides.
    let other = match given {
        toml::Value::Integer(i) => Some(toml::Value::Float(i as f64)),
        toml::Value::Float(v) if v.fract() == 0.0 && v.abs() < 9e15 => Some(toml::Value::Integer(v as i64)),
        _ => None,
    };
    let keys: Vec<&str> = path.trim().split('.').collect();
    let (leaf, parents) = keys.split_last().ok_or_else(|| wrong(expected))?;
    let (mut error, mut as_given) = (None, None);
    for value in [Some(given), other].into_iter().flatten() {
        let mut candidate = table.clone();
        let mut at = &mut candidate;
        for key in parents {
            let entry = at.entry((*key).to_string()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            at = entry.as_table_mut().ok_or_else(|| wrong(expected))?;
        }
        at.insert((*leaf).to_string(), value);
        match candidate.clone().try_into::<Config>() {
            Ok(config) => {
                *table = candidate;
                return Ok(Ok(config));
            }
            Err(e) => {
                error.get_or_insert(e);
                as_given.get_or_insert(candidate);
            }
        }
    }
    let message = error.map_or(String::new(), |e| e.message().to_string());
    let elsewhere: Vec<String> = if message.starts_with("unknown field") { with_leaf(table, leaf) } else { vec![] };
    *table = as_given.unwrap_or_default();
    Ok(Err(wrong(&match &elsewhere[..] {
        [] => in_words(&message),
        names => format!("{message}. Did you mean {}?", names.join(" or ")),
    })))
}

/// Keys of that name in any table of a run file, with those that have their default.
fn with_leaf(table: &toml::Table, leaf: &str) -> Vec<String> {
    let config = table.clone().try_into::<Config>().ok().and_then(|c| toml::Table::try_from(&c).ok());
    let tables = config.iter().flatten().filter_map(|(name, value)| Some((name, value.as_table()?)));
    tables.filter(|(_, t)| t.contains_key(leaf)).map(|(name, _)| format!("{name}.{leaf}")).collect()
}

/// Message of a TOML error with its line, and with the nearest key when one is unknown.
fn located(error: &toml::de::Error, text: &str) -> String {
    let message = error.message();
    // Inside tagged tables the parser only knows where the table is; the unknown key itself is looked up.
    let key_line = quoted(message).first().filter(|_| message.starts_with("unknown field")).and_then(|key| {
        text.lines().position(|line| line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('=')))
    });
    let span_line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count());
    match key_line.or(span_line) {
        Some(line) => format!("line {}: {}", line + 1, in_words(message)),
        None => in_words(message),
    }
}

/// A message of the parser without the names of Rust's types.
fn in_words(message: &str) -> String {
    let mut text = suggest(message);
    for (types, words) in [
        (&["usize", "u64", "u32", "u8"][..], "a whole number of 0 or more"),
        (&["i64", "i32"], "a whole number"),
        (&["f64", "f32"], "a number"),
    ] {
        for name in types {
            text = text.replace(&format!("expected {name}"), &format!("expected {words}"));
        }
    }
    // «expected struct TrainConfig», «expected internally tagged enum ModelConfig», «struct TrainConfig with 8 elements»
    for word in ["internally tagged enum ", "externally tagged enum ", "struct ", "enum ", "variant of enum ", "string variant of enum "] {
        while let Some(at) = text.find(word) {
            let end = text[at + word.len()..].find(|c: char| !c.is_alphanumeric() && c != '_').map_or(text.len(), |n| at + word.len() + n);
            let table = if word.starts_with("internally") { "a table with its kind" } else { "a table" };
            text.replace_range(at..end, table);
        }
    }
    for (theirs, ours) in [
        ("invalid type: floating point", "it is the fraction"),
        ("invalid type: integer", "it is the whole number"),
        ("invalid type: string", "it is the text"),
        ("invalid type: boolean", "it is"),
        ("invalid type: map", "it is a table"),
        ("invalid type: sequence", "it is a list"),
        ("invalid value: integer", "it is the whole number"),
        ("u64 value was too large", "the whole number is too large"),
        ("i64 value was too large", "the whole number is too large"),
        ("i64 value was too small", "the whole number is too small"),
        ("expected variant identifier", "expected the name of a kind"),
        ("expected a sequence", "expected a list"),
        ("missing field", "there is no"),
        ("unknown variant", "there is no choice"),
    ] {
        text = text.replace(theirs, ours);
    }
    text
}

fn quoted(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

/// How alike two names must be (Jaro-Winkler, 0 to 1) for one to be taken for a misspelling of the other.
const ALIKE: f64 = 0.8;

/// Adds the nearest known name to «unknown field `x`, expected one of `a`, `b`», where one is near; the names that there are, it lists itself.
fn suggest(message: &str) -> String {
    let message = message.trim();
    let names = quoted(message);
    let nearest = match names.split_first() {
        Some((unknown, known)) if message.starts_with("unknown") => {
            known.iter().map(|name| (strsim::jaro_winkler(unknown, name), name)).max_by(|a, b| a.0.total_cmp(&b.0))
        }
        _ => None,
    };
    match nearest {
        Some((alike, name)) if alike >= ALIKE => format!("{message}. Did you mean `{name}`?"),
        _ => message.to_string(),
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
        assert!(message.contains("`seed` or `transition_epochs`. Did you mean model.dropout?"), "{message}");
        let message = error(RUN, &["data.zzz=0"]);
        assert!(message.contains("`seed` or `transition_epochs`") && !message.contains("Did you mean"), "{message}");
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
