//! A run's configuration: one TOML file and `--set` overrides. Unknown keys are errors, never ignored.

mod adapt;
mod keys;
mod kinds;
mod lookup;
mod overrides;
mod rules;
mod schema;
mod section;
mod settings;
mod words;

use std::path::Path;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use adapt::{AdaptConfig, Adapted};
pub use keys::{Key, Table, Word, tables_of};
#[cfg(feature = "cli")]
pub(crate) use overrides::value_of;
pub use rules::{AbortRule, Expectation, Restart};
pub use schema::in_range;
pub use section::Section;
pub(crate) use section::within;
pub use settings::{CheckpointConfig, Precision, TrainConfig, ValidationConfig};
#[cfg(feature = "cli")]
pub(crate) use words::{ALIKE, usual_name};

use crate::error::{Error, Result};
use crate::files;
use crate::optim::{OptimizerConfig, ScheduleConfig, ScheduleKind};

/// Everything that a run depends on: its model M, its data D and its loss L, and how it is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Run")]
pub struct Config<M, D, L> {
    /// Configuration of the model that is trained.
    pub model: M,
    /// Configuration of the data that it is trained on.
    pub data: D,
    /// Configuration of the loss that is minimised.
    pub loss: L,
    /// Low-rank adapters that are trained beside the weights of a language model; none trains the weights themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapt: Option<AdaptConfig>,
    /// Optimiser, its learning rate and its options.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// Schedule of the learning rate.
    #[serde(default)]
    pub schedule: ScheduleConfig,
    /// Batch size, number of epochs, seed, precision and other settings of the training loop.
    #[serde(default)]
    pub train: TrainConfig,
    /// Settings of validation and early stopping.
    #[serde(default)]
    pub validation: ValidationConfig,
    /// Settings of the checkpoints: when they are written and how many are kept.
    #[serde(default)]
    pub checkpoint: CheckpointConfig,
    /// Rules that stop the run early, such as a metric that stays too low.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub abort_if: Vec<AbortRule>,
    /// Restart after a rule has stopped the run; none leaves it stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// Values that metrics of the run are expected to reach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<Expectation>,
}

/// Name of the file in which a run saves its configuration.
const SAVED: &str = "config.toml";

/// A configuration without model, data and loss: the settings that the training loop reads, whatever is trained.
pub type Settings = Config<(), (), ()>;

impl<M, D, L> Config<M, D, L> {
    /// A configuration of this model, data and loss, with everything else at its default.
    pub fn new(model: M, data: D, loss: L) -> Self {
        Config {
            model,
            data,
            loss,
            adapt: None,
            optimizer: OptimizerConfig::default(),
            schedule: ScheduleConfig::default(),
            train: TrainConfig::default(),
            validation: ValidationConfig::default(),
            checkpoint: CheckpointConfig::default(),
            abort_if: vec![],
            restart: None,
            expect: vec![],
        }
    }

    /// A copy of everything but model, data and loss.
    pub fn settings(&self) -> Settings {
        Config {
            model: (),
            data: (),
            loss: (),
            adapt: self.adapt.clone(),
            optimizer: self.optimizer.clone(),
            schedule: self.schedule.clone(),
            train: self.train.clone(),
            validation: self.validation.clone(),
            checkpoint: self.checkpoint.clone(),
            abort_if: self.abort_if.clone(),
            restart: self.restart.clone(),
            expect: self.expect.clone(),
        }
    }
}

impl<M, D, L> Config<M, D, L>
where
    M: Section + Serialize + DeserializeOwned,
    D: Section + Serialize + DeserializeOwned,
    L: Section + Serialize + DeserializeOwned,
{
    /// Reads the configuration of the model that a run folder holds, for its weights: adapters are part of these (`Weights`).
    ///
    /// # Errors
    /// As `started`.
    pub fn of_run(folder: &Path) -> Result<Self> {
        Ok(Config { adapt: None, ..Self::started(folder)? })
    }

    /// Reads the configuration that a run was started with, from the `config.toml` of its folder.
    ///
    /// # Errors
    /// `MissingInput` where there is none, and as `load`.
    pub fn started(folder: &Path) -> Result<Self> {
        let path = folder.join(SAVED);
        if folder.is_file() {
            return Err(Error::MissingInput(
                format!("{} is a file and no run folder: name a folder that `engine train` has made", folder.display()).into(),
            ));
        }
        if !path.exists() {
            return Err(Error::MissingInput(
                format!("{} is no run folder: it has no config.toml. Train one with `engine train`", folder.display()).into(),
            ));
        }
        Self::load(&path, &[])
    }

    /// Reads a run file, or the `config.toml` that a run has saved (`parse_saved`), and applies overrides of the form `table.key=value`.
    ///
    /// # Errors
    /// `MissingInput` when the file is not there, `Config` with key, line and range for what is wrong in it.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self> {
        let (text, source) = (text_of(path)?, path.display().to_string());
        let text = if path.file_name().is_some_and(|name| name == SAVED) { kinds::cleaned(text, &Settings::tables()) } else { text };
        Self::parse(&text, &source, overrides)
    }

    /// Parses the text of a run file; `source` names it in errors.
    ///
    /// # Errors
    /// As `load`.
    pub fn parse(text: &str, source: &str, overrides: &[String]) -> Result<Self> {
        let wrong = |e: toml::de::Error| Error::Config(format!("{source}: {}", lookup::located(&e, text, &Self::known)));
        let mut table: toml::Table = text.parse().map_err(wrong)?;
        // The file alone first, so that its own mistakes are reported with their lines.
        let mut config: Self = toml::from_str(text).map_err(wrong)?;
        if let Some(stray) = kinds::strays(&table, &Settings::tables()).first() {
            return Err(Error::Config(format!("{source}: {}", lookup::stray_in_file(stray, text, &table, &Self::known()))));
        }
        overrides::change_kinds(&mut table, overrides, &Settings::tables());
        // One override may need the next one: what the first is said to lack counts only if the whole lacks it.
        let mut first_error = None;
        for item in overrides {
            match overrides::apply(&mut table, item, &Self::read, &Self::known)? {
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

    /// Parses a configuration that a run has saved. Keys that the kinds of its optimizer and schedule have not are left out: runs once took
    /// and saved them, and they did nothing.
    ///
    /// # Errors
    /// As `load`.
    pub fn parse_saved(text: &str, source: &str) -> Result<Self> {
        Self::parse(&kinds::cleaned(text.into(), &Settings::tables()), source, &[])
    }

    /// The configuration that a run file with overrides is, or the message of what is wrong with it.
    fn read(table: toml::Table) -> std::result::Result<Self, String> {
        if let Some(stray) = kinds::strays(&table, &Settings::tables()).into_iter().next() {
            return Err(stray.message);
        }
        table.try_into().map_err(|e: toml::de::Error| e.message().to_string())
    }

    /// The tables that messages know of: those of every run file, and those of the kinds here that have a schema.
    fn known() -> Vec<Table> {
        [Settings::tables(), M::tables("model"), D::tables("data"), L::tables("loss")].concat()
    }

    /// The configuration as TOML, with the keys that its kinds have.
    ///
    /// # Errors
    /// `Internal` when it cannot be written as TOML.
    pub fn to_toml(&self) -> Result<String> {
        let failed = |e: toml::ser::Error| Error::Internal(format!("configuration to TOML: {e}"));
        let mut table = toml::Table::try_from(self).map_err(failed)?;
        kinds::without_strays(&mut table, &Settings::tables());
        toml::to_string_pretty(&table).map_err(failed)
    }
}

/// The text of a run file.
fn text_of(path: &Path) -> Result<String> {
    if let Some(what) = lookup::other_than_a_run_file(path) {
        return Err(Error::Config(what));
    }
    let failed = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => Error::MissingInput(lookup::missing(path).into()),
        std::io::ErrorKind::FileTooLarge => Error::Config(format!("{} is no run file: {e}", path.display())),
        _ => Error::read(path, e),
    };
    let bytes = files::bytes(path, files::SMALL).map_err(failed)?;
    String::from_utf8(bytes).map_err(|_| Error::Config(format!("{} is no run file: it is not text", path.display())))
}

impl<M: JsonSchema, D: JsonSchema, L: JsonSchema> Config<M, D, L> {
    /// The JSON schema of such a run file, by which editors complete and check one. Kinds of one's own take part by their derived schema:
    ///
    /// ```
    /// use engine::config::Config;
    /// use engine::losses::VectorLossConfig;
    /// use engine::tasks::VectorsConfig;
    ///
    /// #[derive(schemars::JsonSchema)]
    /// struct Bottleneck {
    ///     /// Number of features of the hidden layer.
    ///     #[schemars(range(min = 1, max = 4096))]
    ///     hidden: usize,
    /// }
    ///
    /// type Run = Config<Bottleneck, VectorsConfig, VectorLossConfig>;
    /// assert_eq!(Run::schema()["$defs"]["Bottleneck"]["properties"]["hidden"]["maximum"], 4096);
    /// let key = &Run::tables()[0].keys[0];
    /// assert_eq!((&*key.name, &*key.range), ("model.hidden", "from 1 to 4096"));
    /// ```
    pub fn schema() -> serde_json::Value {
        schema::schema_of::<Self>()
    }

    /// The tables of such a run file with their keys: type, default, range and what they mean.
    pub fn tables() -> Vec<Table> {
        keys::tables("", &Self::schema())
    }
}

impl<M: Section, D: Section, L: Section> Section for Config<M, D, L> {
    fn validate(&self) -> std::result::Result<(), String> {
        let (t, s) = (&self.train, &self.schedule);
        t.validate()?;
        self.validation.validate()?;
        self.checkpoint.validate()?;
        self.data.validate()?;
        in_range(&self.abort_if, "abort_if")?;
        self.abort_if.iter().try_for_each(|rule| rule.validate(t.epochs))?;
        self.restart.iter().try_for_each(Restart::validate)?;
        in_range(&self.expect, "expect")?;
        self.expect.iter().try_for_each(|wish| wish.validate(t.epochs))?;
        in_range(&self.optimizer, "optimizer")?;
        in_range(s, "schedule")?;
        let range = format!("below train.epochs = {}", t.epochs);
        let warmup = s.warmup_of(t.epochs);
        within(s.kind != ScheduleKind::EpochCosine || warmup < t.epochs, "schedule.warmup_epochs", warmup as f64, &range)?;
        self.adapt.iter().try_for_each(AdaptConfig::validate)?;
        self.model.validate()?;
        self.loss.validate()?;
        self.optimizer.validate()?;
        s.validate(&self.optimizer)
    }
}
