//! What language models are judged by.

use std::f64::consts::LN_2;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use lzma_rust2::{XzOptions, XzWriter};

use super::integer_sequences::micro_batch;
use super::scorecard::{ClosingScores, Scorecard};
use crate::batch::Batch;
use crate::datasets::tokenizer::Tokenizer;
use crate::datasets::tokens::Part;
use crate::error::{Error, Result};
use crate::kernels::State;
use crate::losses::Columns;
use crate::metrics::{Column, Metrics};
use crate::random::{Random, stream};
use crate::sampling::{self, TextStream};
use crate::session::Session;

/// Number of tokens at most that are added to the text of `validation.sample`.
const SAMPLED: usize = 200;

/// Largest text in bytes that is compressed to compare with, which takes a second for a million of them.
const COMPRESSED: u64 = 16 << 20;

/// Columns of the tables of metrics.
pub(super) fn table_columns() -> Vec<Column> {
    vec![
        Column::new("loss", "loss (nats)", Some(4)),
        Column::new("perplexity", "perplexity", Some(2)),
        Column::new("bits_per_byte", "bits per byte", Some(4)),
        Column::new("accuracy", "accuracy", None),
    ]
}

/// Scorecard of language models: the whole validation part, once over.
#[derive(Debug)]
pub(super) struct TextScorecard {
    /// Tokens that are validated on, of data that are loaded.
    pub(super) validation: Option<Part>,
    /// Bytes of text of those that are predicted, where that is known.
    pub(super) bytes: Option<u64>,
    /// How often each token occurs in training.
    pub(super) counts: Arc<Vec<u64>>,
    /// Most tokens that a prediction is made from.
    pub(super) context: usize,
    /// Tokens that the model continues after each validation, with their text.
    pub(super) prompt: Option<(Vec<u32>, String)>,
    /// Seed of what is drawn for that text.
    pub(super) seed: u64,
    /// Of the tokens, where it is known.
    pub(super) tokenizer: Option<Tokenizer>,
    /// Metrics of the loss.
    pub(super) columns: Columns,
    /// Metrics of a uniform guess.
    pub(super) guess: Vec<(&'static str, f64)>,
}

impl TextScorecard {
    /// Windows of the validation part that follow each other, each token of which but the first of all is predicted once.
    fn batches(&self, batch: usize) -> impl Iterator<Item = Result<Batch>> {
        let (part, context) = (self.validation.as_ref(), self.context);
        let starts: Vec<usize> = (0..self.targets().len()).step_by(context).collect();
        let batches: Vec<Vec<usize>> = starts.chunks(batch).map(<[usize]>::to_vec).collect();
        batches.into_iter().zip(std::iter::repeat(part)).filter_map(move |(starts, part)| {
            let sequences = starts.into_iter().map(|start| part?.read(start, context + 1).into()).collect::<Option<Result<Vec<_>>>>()?;
            Some(sequences.map(|sequences| micro_batch(&sequences, batch, context)))
        })
    }

    /// The metrics with those that follow from the cross-entropy.
    fn with_bits(&self, mut metrics: Metrics) -> Metrics {
        metrics.0.retain(|(name, _)| name != "distance");
        let Some(nats) = metrics.get("cross_entropy") else { return metrics };
        metrics.0.push(("perplexity".into(), nats.exp()));
        if let Some(bytes) = self.bytes {
            metrics.0.push(("bits_per_byte".into(), nats * self.targets().len() as f64 / (LN_2 * bytes as f64)));
        }
        metrics
    }

    /// Places of the tokens that are predicted: all but the first of the validation part.
    fn targets(&self) -> Range<usize> {
        self.validation.as_ref().map_or(0..0, |part| (part.range.start + 1).min(part.range.end)..part.range.end)
    }

    /// Metrics of a program for compressing files, `xz -9`, on the text that is predicted, where that is known and of moderate size.
    fn compressed(&self) -> Result<Option<Metrics>> {
        let (Some(part), Some(tokenizer), Some(bytes @ 1..=COMPRESSED)) = (&self.validation, &self.tokenizer, self.bytes) else {
            return Ok(None);
        };
        let failed = |e: std::io::Error| Error::Internal(format!("xz: {e}"));
        let mut options = XzOptions::with_preset(9);
        // More than the text has changes nothing but the memory that this takes.
        options.lzma_options.dict_size = (bytes as u32).next_power_of_two().max(1 << 16);
        let mut xz = XzWriter::new(vec![], options).map_err(failed)?;
        part.tokens.pieces(self.targets(), |_, tokens| xz.write_all(&tokenizer.decode(tokens)).map_err(failed))?;
        let nats = 8.0 * LN_2 * xz.finish().map_err(failed)?.len() as f64 / self.targets().len() as f64;
        Ok(Some(self.with_bits(Metrics::new([("loss", nats), ("cross_entropy", nats)]))))
    }

    /// Metrics of a model that gives each token its frequency in training, with one more of each so that none is 0.
    fn unigram(&self) -> Result<Metrics> {
        let Some(part) = &self.validation else { return Ok(Metrics::default()) };
        let counts = &self.counts;
        let validated = part.tokens.counts(self.targets(), counts.len())?;
        let all = (counts.iter().sum::<u64>() + counts.len() as u64) as f64;
        let targets = validated.iter().sum::<u64>().max(1) as f64;
        let nats =
            validated.iter().zip(counts.iter()).map(|(n, count)| *n as f64 * (all / (*count + 1) as f64).ln()).sum::<f64>() / targets;
        let most = (0..counts.len()).rev().max_by_key(|token| counts[*token]).unwrap_or(0);
        let right = validated.get(most).map_or(0.0, |n| *n as f64 / targets);
        Ok(self.with_bits(Metrics::new([("loss", nats), ("cross_entropy", nats), ("accuracy", right)])))
    }
}

impl Scorecard for TextScorecard {
    fn validate(&self, session: &Session, _step: u64, _number: u64) -> Result<Metrics> {
        Ok(self.with_bits(session.means(&self.columns, self.batches(session.batch()))?))
    }

    fn baselines(&self) -> Vec<(&'static str, Metrics)> {
        let uniform = ("uniform guess", self.with_bits(Metrics::new(self.guess.iter().copied())));
        // What cannot be read any more is found out by the next validation.
        self.unigram().ok().map(|unigram| ("token frequencies", unigram)).into_iter().chain([uniform]).collect()
    }

    fn sample(&self, session: &Session) -> Result<Option<String>> {
        let (Some((prompt, text)), Some(tokenizer), Some((program, io))) = (&self.prompt, &self.tokenizer, session.decoding()) else {
            return Ok(None);
        };
        let sampling = sampling::Sampling { temperature: sampling::TEMPERATURE, seed: self.seed, top_k: None, top_p: None };
        let mut random = Random::new(sampling.seed, stream::GENERATE, 0);
        let mut made = TextStream::new(tokenizer, None);
        let mut text = text.clone();
        let (tokens, sources) = (io.feed.input("tokens")?, io.feed.input("sources")?);
        program.write(sources, &vec![0u32; self.context]);
        let end = self.context.min(prompt.len() + SAMPLED);
        let mut next = prompt[0];
        for position in 1..end {
            let fed = position as u32 - 1;
            program.write(io.feed.state, &[State { position: fed, tick: fed, ..State::default() }]);
            program.write(tokens, &[next]);
            program.run(program.all())?;
            next = match prompt.get(position) {
                Some(token) => *token,
                None => {
                    let logits: Vec<f32> = program.read(io.output)?;
                    let token = sampling.draw(&logits, &mut random);
                    text.push_str(&made.push(token));
                    token
                }
            };
        }
        text.push_str(&made.finish());
        Ok(Some(text))
    }

    fn closing_scores(&self, session: &Session, _step: u64) -> Result<ClosingScores> {
        let mine = self.validate(session, 0, 1)?;
        let compressed = self.compressed()?.map(|metrics| ("xz -9", metrics));
        let baselines = self.baselines().into_iter().chain(compressed).map(|(name, metrics)| (name.to_string(), metrics)).collect();
        let (tokens, context) = (self.targets().len(), self.context);
        let note = format!("All {tokens} predictions of the validation part, each from at most {context} tokens before it.");
        Ok(ClosingScores::beside(vec![("this model".into(), mine)], baselines, &table_columns(), vec![note]))
    }
}
