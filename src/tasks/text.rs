//! Text, or a row of tokens: windows of it to train on, and its end to validate on.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::data::{Data, DataKind, Layout, Loading, Purpose, Source, packed};
use super::epochs::Epochs;
use super::integer_sequences::micro_batch;
use super::scorecard::{Card, Scorecard};
use super::text_scores::{TextScorecard, table_columns};
use crate::batch::{Batch, Field, Fields, Inputs};
use crate::config::{Section, Settings, TrainConfig, in_range};
use crate::datasets::tokenizer::Tokenizer;
use crate::datasets::tokens::{Part, Tokens, holds_tokens};
use crate::error::{Error, Result};
use crate::files;
use crate::gpu::Role;
use crate::layers::Cache;
use crate::losses::Loss;
use crate::plan::{Buffer, Plan};
use crate::random::{Random, stream};

/// Largest size in bytes of a text that is tokenized as a whole; the bytes of one stay in their file.
const LARGEST: u64 = 4 << 30;

/// Buffer that keeps the characters of a tokenizer with the weights, as code points.
const CHARACTERS: &str = "tokenizer.characters";

/// Number of training tokens whose frequencies are the baseline.
const COUNTED: usize = 1 << 24;

/// Vocabulary that plans are made for while there is no file to take it from.
const ASSUMED: usize = 256;

/// Way to take windows out of the training tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// Each epoch cuts the tokens into windows at a random offset, and visits each window once.
    #[default]
    Windows,
    /// Each window starts at a place that is drawn anew; an epoch has `train.steps_per_epoch` updates.
    Random,
}

/// Text for a language model, or tokens that were made of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextConfig {
    /// Text in UTF-8; or tokens as `.bin` (16 bits each, as nanoGPT or llm.c write them) or `.npy` (one axis of integers).
    pub file: PathBuf,
    /// Text or tokens to validate on. Without it the end of `file` is not trained on, and validates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_file: Option<PathBuf>,
    /// Share of a file's characters, or tokens, that validate without a `validation_file`: the last ones.
    #[serde(default = "tenth", skip_serializing_if = "is_tenth")]
    #[schemars(!skip_serializing_if, extend("exclusiveMinimum" = 0), extend("exclusiveMaximum" = 1))]
    pub validation_share: f64,
    /// What a token is: `bytes`, `characters` (those of the training file, kept with the weights), or the path of a `tokenizer.json` of
    /// Hugging Face. Without it a text has `bytes`, and tokens cannot be turned into text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
    /// Number of different tokens, from 0, which are the classes of the model; without it, that of the tokenizer or of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 1 << 17))]
    pub vocabulary: Option<usize>,
    /// Number of tokens that the model sees at once.
    #[schemars(range(min = 2, max = 1 << 16))]
    pub context: usize,
    /// Way to take windows out of the training tokens.
    #[serde(default, skip_serializing_if = "is_windows")]
    #[schemars(!skip_serializing_if)]
    pub sampling: Sampling,
    /// File to test on in place of the validation part.
    #[serde(skip)]
    #[schemars(skip)]
    test_file: Option<PathBuf>,
}

fn tenth() -> f64 {
    0.1
}

fn is_tenth(share: &f64) -> bool {
    *share == tenth()
}

fn is_windows(sampling: &Sampling) -> bool {
    *sampling == Sampling::Windows
}

/// What a token of the configuration's files is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made<'a> {
    /// Tokens are in the file, with the tokenizer that made them if that is known.
    Before(Option<&'a str>),
    Bytes,
    Characters,
    By(&'a str),
}

impl TextConfig {
    /// Windows of so many tokens of this file, with every other key at its default.
    pub fn new(file: &Path, context: usize) -> Self {
        TextConfig {
            file: file.into(),
            validation_file: None,
            validation_share: tenth(),
            tokenizer: None,
            vocabulary: None,
            context,
            sampling: Sampling::Windows,
            test_file: None,
        }
    }

    fn made(&self) -> Made<'_> {
        match self.tokenizer.as_deref() {
            name if holds_tokens(&self.file) => Made::Before(name),
            None | Some("bytes") => Made::Bytes,
            Some("characters") => Made::Characters,
            Some(path) => Made::By(path),
        }
    }

    /// Path of the tokenizer, if it has a file.
    fn tokenizer_file(&self) -> Option<&Path> {
        self.tokenizer.as_deref().filter(|name| !["bytes", "characters"].contains(name)).map(Path::new)
    }

    /// Tokenizer of these data, but for characters, which come from the text or from saved weights.
    fn named_tokenizer(&self) -> Result<Option<Tokenizer>> {
        match self.made() {
            Made::Bytes | Made::Before(Some("bytes")) => Ok(Some(Tokenizer::Bytes)),
            Made::By(path) | Made::Before(Some(path)) => Tokenizer::open(Path::new(path)).map(Some),
            Made::Before(None) | Made::Characters => Ok(None),
        }
    }

    /// Tokenizer of a trained model of these data, whose buffers are those that were read with its weights; none for tokens whose tokenizer
    /// the data do not name.
    ///
    /// # Errors
    /// `MissingInput` or `Data` when its file cannot be used, or the weights lack its characters.
    pub fn trained_tokenizer(&self, buffers: &[Buffer]) -> Result<Option<Tokenizer>> {
        match (self.made(), kept(buffers)) {
            (Made::Characters, None) => Err(Error::Data(
                "these weights do not have the characters of their tokenizer (tokenizer.characters): take those of the run".into(),
            )),
            (Made::Characters, kept) => Ok(kept),
            _ => self.named_tokenizer(),
        }
    }
}

/// The characters that were kept with weights, if they were.
fn kept(buffers: &[Buffer]) -> Option<Tokenizer> {
    buffers.iter().find(|buffer| buffer.name == CHARACTERS).and_then(|buffer| Tokenizer::of_code_points(&buffer.values))
}

/// The characters that are the tokens of a model, in the order of their numbers, if they were kept with its weights.
pub(crate) fn kept_characters(buffers: &[Buffer]) -> Option<String> {
    match kept(buffers)? {
        Tokenizer::Characters(all) => Some(all.into_iter().collect()),
        _ => None,
    }
}

impl Section for TextConfig {
    fn validate(&self) -> std::result::Result<(), String> {
        in_range(self, "data")?;
        let other = self.validation_file.as_ref().filter(|file| holds_tokens(file) != holds_tokens(&self.file));
        if let Some(other) = other {
            let (file, other) = (self.file.display(), other.display());
            return Err(format!(
                "data.file = {file} and data.validation_file = {other}: of one of them tokens are there, of the other text"
            ));
        }
        match self.made() {
            Made::Before(Some("characters")) => {
                Err("data.tokenizer = \"characters\" is for a text: give tokens the tokenizer.json that made them".into())
            }
            _ => Ok(()),
        }
    }
}

impl DataKind for TextConfig {
    fn files(&self) -> Vec<(&'static str, &Path)> {
        let validation = self.validation_file.as_deref().map(|file| ("data.validation_file", file));
        let tokenizer = self.tokenizer_file().map(|file| ("data.tokenizer", file));
        let file = self.test_file.as_ref().unwrap_or(&self.file);
        [("data.file", file.as_path())].into_iter().chain(validation).chain(tokenizer).collect()
    }

    fn resize(&mut self) -> Result<()> {
        if self.vocabulary.is_none() && self.file.exists() {
            self.vocabulary = Some(match self.made() {
                Made::Characters => Tokenizer::of_characters(&read(&self.file)?).vocabulary(),
                Made::Before(None) => largest(self)?,
                _ => self.named_tokenizer()?.map_or(ASSUMED, |tokenizer| tokenizer.vocabulary()),
            });
        }
        Ok(())
    }

    fn on_file(&mut self, file: &Path) -> Result<()> {
        if holds_tokens(file) != holds_tokens(&self.file) {
            let what = if holds_tokens(&self.file) { "tokens (.bin or .npy), and none of text" } else { "text, and none of tokens" };
            return Err(Error::Config(format!("{}: this run was trained on a file of {what}", file.display())));
        }
        (self.test_file, self.validation_file) = (Some(file.into()), None);
        Ok(())
    }

    fn open(&self, settings: &Settings, purpose: Purpose) -> Result<Box<dyn Source>> {
        Text::open(self, settings, purpose).map(|text| Box::new(text) as Box<dyn Source>)
    }

    fn made_up(&self, settings: &Settings, samples: usize, integers_below: Option<usize>) -> Result<Box<dyn Data>> {
        let below = integers_below.or(self.vocabulary).unwrap_or(ASSUMED);
        let mut random = Random::new(1, stream::TRAINING, 0);
        let length = samples.max(2 * settings.train.samples()) * self.context + 1;
        let tokens = Arc::new(Tokens::new((0..length).map(|_| random.between(0, below as i64 - 1) as u32).collect()));
        let parts = Parts { train: Part::all(tokens.clone()), validation: Part { range: 0..2 * self.context + 1, tokens }, bytes: None };
        let text = Text { vocabulary: below, parts: Some(parts), ..Text::unread(self, settings) };
        Ok(Box::new(text.counted()?))
    }
}

/// Reads a text as a whole.
fn read(path: &Path) -> Result<String> {
    let failed = |e| Error::read(path, e);
    let bytes = files::bytes(path, LARGEST).map_err(failed)?;
    String::from_utf8(bytes).map_err(|e| {
        Error::Data(format!(
            "{} is no text in UTF-8: byte {} is wrong. Convert it, as with iconv -f latin1 -t utf8, or take data.tokenizer = \"bytes\"",
            path.display(),
            e.utf8_error().valid_up_to()
        ))
    })
}

/// One more than the largest token of the files.
fn largest(config: &TextConfig) -> Result<usize> {
    let mut most = 1;
    for file in [Some(&config.file), config.validation_file.as_ref()].into_iter().flatten() {
        let tokens = Tokens::open(file)?;
        tokens.pieces(0..tokens.len(), |_, piece| {
            most = piece.iter().fold(most, |most, token| most.max(*token));
            Ok(())
        })?;
    }
    Ok(most as usize + 1)
}

/// Byte at which the last characters of a text begin, a share of all. A byte that begins no character is a part of the one before.
fn byte_of_split(path: &Path, share: f64) -> Result<usize> {
    let failed = |e| Error::read(path, e);
    let begins = |byte: &u8| byte & 0xC0 != 0x80;
    let mut buffer = vec![0; 1 << 20];
    let mut scan = |each: &mut dyn FnMut(&[u8]) -> bool| {
        let mut file = File::open(path).map_err(failed)?;
        loop {
            let n = file.read(&mut buffer).map_err(failed)?;
            if n == 0 || !each(&buffer[..n]) {
                return Ok::<_, Error>(());
            }
        }
    };
    let mut all = 0;
    scan(&mut |bytes| {
        all += bytes.iter().filter(|byte| begins(byte)).count();
        true
    })?;
    let (wanted, mut before, mut at) = (training(all, share), 0, 0);
    scan(&mut |bytes| {
        for byte in bytes {
            if begins(byte) {
                if before == wanted {
                    return false;
                }
                before += 1;
            }
            at += 1;
        }
        true
    })?;
    Ok(at)
}

/// Number of characters or tokens that train, of which the last share validates. nanoGPT has int(n · 0.9) of them.
fn training(all: usize, share: f64) -> usize {
    (all as f64 * (1.0 - share)) as usize
}

/// The tokens that train and those that validate.
#[derive(Debug, Clone)]
struct Parts {
    train: Part,
    validation: Part,
    /// Bytes of text of the tokens that are predicted in a validation, where that is known.
    bytes: Option<u64>,
}

impl Parts {
    /// The parts of one row of tokens, or of two.
    fn of(train: Tokens, validation: Option<Tokens>, split: impl FnOnce(&Tokens) -> Result<usize>) -> Result<Self> {
        let at = if validation.is_none() { split(&train)? } else { train.len() };
        let train = Arc::new(train);
        let (end, validation) = (at..train.len(), validation.map(|tokens| Part::all(Arc::new(tokens))));
        let validation = validation.unwrap_or_else(|| Part { tokens: train.clone(), range: end });
        Ok(Parts { train: Part { tokens: train, range: 0..at }, validation, bytes: None })
    }

    fn open(config: &TextConfig, tokenizer: Option<&Tokenizer>) -> Result<Self> {
        let TextConfig { file, validation_file, validation_share: share, .. } = config;
        if matches!(config.made(), Made::Before(_) | Made::Bytes) {
            let there = holds_tokens(file);
            let open = |file: &Path| if there { Tokens::open(file) } else { Tokens::bytes(file) };
            let split = |tokens: &Tokens| if there { Ok(training(tokens.len(), *share)) } else { byte_of_split(file, *share) };
            let validation = validation_file.as_deref().map(open).transpose()?;
            return Parts::of(open(file)?, validation, split);
        }
        let text = read(file)?;
        let own = validation_file.as_deref().map(read).transpose()?;
        let at = match &own {
            Some(_) => text.len(),
            None => text.char_indices().nth(training(text.chars().count(), *share)).map_or(text.len(), |(at, _)| at),
        };
        let (train, end) = text.split_at(at);
        let validation = own.as_deref().unwrap_or(end);
        let row = |text: &str, path: &Path| match tokenizer {
            Some(tokenizer) => tokenizer.encode(text).map_err(|e| Error::Data(format!("{}: {e}", path.display()))),
            // Characters, whose numbers are known when the data are loaded.
            None => Ok(text.chars().map(u32::from).collect()),
        };
        let rows = [(train, file), (validation, validation_file.as_ref().unwrap_or(file))].map(|(text, path)| row(text, path));
        let [train, of_validation] = rows.map(|row| row.map(|tokens| Part::all(Arc::new(Tokens::new(tokens)))));
        Ok(Parts { train: train?, validation: of_validation?, bytes: None })
    }

    /// The same parts with the numbers of characters in place of their code points.
    fn numbered(&self, tokenizer: &Tokenizer) -> Result<Self> {
        let number = |part: &Part| {
            let text: String = part.read(0, part.len())?.into_iter().filter_map(char::from_u32).collect();
            let tokens = tokenizer
                .encode(&text)
                .map_err(|e| Error::Data(format!("data.file: {e}. Take data.tokenizer = \"bytes\", which has all")))?;
            Ok::<_, Error>(Part::all(Arc::new(Tokens::new(tokens))))
        };
        Ok(Parts { train: number(&self.train)?, validation: number(&self.validation)?, bytes: None })
    }
}

/// Data of a text: its sizes, and its tokens where there is a file.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    config: TextConfig,
    train: TrainConfig,
    purpose: Purpose,
    vocabulary: usize,
    tokenizer: Option<Tokenizer>,
    parts: Option<Parts>,
    epochs: Epochs,
    /// How often each token occurs in training, once the data are loaded.
    counts: Arc<Vec<u64>>,
    /// Text that the model continues after each validation.
    sample: Option<String>,
}

impl Text {
    fn unread(config: &TextConfig, settings: &Settings) -> Self {
        Text {
            config: config.clone(),
            train: settings.train.clone(),
            purpose: Purpose::Train,
            vocabulary: config.vocabulary.unwrap_or(ASSUMED),
            tokenizer: None,
            parts: None,
            epochs: Epochs::new(&settings.train),
            counts: Arc::default(),
            sample: settings.validation.sample.clone(),
        }
    }

    fn open(config: &TextConfig, settings: &Settings, purpose: Purpose) -> Result<Self> {
        let mut text = Text { purpose, ..Text::unread(config, settings) };
        let tested = TextConfig { file: config.test_file.clone().unwrap_or_else(|| config.file.clone()), ..config.clone() };
        let missing = tested.files().into_iter().any(|(_, file)| !file.exists());
        if matches!(purpose, Purpose::Generate | Purpose::Predict) || missing {
            return Ok(text);
        }
        text.tokenizer = tested.named_tokenizer()?;
        let needed = text.tokenizer.as_ref().map_or(0, Tokenizer::vocabulary);
        if needed > text.vocabulary {
            return Err(Error::Config(format!(
                "data.vocabulary = {}, and the tokenizer has {needed} tokens: leave the key out, or raise it",
                text.vocabulary
            )));
        }
        let mut parts = Parts::open(&tested, text.tokenizer.as_ref())?;
        if purpose == Purpose::Test {
            let all = [&parts.train, &parts.validation];
            let one = Arc::ptr_eq(&all[0].tokens, &all[1].tokens);
            let whole = if one { Part::all(parts.train.tokens.clone()) } else { joined(&parts)? };
            (parts.train, parts.validation) = (whole.clone(), whole);
        }
        if config.test_file.is_none() && settings.train.share < 1.0 {
            parts.train.range.end = parts.train.range.start + (settings.train.share * parts.train.len() as f64) as usize;
        }
        text.parts = Some(parts);
        Ok(text)
    }

    /// Number of windows in an epoch, whatever its offset.
    fn windows(&self) -> usize {
        self.parts.as_ref().map_or(self.train.samples(), |parts| (parts.train.len() / self.config.context).saturating_sub(1))
    }

    /// Tokens of the text that is continued after validations, with their tokenizer.
    fn prompt(&self) -> Result<Option<(Vec<u32>, &Tokenizer)>> {
        let Some(sample) = &self.sample else { return Ok(None) };
        let failed = |why: String| Err(Error::Config(format!("validation.sample = {sample:?}: {why}")));
        let Some(tokenizer) = &self.tokenizer else {
            return failed("name the data.tokenizer that these tokens were made by, or leave the key out".into());
        };
        match tokenizer.encode(sample) {
            Err(e) => failed(e.to_string()),
            Ok(tokens) if tokens.is_empty() || tokens.len() >= self.config.context => {
                failed(format!("give a text of 1 to {} tokens; these are {}", self.config.context - 1, tokens.len()))
            }
            Ok(tokens) => Ok(Some((tokens, tokenizer))),
        }
    }

    /// Counts the tokens, and the bytes of those that are predicted in a validation.
    fn counted(mut self) -> Result<Self> {
        let Some(parts) = &mut self.parts else { return Ok(self) };
        let Range { start, end } = parts.train.range;
        // All are looked at: none may be beyond the vocabulary.
        let mut counts = parts.train.tokens.counts(start..(start + COUNTED).min(end), self.vocabulary)?;
        parts.train.tokens.counts((start + COUNTED).min(end)..end, self.vocabulary)?;
        counts.resize(self.vocabulary, 0);
        let targets = parts.validation.range.start + 1..parts.validation.range.end;
        let validated = parts.validation.tokens.counts(targets, self.vocabulary)?;
        let lengths = self.tokenizer.as_ref().and_then(Tokenizer::lengths);
        parts.bytes = lengths.map(|lengths| validated.iter().zip(lengths).map(|(count, length)| count * u64::from(length)).sum());
        self.counts = Arc::new(counts);
        Ok(self)
    }

    /// Places in the training part at which the windows of each micro-step begin.
    fn starts(&mut self, step: u64) -> Vec<Vec<usize>> {
        let (context, train) = (self.config.context, &self.train);
        let Some(parts) = &self.parts else { return vec![] };
        match self.config.sampling {
            Sampling::Random => {
                let last = (parts.train.len() - context - 1) as i64;
                let first = step * train.samples() as u64;
                let start = |sample: usize| Random::new(train.seed, stream::TRAINING, first + sample as u64).between(0, last) as usize;
                let micro = |m: usize| (m * train.batch..(m + 1) * train.batch).map(start).collect();
                (0..train.accumulate).map(micro).collect()
            }
            Sampling::Windows => {
                let windows = self.windows();
                let epoch = step / self.epochs.steps(windows);
                let offset =
                    if train.shuffle { Random::new(train.seed, stream::TRAINING, epoch).between(0, context as i64 - 1) } else { 0 };
                let numbers = self.epochs.numbers(windows, step);
                let start = |number: u32| offset as usize + number as usize * context;
                numbers.into_iter().map(|micro| micro.into_iter().map(start).collect()).collect()
            }
        }
    }
}

/// Both parts of a text as one.
fn joined(parts: &Parts) -> Result<Part> {
    let mut all = parts.train.read(0, parts.train.len())?;
    all.extend(parts.validation.read(0, parts.validation.len())?);
    Ok(Part::all(Arc::new(Tokens::new(all))))
}

impl Source for Text {
    fn fields(&self) -> Fields {
        let context = self.config.context;
        Fields(vec![
            Field::integers("tokens", &[context], self.vocabulary),
            Field::integers("targets", &[context], self.vocabulary).answer(),
        ])
    }

    fn steps_per_epoch(&self) -> u64 {
        match self.config.sampling {
            Sampling::Windows => self.epochs.steps(self.windows()),
            Sampling::Random => self.train.steps_per_epoch,
        }
    }

    fn evaluation_batches(&self, batch: usize) -> Vec<usize> {
        std::iter::successors(Some(batch), |batch| (*batch > 1).then_some(batch / 2)).collect()
    }

    fn looks_at_outputs(&self) -> bool {
        false
    }

    fn record(&self, plan: &mut Plan, batch: usize, _layout: Layout) -> Result<Inputs> {
        let name = plan.name.clone();
        let mut input = |what: &str| plan.persistent(Role::Dataset, &format!("{name}.{what}"), &[batch, self.config.context]);
        Ok(Inputs::new(batch).with("tokens", input("tokens")?).with("targets", input("targets")?))
    }

    fn tokens(&self) -> Option<usize> {
        Some(self.config.context)
    }

    fn record_positions(&self, plan: &mut Plan, batch: usize, positions: usize) -> Result<Option<(Inputs, Cache)>> {
        let (name, limit) = (plan.name.clone(), self.config.context);
        let tokens = plan.persistent(Role::Dataset, &format!("{name}.tokens"), &[batch, positions])?;
        let sources = plan.persistent(Role::KvCache, &format!("{name}.sources"), &[batch, limit])?;
        Ok(Some((Inputs::new(batch).with("tokens", tokens).with("sources", sources), Cache { sources, limit })))
    }

    fn buffers(&self) -> Vec<Buffer> {
        if self.config.made() != Made::Characters {
            return vec![];
        }
        let values = self.tokenizer.as_ref().and_then(Tokenizer::code_points).unwrap_or_else(|| vec![0.0; self.vocabulary]);
        vec![Buffer { name: CHARACTERS.into(), shape: vec![values.len()], values }]
    }

    fn card(&self, loss: &dyn Loss) -> Card {
        let mut card = Card::of(&loss.columns());
        // How far the number of a token is from that of another means nothing.
        card.validation_metrics.retain(|name| *name != "distance");
        card.validation_metrics.extend(["perplexity", "bits_per_byte"]);
        card.table_columns = table_columns();
        card.chart = ("perplexity", vec!["perplexity"]);
        card
    }

    fn describe(&self) -> Option<String> {
        let (file, context) = (self.config.file.display(), self.config.context);
        Some(match &self.parts {
            Some(Parts { train, validation, .. }) => format!(
                "{file}: {} training and {} validation tokens of {}, in windows of {context}",
                train.len(),
                validation.len(),
                self.vocabulary
            ),
            None => format!("{file} is not there: estimated for a vocabulary of {}", self.vocabulary),
        })
    }

    fn expect_file(&self) -> Result<()> {
        let how = "Name your own text with --set data.file=FILE.txt; data/README.md says where that of the shipped runs comes from";
        if let Some((key, file)) = self.config.files().into_iter().find(|(_, file)| !file.exists()) {
            return Err(Error::MissingInput(format!("{key}: no file {}. {how}", file.display()).into()));
        }
        let Some(Parts { train, validation, .. }) = &self.parts else { return Ok(()) };
        let (context, file) = (self.config.context, self.config.file.display());
        let least = if self.config.sampling == Sampling::Random { 1 } else { self.train.batch };
        if self.purpose == Purpose::Train && self.windows() < least {
            return Err(Error::Data(format!(
                "{file}: its {} training tokens are {} windows of {context}, wherever they begin, and a batch takes {least}. Lower train.batch or data.context, or give more text",
                train.len(),
                self.windows()
            )));
        }
        match validation.len() {
            0 | 1 => Err(Error::Data(format!(
                "{file}: no tokens are left to validate on. Raise data.validation_share, or name a data.validation_file"
            ))),
            _ => Ok(()),
        }
    }

    fn load(self: Box<Self>, with: Loading<'_>) -> Result<(Box<dyn Data>, Vec<String>)> {
        self.expect_file()?;
        let mut text = *self;
        let Some(parts) = text.parts.take() else { return Err(Error::Internal("a text without tokens".into())) };
        text.parts = Some(match text.config.made() {
            Made::Characters => {
                let own = || read(&text.config.file).map(|text| Tokenizer::of_characters(&text));
                let tokenizer = kept(with.saved_buffers).map_or_else(own, Ok)?;
                if tokenizer.vocabulary() != text.vocabulary {
                    return Err(Error::Data(format!(
                        "{}: {} different characters, and data.vocabulary = {}. Leave that key out, as the file gives it",
                        text.config.file.display(),
                        tokenizer.vocabulary(),
                        text.vocabulary
                    )));
                }
                let numbered = parts.numbered(&tokenizer)?;
                text.tokenizer = Some(tokenizer);
                numbered
            }
            _ => parts,
        });
        text.prompt()?;
        let text = text.counted()?;
        let notes = text.describe().into_iter().map(|what| format!("text        {what}")).collect();
        Ok((Box::new(text), notes))
    }
}

impl Data for Text {
    fn source(&self) -> &dyn Source {
        self
    }

    fn batches(&mut self, step: u64, _layout: Layout, own: Range<usize>) -> Result<Vec<Batch>> {
        let (batch, context, starts) = (self.train.batch, self.config.context, self.starts(step));
        let Some(parts) = &self.parts else { return Err(Error::Internal("a text without tokens".into())) };
        let windows = starts.into_iter().enumerate().map(|(number, micro)| {
            let read = |start: &usize| parts.train.read(*start, context + 1);
            // Another process reads those of its own.
            let sequences = if own.contains(&number) { micro.iter().map(read).collect::<Result<_>>()? } else { vec![] };
            Ok((micro.len(), sequences))
        });
        let windows: Vec<(usize, Vec<Vec<u32>>)> = windows.collect::<Result<_>>()?;
        let pack = |(_, sequences): (usize, Vec<Vec<u32>>)| micro_batch(&sequences, batch, context);
        Ok(packed(windows, &own, pack, |(count, _)| (count * context, count * context)))
    }

    fn scorecard(&self, loss: &dyn Loss, _layout: Layout) -> Box<dyn Scorecard> {
        Box::new(TextScorecard {
            validation: self.parts.as_ref().map(|parts| parts.validation.clone()),
            bytes: self.parts.as_ref().and_then(|parts| parts.bytes),
            counts: self.counts.clone(),
            context: self.config.context,
            // It was looked at when the data were loaded.
            prompt: self.prompt().ok().flatten().map(|(tokens, _)| tokens).zip(self.sample.clone()),
            seed: self.train.seed,
            tokenizer: self.tokenizer.clone(),
            columns: loss.columns(),
            guess: loss.uniform_guess(self.vocabulary),
        })
    }
}
