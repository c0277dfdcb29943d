//! Samples of one's own: named fields from the arrays or columns of a file, with one target, of numbers or of classes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, MapAccess, SeqAccess, Visitor, value};
use serde::{Deserialize, Deserializer, Serialize};

use super::data::{Data, DataKind, InputRows, InputSource, Layout, Loading, Purpose, Source, packed};
use super::epochs::{Sets, SplitKind, fifth, one};
use super::file_source::FileSource;
use super::packing::Packing;
use super::sample_scores::{ClassScorecard, Judged, NumberScorecard, class_card, number_card};
use super::scorecard::{Card, Scorecard};
use crate::batch::{Batch, Field, Fields, Inputs, Normalization, Scale, interned, saved_scale, scale_buffers};
use crate::config::{Section, Settings, in_range};
use crate::datasets::sample_reader::{Reading, read_samples, read_table, words_of};
use crate::datasets::samples::{Column, Known, Normalize, Part, Request, Samples, Window};
use crate::datasets::tables::Table;
use crate::datasets::{Stamp, stamp};
use crate::error::{Error, Result};
use crate::gpu::Role;
use crate::layers::lengths_name;
use crate::losses::Loss;
use crate::plan::{Buffer, Plan};
use crate::random::{Random, stream};

/// Names of the arrays or columns of a field: one, or several that are put together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Columns(#[schemars(schema_with = "name_or_names")] Vec<String>);

fn name_or_names(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [generator.subschema_for::<String>(), generator.subschema_for::<Vec<String>>()] })
}

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Columns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of an array or column, or a list of them")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> std::result::Result<Columns, E> {
                Ok(Columns(vec![name.into()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, names: A) -> std::result::Result<Columns, A::Error> {
                Vec::deserialize(value::SeqAccessDeserializer::new(names)).map(Columns)
            }
        }
        deserializer.deserialize_any(Names)
    }
}

/// Normalisation of the fields: one for all of them, or one for each by its name.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum NormalizeConfig {
    /// The same for all fields of numbers.
    All(Normalize),
    /// By the names of the fields; the others stay as they are.
    Each(BTreeMap<String, Normalize>),
}

impl Default for NormalizeConfig {
    fn default() -> Self {
        NormalizeConfig::All(Normalize::None)
    }
}

impl<'de> Deserialize<'de> for NormalizeConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Words;
        impl<'de> Visitor<'de> for Words {
            type Value = NormalizeConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"none\", \"standard\", \"minmax\" or \"unit\", or one of them for each field, as in { x = \"standard\" }")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> std::result::Result<NormalizeConfig, E> {
                Normalize::deserialize(value::StrDeserializer::new(word)).map(NormalizeConfig::All)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<NormalizeConfig, A::Error> {
                BTreeMap::deserialize(value::MapAccessDeserializer::new(map)).map(NormalizeConfig::Each)
            }
        }
        deserializer.deserialize_any(Words)
    }
}

/// Named fields from an .npz, .csv or .parquet file, or from .npy files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SamplesConfig {
    /// Path of the .npz, .csv, .parquet or .npy file, or of a folder of .npy files. A relative path is looked up in the current folder.
    pub file: PathBuf,
    /// Inputs of the model: the name of each field, and the array or columns that it is read from.
    pub inputs: BTreeMap<String, Columns>,
    /// The target: its name, and the array or columns that it is read from.
    pub targets: BTreeMap<String, Columns>,
    /// The target is the number or the word of a class, not a quantity.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schemars(!skip_serializing_if)]
    pub classes: bool,
    /// Input fields that are integers or words for an `embedding`, not quantities. Several columns of a field have rows of their own in its
    /// table.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub integers: Vec<String>,
    /// Array with the number of positions of each sample that count, for sequences that are filled up to the same length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lengths: Option<String>,
    /// Cut windows out of long series: `context` moments, and the `horizon` moments after them, every `stride` moments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Normalisation of all fields, or of each by its name. It is `none`, `standard` (mean 0, deviation 1), `minmax` (from 0 to 1) or
    /// `unit` (vectors of length 1), is fitted to the training samples, and undone in metrics and predictions.
    #[serde(default)]
    pub normalize: NormalizeConfig,
    /// Weigh the samples so that all classes have the same weight together.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schemars(!skip_serializing_if)]
    pub balance: bool,
    /// Weights of the classes, from 1e-9 to 1e9: a list by their numbers, or a table by their words. They are scaled so that those of the
    /// training samples are 1 on average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<ClassWeights>,
    /// Number of moments of a season, for a baseline that repeats the season before; at most `window.context`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub season: Option<usize>,
    /// Choice of the validation samples; without it, `sequential` for windows and `random` for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["random", "sequential", "blocks"]))]
    pub split: Option<SplitKind>,
    /// Share of the samples for validation.
    #[serde(default = "fifth")]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub validation_share: f64,
    /// Seed of the random split.
    #[serde(default = "one")]
    pub seed: u64,
    /// Leave out samples with NaN, infinity or an empty cell instead of failing on the file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schemars(!skip_serializing_if)]
    pub skip_non_finite: bool,
    /// File to test on, in place of the one that the model was trained on.
    #[serde(skip)]
    pub test_file: Option<PathBuf>,
    /// Sizes and words of the fields, as the file has them; the engine writes this.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("readOnly" = true))]
    pub known: BTreeMap<String, Known>,
}

impl Section for SamplesConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        in_range(self, "data")?;
        if self.inputs.is_empty() {
            return Err("data.inputs is empty: name a field and its array, as in inputs = { x = \"contexts\" }".into());
        }
        if self.targets.len() != 1 {
            return Err(format!("data.targets has {} fields; give one, as in targets = {{ y = \"labels\" }}", self.targets.len()));
        }
        const RESERVED: [&str; 3] = ["lengths", "mask", "weights"];
        for (name, columns) in self.inputs.iter().chain(&self.targets) {
            if name.is_empty() || RESERVED.contains(&name.as_str()) {
                return Err(format!(
                    "a field of data.inputs or data.targets is named `{name}`, which means something else: choose another name"
                ));
            }
            if columns.0.is_empty() {
                return Err(format!("field `{name}` of the data has no array or column"));
            }
        }
        if self.inputs.contains_key("targets") {
            return Err("an input of data.inputs is named `targets`, as the labels of a classifier are: choose another name".into());
        }
        if let Some(name) = self.inputs.keys().find(|name| self.targets.contains_key(*name)) {
            return Err(format!("`{name}` is in data.inputs and in data.targets: give the target another name"));
        }
        if let NormalizeConfig::Each(each) = &self.normalize
            && let Some(name) = each.keys().find(|name| !self.inputs.contains_key(*name) && !self.targets.contains_key(*name))
        {
            return Err(format!("data.normalize has `{name}`, which is no field of data.inputs or data.targets"));
        }
        if let Some(name) = self.integers.iter().find(|name| !self.inputs.contains_key(*name)) {
            return Err(format!("data.integers has `{name}`, which is no field of data.inputs"));
        }
        let target = self.targets.keys().next().map_or("", String::as_str);
        if matches!(&self.normalize, NormalizeConfig::Each(each) if each.get(target) == Some(&Normalize::Unit)) {
            return Err(format!("data.normalize: the length of the target `{target}` cannot be undone; \"unit\" is for inputs"));
        }
        if self.window.is_some() {
            if self.lengths.is_some() {
                return Err("data.lengths is for samples of a file, and windows all have the same length: leave one of them out".into());
            }
            if self.split == Some(SplitKind::Random) {
                return Err("data.split = \"random\" would put windows into the training data that overlap those of the validation: use \"sequential\" \
                            or \"blocks\""
                    .into());
            }
        } else if self.season.is_some() {
            return Err("data.season is for windows of a series: give data.window, too".into());
        }
        if matches!(self.split, Some(SplitKind::Auto | SplitKind::AutoRandom | SplitKind::Given)) {
            return Err(
                "data.split: these data have no validation members of their own. Use \"random\", \"sequential\" or \"blocks\"".into()
            );
        }
        if self.balance && !self.classes {
            return Err("data.balance is for classes: set data.classes = true, or leave it out".into());
        }
        if let Some(weights) = &self.class_weights {
            if !self.classes || self.balance {
                return Err("data.class_weights is for classes (data.classes = true), and in place of data.balance".into());
            }
            if let Some(weight) = weights.values().find(|weight| !(1e-9..=1e9).contains(*weight)) {
                return Err(format!("data.class_weights has {weight}, which is no positive number up to 1e9"));
            }
        }
        match (self.season, self.window) {
            (Some(season), Some(Window { context, .. })) if season > context => Err(format!(
                "data.season = {season} is more than the {context} moments of a context (data.window): there is no season before"
            )),
            _ => Ok(()),
        }
    }
}

/// Weights of classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a list of numbers, or a table with a number for each word")]
pub enum ClassWeights {
    /// By the numbers of the classes.
    List(Vec<f64>),
    /// By the words of the classes.
    Words(BTreeMap<String, f64>),
}

impl ClassWeights {
    fn values(&self) -> impl Iterator<Item = &f64> {
        let (list, words) = match self {
            ClassWeights::List(list) => (Some(list), None),
            ClassWeights::Words(words) => (None, Some(words)),
        };
        list.into_iter().flatten().chain(words.into_iter().flat_map(BTreeMap::values))
    }

    /// Weight of each of the classes; `words` are theirs, if they have some.
    fn of(&self, classes: usize, words: Option<&[String]>) -> std::result::Result<Vec<f64>, String> {
        match (self, words) {
            (ClassWeights::List(list), _) if list.len() == classes => Ok(list.clone()),
            (ClassWeights::List(list), _) => Err(format!("data.class_weights has {} weights for {classes} classes", list.len())),
            (ClassWeights::Words(_), None) => {
                Err(format!("data.class_weights has words, and the classes are numbers: give a list of {classes}"))
            }
            (ClassWeights::Words(each), Some(words)) => {
                if let Some(word) = each.keys().find(|word| !words.contains(word)) {
                    return Err(format!("data.class_weights has `{word}`, which is no class: they are `{}`", words.join("`, `")));
                }
                let weight =
                    |word: &String| each.get(word).copied().ok_or_else(|| format!("data.class_weights has no weight for `{word}`"));
                words.iter().map(weight).collect()
            }
        }
    }
}

impl SamplesConfig {
    /// Weight of each class before they are scaled; none where all classes weigh the same.
    ///
    /// # Errors
    /// `Config` for weights of other classes.
    fn weights_of(&self, known: &Known) -> Result<Option<Vec<f64>>> {
        let words = self.targets.values().find_map(|columns| known.words.get(columns.0.first()?));
        let of = |weights: &ClassWeights| weights.of(known.below.unwrap_or(1), words.map(Vec::as_slice)).map_err(Error::Config);
        self.class_weights.as_ref().map(of).transpose()
    }

    fn requests(&self, targets: bool) -> Vec<Request<'_>> {
        let part = if self.classes { Part::Classes } else { Part::Numbers };
        let input = |name: &String| if self.integers.contains(name) { Part::Integers } else { Part::Input };
        let inputs = self.inputs.iter().map(|(name, columns)| Request { name, columns: &columns.0, part: input(name) });
        let answers = self.targets.iter().filter(|_| targets).map(|(name, columns)| Request { name, columns: &columns.0, part });
        inputs.chain(answers).collect()
    }

    fn reading(&self, inputs_only: bool) -> Reading<'_> {
        Reading { window: self.window, lengths: self.lengths.as_deref(), skip_non_finite: self.skip_non_finite, inputs_only }
    }

    fn normalize_of(&self, name: &str) -> Normalize {
        match &self.normalize {
            NormalizeConfig::All(Normalize::Unit) if self.targets.contains_key(name) => Normalize::None,
            NormalizeConfig::All(all) => *all,
            NormalizeConfig::Each(each) => each.get(name).copied().unwrap_or_default(),
        }
    }

    fn read(&self) -> Result<Samples> {
        read_samples(self.sized_by(), &self.requests(true), &self.known, self.reading(false))
    }

    /// File that the samples come from.
    fn sized_by(&self) -> &Path {
        self.test_file.as_deref().unwrap_or(&self.file)
    }

    fn split_kind(&self) -> SplitKind {
        self.split.unwrap_or(if self.window.is_some() { SplitKind::Sequential } else { SplitKind::Random })
    }

    fn source(&self, settings: &Settings, purpose: Purpose) -> SampleSource {
        let gap = self.window.map_or(0, |window| window.overlap());
        let sets = Sets::new(self.sized_by(), self.validation_share, self.split_kind(), self.seed, &settings.train).with_gap(gap);
        SampleSource { config: self.clone(), file: FileSource::new(self.sized_by(), sets, purpose), read: None, scales: BTreeMap::new() }
    }
}

impl DataKind for SamplesConfig {
    fn files(&self) -> Vec<(&'static str, &Path)> {
        let trained_on = self.test_file.is_some().then_some(("data.file", self.file.as_path())).filter(|(_, file)| file.exists());
        [Some(("data.file", self.sized_by())), trained_on].into_iter().flatten().collect()
    }

    fn resize(&mut self) -> Result<()> {
        // A file to test on has no say in what the model was trained on.
        if self.test_file.is_none() && self.file.exists() {
            self.known.clear();
            let samples = self.read()?;
            let names: Vec<String> = self.requests(true).iter().map(|request| request.name.to_string()).collect();
            self.known = names.into_iter().zip(samples.fields).map(|(name, column)| (name, column.known)).collect();
        }
        Ok(())
    }

    fn on_file(&mut self, file: &Path) -> Result<()> {
        self.test_file = Some(file.to_path_buf());
        Ok(())
    }

    fn take_inputs(&mut self, shapes: &[(&str, Vec<usize>)]) -> Result<()> {
        for (name, shape) in shapes {
            if let Some(known) = self.known.get_mut(*name).filter(|known| known.shape.len() == shape.len()) {
                known.shape.clone_from(shape);
                // What has a value for each position has as many as there are positions.
                if let (true, Some(length)) = (known.each, shape.first().copied()) {
                    self.known.values_mut().filter(|known| known.each).for_each(|known| known.shape[0] = length);
                }
            }
        }
        Ok(())
    }

    fn read_inputs(&self, from: InputSource<'_>) -> Result<Option<InputRows>> {
        let (requests, reading) = (self.requests(false), self.reading(true));
        let samples = match from {
            InputSource::File(file) => read_samples(file, &requests, &self.known, reading)?,
            InputSource::Row(source, row) => {
                // Arrays stand under the names of the fields, and so do windows.
                let mut columns = self.inputs.values().flat_map(|columns| &columns.0);
                if self.window.is_some()
                    || self.lengths.is_some()
                    || !columns.any(|name| row.get(name).is_some_and(|value| !value.is_array()))
                {
                    return Ok(None);
                }
                let used = row.iter().filter(|(name, _)| self.inputs.values().any(|columns| columns.0.contains(name)));
                let used = used.map(|(name, value)| (name.clone(), value.clone())).collect();
                let table = Table::of_row(source, &used, &words_of(&self.known))?;
                read_table(table, Path::new(source), &requests, &self.known, reading)?
            }
        };
        let names = requests.iter().map(|request| interned(request.name));
        let mut fields: Vec<(&'static str, Column)> = names.zip(samples.fields).collect();
        let of_lengths = |lengths: Vec<u32>| Column::made_up(Known::default(), lengths.into_iter().map(|n| n as f32).collect());
        fields.extend(samples.lengths.map(|lengths| ("lengths", of_lengths(lengths))));
        Ok(Some(InputRows { rows: samples.rows, fields, left_out: samples.left_out }))
    }

    fn columns(&self, field: &str) -> Vec<String> {
        self.inputs.get(field).map_or(vec![], |columns| columns.0.clone())
    }

    fn answers(&self, len: usize) -> Vec<String> {
        let columns = self.targets.values().flat_map(|columns| &columns.0);
        let names: Vec<String> = match &self.window {
            Some(window) => (1..=window.horizon).flat_map(|t| columns.clone().map(move |name| format!("{name}_t+{t}"))).collect(),
            None => columns.cloned().collect(),
        };
        // An array has several numbers under one name.
        if names.len() == len { names } else { vec![] }
    }

    fn open(&self, settings: &Settings, purpose: Purpose) -> Result<Box<dyn Source>> {
        let mut source = self.source(settings, purpose);
        source.read = source.file.read_header(|path| {
            let mark = stamp(path)?;
            self.read().map(|samples| (samples.count(), (mark, samples)))
        })?;
        if let Some((_, samples)) = &source.read {
            let names = self.requests(true);
            source.config.known = names.iter().map(|r| r.name.to_string()).zip(samples.fields.iter().map(|f| f.known.clone())).collect();
        }
        if source.config.known.is_empty() {
            source.expect_file()?;
        }
        Ok(Box::new(source))
    }

    fn made_up(&self, settings: &Settings, samples: usize, _integers_below: Option<usize>) -> Result<Box<dyn Data>> {
        let mut random = Random::new(1, stream::MADE_UP_IMAGES, 1);
        let mut config = self.clone();
        config.resize()?;
        let mut source = config.source(settings, Purpose::Train);
        // Made-up windows have nothing in common.
        source.file.sets = source.file.sets.with_gap(0);
        if config.known.is_empty() {
            source.expect_file()?;
        }
        let column = |request: &Request<'_>| {
            let known = config.known.get(request.name).cloned().unwrap_or_default();
            let len = known.shape.iter().product::<usize>();
            let mut draw = || match known.below {
                Some(below) => random.between(0, below as i64 - 1) as f32,
                None => random.normal() as f32,
            };
            let values = (0..samples * len).map(|_| draw()).collect();
            Column::made_up(known, values)
        };
        let fields = config.requests(true).iter().map(column).collect();
        let each = config.known.values().find(|known| known.each).and_then(|known| known.shape.first().copied()).unwrap_or(1);
        let lengths = config.lengths.as_ref().map(|_| (0..samples).map(|i| 1 + (i % each) as u32).collect());
        source
            .holding(Samples { fields, lengths, rows: (0..samples).collect(), left_out: 0 }, &[])
            .map(|data| Box::new(data) as Box<dyn Data>)
    }
}

/// Configuration of the samples and sizes by the file, before they are kept.
#[derive(Debug, Clone)]
struct SampleSource {
    config: SamplesConfig,
    file: FileSource,
    /// Samples that were read to know their sizes, with the mark of their file.
    read: Option<(Stamp, Samples)>,
    /// Scales of the normalised fields, once they are fitted.
    scales: BTreeMap<String, Scale>,
}

impl SampleSource {
    /// Number of positions of a sample that have a target each; none if a sample has one target.
    fn positions(&self) -> Option<usize> {
        let target = self.config.targets.keys().next()?;
        let known = self.config.known.get(target)?;
        // A class has no axis of its own; numbers of a sample are one target, unless each position has its own.
        known.shape.first().copied().filter(|_| self.config.classes || known.each)
    }

    /// True if a mask says which positions count: classes have a number of their own for those that do not.
    fn masked(&self) -> bool {
        self.positions().is_some() && !self.config.classes
    }

    fn normalization(&self, name: &str) -> Normalization {
        match (self.config.normalize_of(name), self.scales.get(name)) {
            (Normalize::Unit, _) => Normalization::Unit,
            (_, Some(scale)) => Normalization::Scale(scale.clone()),
            _ => Normalization::None,
        }
    }

    /// True if a field has numbers that are scaled by feature.
    fn is_scaled(&self, name: &str) -> bool {
        let known = self.config.known.get(name);
        known.is_some_and(|known| known.below.is_none())
            && matches!(self.config.normalize_of(name), Normalize::Standard | Normalize::Minmax)
    }

    /// Takes the samples. Scales are those of the saved weights if given, else of the training samples.
    fn holding(mut self, mut samples: Samples, saved_buffers: &[Buffer]) -> Result<LoadedSamples> {
        self.file.take(samples.count())?;
        if let Some(column) = samples.fields.last() {
            self.config.weights_of(&column.known)?;
        }
        let names: Vec<String> = self.config.requests(true).iter().map(|request| request.name.to_string()).collect();
        for (name, column) in names.iter().zip(&mut samples.fields) {
            self.config.known.insert(name.clone(), column.known.clone());
            if self.is_scaled(name) {
                let fitted = || column.scale(self.config.normalize_of(name), &self.file.sets.train, samples.lengths.as_deref());
                if let Some(scale) = saved_scale(saved_buffers, name).or_else(fitted) {
                    self.scales.insert(name.clone(), scale);
                }
            }
            let how = self.normalization(name);
            column.normalize(&how);
        }
        Ok(LoadedSamples { source: self, samples: Arc::new(samples), trained: None, packing: None })
    }
}

impl Source for SampleSource {
    fn fields(&self) -> Fields {
        let sized = |(name, columns): (&String, &Columns)| {
            let known = self.config.known.get(name)?;
            let name_of = interned(name);
            let mut field = match known.below {
                Some(below) => Field::integers(name_of, &known.shape, below),
                None => Field::floats(name_of, &known.shape),
            };
            field.normalization = self.normalization(name);
            // An input that is given is meant.
            field.needed = self.config.inputs.contains_key(name);
            field.each_position = known.each;
            if let ([column], Some(_)) = (&columns.0[..], known.below) {
                field.words = known.words.get(column).cloned().unwrap_or_default();
            }
            Some(field)
        };
        let mut fields: Vec<Field> = self.config.inputs.iter().filter_map(sized).collect();
        if self.config.lengths.is_some() {
            let each = self.config.known.iter().find(|(name, known)| known.each && self.config.inputs.contains_key(*name));
            let most = each.and_then(|(_, known)| known.shape.first().copied()).unwrap_or(1);
            let mut lengths = Field::integers("lengths", &[], most + 1).within([1.0, most as f32]);
            lengths.needed = !self.config.known.iter().any(|(name, known)| known.each && self.config.targets.contains_key(name));
            fields.push(lengths);
        }
        fields.extend(self.config.targets.iter().filter_map(sized).map(Field::answer));
        Fields(fields)
    }

    fn steps_per_epoch(&self) -> u64 {
        self.file.sets.steps()
    }

    fn record(&self, plan: &mut Plan, batch: usize, layout: Layout) -> Result<Inputs> {
        let mut inputs = Inputs::new(batch);
        let name = plan.name.clone();
        for field in self.fields().0 {
            let mut shape = vec![batch];
            shape.extend(&field.shape);
            if layout.time_major && !field.answer && field.shape.len() == 2 {
                shape.swap(0, 1);
            }
            let tensor = match field.name {
                "lengths" => lengths_name(&name),
                other => format!("{name}.{other}"),
            };
            inputs = inputs.with(field.name, plan.persistent(Role::Dataset, &tensor, &shape)?);
        }
        let positions = self.positions().unwrap_or(1);
        if self.masked() {
            inputs = inputs.with("mask", plan.persistent(Role::Dataset, &format!("{name}.mask"), &[batch, positions])?);
        }
        if self.config.balance || self.config.class_weights.is_some() {
            inputs = inputs.with("weights", plan.persistent(Role::Dataset, &format!("{name}.weights"), &[batch, positions])?);
        }
        Ok(inputs)
    }

    fn buffers(&self) -> Vec<Buffer> {
        let names = self.config.inputs.keys().chain(self.config.targets.keys()).filter(|name| self.is_scaled(name));
        let width = |name: &String| self.config.known.get(name).and_then(|known| known.shape.last().copied()).unwrap_or(1);
        let scale =
            |name: &String| self.scales.get(name).cloned().unwrap_or_else(|| Scale::new(&vec![0.0; width(name)], &vec![1.0; width(name)]));
        names.flat_map(|name| scale_buffers(&scale(name), name)).collect()
    }

    fn card(&self, loss: &dyn Loss) -> Card {
        if self.config.classes { class_card(loss) } else { number_card(loss) }
    }

    fn describe(&self) -> Option<String> {
        let fields = self.fields().0.iter().map(|field| format!("`{}` {:?}", field.name, field.shape)).collect::<Vec<_>>().join(", ");
        Some(self.file.describe(|samples| format!("{samples} samples; {fields}"), &fields))
    }

    fn expect_file(&self) -> Result<()> {
        self.file.expect("Name yours: data.file in the run file, --data elsewhere")
    }

    fn load(mut self: Box<Self>, with: Loading<'_>) -> Result<(Box<dyn Data>, Vec<String>)> {
        self.expect_file()?;
        let samples = match self.read.take() {
            Some((mark, samples)) if mark == stamp(self.config.sized_by())? => samples,
            _ => self.config.read()?,
        };
        let (left_out, count) = (samples.left_out, samples.count());
        let mut loaded = self.holding(samples, with.saved_buffers)?;
        loaded.trained = loaded.source.trained_on();
        let Sets { train, validation, .. } = &loaded.source.file.sets;
        let fields = loaded.source.fields();
        let list = |answer: bool| {
            let shown = fields.0.iter().filter(|field| field.answer == answer && field.name != "lengths");
            let one = |field: &Field| match field.below {
                Some(below) => format!("{} {:?} of {below} {}", field.name, field.shape, if answer { "classes" } else { "integers" }),
                None => format!("{} {:?}", field.name, field.shape),
            };
            shown.map(one).collect::<Vec<_>>().join(", ")
        };
        let note =
            format!("data        {} training and {} validation samples: {} → {}", train.len(), validation.len(), list(false), list(true));
        let mut notes = vec![note];
        let apart = count.saturating_sub(train.len() + validation.len());
        if !loaded.source.file.sets.tests && loaded.source.file.sets.gap() > 0 && apart > 0 {
            notes.push(format!("windows     {apart} that reach across a border between training and validation are left out"));
        }
        if left_out > 0 {
            notes.push(format!("left out    {left_out} samples with numbers that are not finite (data.skip_non_finite)"));
        }
        notes.extend(loaded.warnings());
        Ok((Box::new(loaded), notes))
    }
}

impl SampleSource {
    /// Samples of the training file of a run that is tested on another, with the numbers of those that it was trained on and the target
    /// normalised; none where they are not there.
    fn trained_on(&self) -> Option<Numbered> {
        let config = &self.config;
        if config.test_file.is_none() || !config.file.exists() {
            return None;
        }
        let mut samples = read_samples(&config.file, &config.requests(true), &config.known, config.reading(false)).ok()?;
        let mut sets = self.file.sets.clone();
        sets.tests = false;
        sets.take(samples.count()).ok()?;
        let how = self.normalization(config.targets.keys().next()?);
        samples.fields.last_mut()?.normalize(&how);
        Some((Arc::new(samples), sets.train))
    }
}

/// Samples, and the numbers of some of them.
type Numbered = (Arc<Samples>, Vec<usize>);

/// Samples in memory, normalised.
#[derive(Debug, Clone)]
struct LoadedSamples {
    source: SampleSource,
    samples: Arc<Samples>,
    /// Samples that the model was trained on, if these are others.
    trained: Option<Numbered>,
    /// Layout of the training batches, once there was one.
    packing: Option<Packing>,
}

impl LoadedSamples {
    fn packing(&self, time_major: bool) -> Packing {
        let mut class_weights = vec![];
        let (samples, train) =
            self.trained.as_ref().map_or((&self.samples, &self.source.file.sets.train), |(samples, train)| (samples, train));
        let config = &self.source.config;
        if let Some(column) = samples.fields.last().filter(|_| config.balance || config.class_weights.is_some()) {
            let mut counts = vec![0usize; column.known.below.unwrap_or(1)];
            train.iter().flat_map(|i| samples.counted(column, *i)).for_each(|class| counts[*class as usize] += 1);
            let all: usize = counts.iter().sum();
            class_weights = match config.weights_of(&column.known) {
                Ok(Some(weights)) => {
                    let sum: f64 = weights.iter().zip(&counts).map(|(weight, count)| weight * *count as f64).sum();
                    weights.iter().map(|weight| weight * all as f64 / sum).collect()
                }
                // A class that training has none of weighs as one sample would.
                _ => counts.iter().map(|count| all as f64 / (counts.len() * (*count).max(1)) as f64).collect(),
            };
        }
        let (positions, masked) = (self.source.positions(), self.source.masked());
        Packing { fields: self.source.fields(), positions, masked, class_weights, time_major }
    }
}

impl Data for LoadedSamples {
    fn source(&self) -> &dyn Source {
        &self.source
    }

    fn batches(&mut self, step: u64, layout: Layout, own: Range<usize>) -> Result<Vec<Batch>> {
        if self.packing.as_ref().is_none_or(|packing| packing.time_major != layout.time_major) {
            self.packing = Some(self.packing(layout.time_major));
        }
        let Some(packing) = &self.packing else { return Err(Error::Internal("batches without a layout".into())) };
        let (samples, batch) = (&self.samples, self.source.file.sets.batch());
        let sizes = |numbers: &Vec<usize>| packing.sizes(samples, numbers);
        Ok(packed(self.source.file.sets.numbers(step), &own, |numbers| packing.pack(samples, &numbers, batch), sizes))
    }

    fn scorecard(&self, loss: &dyn Loss, layout: Layout) -> Box<dyn Scorecard> {
        let (samples, packing) = (self.samples.clone(), self.packing(layout.time_major));
        let Sets { train, validation, .. } = &self.source.file.sets;
        let (validation, columns) = (validation.clone(), loss.columns());
        let target = self.source.fields().0.into_iter().find(|field| field.answer);
        // Guesses that need no training are those of the training data.
        let own = || self.source.config.test_file.is_none().then(|| (samples.clone(), train.clone()));
        let reference = self.trained.clone().or_else(own);
        let Some(target) = target else { return Box::new(super::scorecard::Means::new(columns, |_| vec![])) };
        let judged = Judged { samples, packing, reference, validation, columns, target };
        if self.source.config.classes {
            return Box::new(ClassScorecard(judged));
        }
        Box::new(NumberScorecard { judged, series: self.series_of_target(), season: self.source.config.season })
    }
}

impl LoadedSamples {
    /// What looks wrong in the data, though it can be trained on.
    fn warnings(&self) -> Vec<String> {
        let (config, mut found) = (&self.source.config, vec![]);
        let target = config.targets.values().next();
        if let (None, Some(target)) = (config.window, target) {
            let both = config.inputs.values().flat_map(|columns| &columns.0).find(|name| target.0.contains(name));
            found.extend(both.map(|name| format!("WARNING: `{name}` is input and target: the model is told what it is to predict")));
        }
        if let (true, Some(column)) = (config.classes, self.samples.fields.last()) {
            let classes = |numbers: &[usize]| {
                let of = |i: &usize| self.samples.counted(column, *i).iter().map(|class| *class as usize);
                numbers.iter().flat_map(of).collect::<BTreeSet<usize>>()
            };
            let (train, validation) = (classes(&self.source.file.sets.train), classes(&self.source.file.sets.validation));
            if train.len() == 1 {
                found.push("WARNING: all training samples are of one class: there is nothing to tell apart".into());
            }
            let unseen = validation.difference(&train).count();
            if unseen > 0 {
                found.push(format!("WARNING: classes of validation samples that no training sample has: {unseen}"));
            }
        }
        found
    }

    /// Field, and its features, that have the past of the target: windows whose input has the target's own columns.
    fn series_of_target(&self) -> Option<(usize, Vec<usize>)> {
        let config = &self.source.config;
        config.window?;
        // What has lost its length, or is no number, has no unit to compare in.
        let comparable = |field: usize| {
            let column = &self.samples.fields[field];
            let unit = config.inputs.keys().nth(field).is_some_and(|name| config.normalize_of(name) == Normalize::Unit);
            column.known.below.is_none() && !unit
        };
        let target = config.targets.values().next()?;
        config.inputs.values().enumerate().filter(|(field, _)| comparable(*field)).find_map(|(field, columns)| {
            if columns == target {
                return Some((field, (0..self.samples.fields[field].features()).collect()));
            }
            let place = |name: &String| columns.0.iter().position(|column| column == name);
            // Columns of words are several features.
            let plain = self.samples.fields[field].features() == columns.0.len();
            let features = target.0.iter().map(place).collect::<Option<Vec<usize>>>()?;
            plain.then_some((field, features))
        })
    }
}
