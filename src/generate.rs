//! Decoding with a cache on the device: greedy, beam search, temperature sampling.

use std::sync::Arc;

use crate::datasets::tokenizer::Tokenizer;
use crate::error::{Error, Result, shortened};
use crate::gpu::{Gpu, Target};
use crate::kernels::{State, argmax};
use crate::plan::{Arena, FixedPlan, Flat, LayoutOptions, Memory, Program, Tensor};
use crate::problem::Problem;
use crate::random::{Random, stream};
use crate::session::Feed;

/// Strategy for choosing the next number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Strategy {
    /// Greedy: the most probable number.
    Greedy,
    /// Beam search with this number of beams.
    Beam(usize),
    /// Sampling from softmax(logits / temperature).
    Sampling(Sampling),
}

/// Sampling from softmax(logits / temperature), of the most probable numbers alone where that is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Temperature, above 0.
    pub temperature: f64,
    /// Seed; each sequence of a batch has numbers of its own.
    pub seed: u64,
    /// So many of the most probable numbers take part.
    pub top_k: Option<usize>,
    /// As few of the most probable numbers take part as have this probability together.
    pub top_p: Option<f64>,
}

/// What is asked of the choice of the next number.
#[derive(Debug, Clone, Copy, Default)]
pub struct Choice {
    /// Beam search of this width.
    pub beam: Option<usize>,
    /// Temperature; 0 takes the most probable number.
    pub temperature: Option<f64>,
    /// So many of the most probable numbers take part.
    pub top_k: Option<usize>,
    /// As few of the most probable numbers take part as have this probability together.
    pub top_p: Option<f64>,
    /// Seed; 1 without it.
    pub seed: Option<u64>,
}

impl Choice {
    /// The strategy. Without a temperature that of a text is 0.8, and that of numbers 1 if only some take part, else 0.
    ///
    /// # Errors
    /// `Config` for a value that is out of range.
    pub fn strategy(&self, of_text: bool) -> Result<Strategy> {
        let Choice { beam, temperature, top_k, top_p, seed } = *self;
        if let Some(p) = top_p.filter(|p| !(*p > 0.0 && *p <= 1.0)) {
            return Err(Error::Config(format!("--top-p {p} is out of range: it must be above 0, and at most 1")));
        }
        let usual = if of_text { 0.8 } else { f64::from(u8::from(top_k.is_some() || top_p.is_some())) };
        match (beam, temperature.unwrap_or(usual)) {
            (Some(width), _) => Ok(Strategy::Beam(width)),
            (_, 0.0) => Ok(Strategy::Greedy),
            (_, temperature) if temperature > 0.0 && temperature.is_finite() => {
                Ok(Strategy::Sampling(Sampling { temperature, seed: seed.unwrap_or(1), top_k, top_p }))
            }
            (_, t) => Err(Error::Config(format!("--temperature {t} is out of range: it must be 0 or above, and finite"))),
        }
    }
}

/// Largest number of positions that a prompt is fed by at once.
const PREFILL: usize = 64;

/// Tensors that the host writes to feed positions.
#[derive(Debug, Clone, Copy)]
struct Inputs {
    tokens: Tensor,
    sources: Tensor,
    state: Tensor,
}

impl Inputs {
    fn of(feed: &Feed) -> Result<Inputs> {
        Ok(Inputs { tokens: feed.input("tokens")?, sources: feed.input("sources")?, state: feed.state })
    }
}

/// Tensors that the host reads after a step of decoding.
#[derive(Debug, Clone, Copy)]
struct Results {
    logits: Tensor,
    best: Tensor,
}

/// Plans of decoding: one position, and several at once if the model takes them.
struct Recorded {
    step: (FixedPlan, Inputs, Results),
    prefill: Option<(FixedPlan, Inputs)>,
    context: usize,
    vocabulary: usize,
}

fn record(problem: &Problem, target: Target, batch: usize) -> Result<Recorded> {
    let none = || Error::Config("this run predicts no numbers one after another: there is no sequence to continue".into());
    let fields = problem.source().fields();
    let ([context], vocabulary) =
        (fields.shape("engine generate", "tokens").map_err(|_| none())?, fields.below("engine generate", "tokens")?);
    let no_step = || {
        let layers = "embedding, linear, activations, norms, residual, mamba2, and causal self_attention or transformer_block";
        Error::Config(format!(
            "this model has no step of decoding: `engine generate` takes runs of a sequence_transformer, and stacks of {layers}"
        ))
    };
    let (mut plan, io) = problem.record_positions(target, batch, 1)?.ok_or_else(no_step)?;
    let best = plan.activation("decode.best", &[batch])?;
    argmax::Forward { x: io.output, y: best, rows: batch, cols: vocabulary }.record(&mut plan, "decode")?;
    plan.keep(best);
    let step = (plan.pruned(), Inputs::of(&io.feed)?, Results { logits: io.output, best });
    let prefill =
        problem.record_positions(target, batch, PREFILL)?.map(|(plan, io)| Ok::<_, Error>((plan.pruned(), Inputs::of(&io.feed)?)));
    Ok(Recorded { step, prefill: prefill.transpose()?, context, vocabulary })
}

/// Memory that decoding `batch` sequences at once needs.
///
/// # Errors
/// `Config` when sizes overflow.
pub fn memory(problem: &Problem, target: Target, batch: usize) -> Result<Memory> {
    let Recorded { step, prefill, .. } = record(problem, target, batch)?;
    let plans = [step.0].into_iter().chain(prefill.map(|(plan, _)| plan)).collect();
    Ok(Memory::lay_out(plans, LayoutOptions::default())?.0)
}

/// Decoder of a batch of sequences of equal length.
#[derive(Debug)]
pub struct Decoder {
    step: (Program, Inputs),
    results: Results,
    /// Feed of several positions at once. A model that has one keeps of a sequence what does not grow, and continues it without an end.
    prefill: Option<(Program, Inputs)>,
    batch: usize,
    /// Number of positions of a sequence in training.
    context: usize,
    /// Number of different numbers (tokens).
    vocabulary: usize,
    /// Compute all positions anew for each number, instead of caching what they leave.
    pub naive: bool,
    /// Number of the newest positions that are fed again when the context is full: all of it as if there were no cache, or fewer, so that
    /// the cache has room for what follows.
    pub kept: usize,
    position: usize,
    /// Number of feeds since the cache was empty.
    feeds: u32,
    /// Batch row of the cache that holds each position, for each sequence.
    sources: Vec<Vec<u32>>,
}

impl Decoder {
    /// A decoder of `batch` rows with the given flat weights.
    ///
    /// # Errors
    /// Errors of recording the plan and of placing it on the device.
    pub fn new(problem: &Problem, gpu: &Arc<Gpu>, batch: usize) -> Result<Decoder> {
        let Recorded { step: (plan, inputs, results), prefill, context, vocabulary } = record(problem, gpu.target, batch)?;
        let (plans, feeds): (Vec<_>, Vec<_>) = [(plan, inputs)].into_iter().chain(prefill).unzip();
        let (memory, lowered) = Memory::lay_out(plans, LayoutOptions::default())?;
        let arena = Arc::new(Arena::new(gpu.clone(), &memory)?);
        let programs = lowered.into_iter().map(|lowered| Program::new(lowered, arena.clone())).collect::<Result<Vec<_>>>()?;
        let mut made = programs.into_iter().zip(feeds);
        let step = made.next().ok_or_else(|| Error::Internal("a decoder without a step".into()))?;
        let prefill = made.next();
        Ok(Decoder {
            step,
            results,
            prefill,
            batch,
            context,
            vocabulary,
            naive: false,
            kept: context,
            position: 0,
            feeds: 0,
            sources: vec![],
        })
    }

    /// Plan of a decoding step, which lists the parameters for loading weights.
    pub fn plan(&self) -> &FixedPlan {
        &self.step.0.plan
    }

    /// Writes the weights to the device.
    ///
    /// # Errors
    /// `Internal` when the length differs.
    pub fn load(&self, weights: &[f32]) -> Result<()> {
        self.step.0.arena().write_flat(Flat::Parameters, weights)
    }

    /// Starts anew with an empty cache.
    pub fn reset(&mut self) {
        self.position = 0;
        self.feeds = 0;
        self.sources = (0..self.batch as u32).map(|row| vec![row; self.context]).collect();
    }

    /// Number of positions of a sequence in training.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Number of positions that the model sees; none if it sees all that there were.
    pub fn limit(&self) -> Option<usize> {
        self.prefill.is_none().then_some(self.context)
    }

    /// True if the cache has room for no further position.
    pub fn is_full(&self) -> bool {
        self.limit() == Some(self.position)
    }

    /// Feeds one number to each row at the next position.
    ///
    /// # Errors
    /// `Internal` when the context is full, `TryAgain` on device loss.
    pub fn feed(&mut self, tokens: &[u32]) -> Result<()> {
        if self.is_full() || tokens.len() != self.batch {
            return Err(Error::Internal(format!("decoding {} numbers at position {}", tokens.len(), self.position)));
        }
        self.run(&self.step, tokens)?;
        (self.position, self.feeds) = (self.position + 1, self.feeds.wrapping_add(1));
        Ok(())
    }

    /// Writes what a program takes, and replays it.
    fn run(&self, (program, inputs): &(Program, Inputs), tokens: &[u32]) -> Result<()> {
        program.write(inputs.state, &[State { position: self.position as u32, tick: self.feeds, ..State::default() }]);
        program.write(inputs.tokens, tokens);
        program.write(inputs.sources, &self.sources.concat());
        program.run(program.all())
    }

    /// The most probable number of each row after the last number that was fed.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn best(&self) -> Result<Vec<u32>> {
        self.step.0.read(self.results.best)
    }

    /// Logits of each row after the last number that was fed.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn logits(&self) -> Result<Vec<Vec<f32>>> {
        let flat: Vec<f32> = self.step.0.read(self.results.logits)?;
        Ok(flat.chunks(self.vocabulary).map(<[f32]>::to_vec).collect())
    }

    /// Feeds whole sequences from an empty cache; of more than a model sees, the last that are kept. The last number is fed alone, for its
    /// logits.
    ///
    /// # Errors
    /// `Internal` unless each row has a sequence and all have one length, `TryAgain` on device loss.
    pub fn prefill(&mut self, rows: &[Vec<u32>]) -> Result<()> {
        let length = rows.first().map_or(0, Vec::len);
        if rows.len() != self.batch || rows.iter().any(|row| row.len() != length) {
            return Err(Error::Internal(format!("feeding {} sequences, or of unequal lengths, to {} rows", rows.len(), self.batch)));
        }
        self.reset();
        let mut at = if self.limit().is_some_and(|limit| length > limit) { length - self.kept } else { 0 };
        while let Some(prefill) = self.prefill.as_ref().filter(|_| length - at > PREFILL) {
            let tokens: Vec<u32> = rows.iter().flat_map(|row| &row[at..at + PREFILL]).copied().collect();
            self.run(prefill, &tokens)?;
            (at, self.position, self.feeds) = (at + PREFILL, self.position + PREFILL, self.feeds.wrapping_add(1));
        }
        for at in at..length {
            let tokens: Vec<u32> = rows.iter().map(|row| row[at]).collect();
            self.feed(&tokens)?;
        }
        Ok(())
    }

    /// Feeds the newest number of each sequence. With a full context all positions shift, so the cache is filled anew, as if there were
    /// none.
    fn advance(&mut self, rows: &[Vec<u32>]) -> Result<()> {
        if self.naive || self.is_full() {
            return self.prefill(rows);
        }
        let newest: Vec<u32> = rows.iter().map(|row| row[row.len() - 1]).collect();
        self.feed(&newest)
    }

    /// Continues a prompt by `count` numbers.
    ///
    /// # Errors
    /// `Config` for an empty prompt or numbers out of range, `TryAgain` on device loss.
    pub fn generate(&mut self, prompt: &[u32], count: usize, strategy: Strategy) -> Result<Vec<u32>> {
        self.expect_prompt(prompt)?;
        if let Strategy::Beam(_) = strategy {
            return self.search(prompt, count);
        }
        let mut made = Vec::with_capacity(count);
        self.stream(prompt, count, strategy, |newest| {
            made.push(newest[0]);
            Ok(true)
        })?;
        Ok(made)
    }

    /// Continues a prompt by at most `count` numbers in each row, and gives the newest of each row to a function, which says whether to go
    /// on.
    ///
    /// # Errors
    /// As `generate`, `Internal` for a beam search, and those of the function.
    pub fn stream(&mut self, prompt: &[u32], count: usize, strategy: Strategy, mut each: impl FnMut(&[u32]) -> Result<bool>) -> Result<()> {
        self.expect_prompt(prompt)?;
        let seed = if let Strategy::Sampling(sampling) = strategy { sampling.seed } else { 0 };
        let mut random: Vec<Random> = (0..self.batch as u64).map(|row| Random::new(seed, stream::GENERATE, row)).collect();
        let mut rows = vec![prompt.to_vec(); self.batch];
        self.prefill(&rows)?;
        for n in 0..count {
            let newest: Vec<u32> = match strategy {
                Strategy::Greedy => self.best()?,
                Strategy::Sampling(sampling) => {
                    self.logits()?.iter().zip(&mut random).map(|(logits, random)| sampling.draw(logits, random)).collect()
                }
                Strategy::Beam(_) => return Err(Error::Internal("the numbers of a beam search are known at its end".into())),
            };
            rows.iter_mut().zip(&newest).for_each(|(row, number)| row.push(*number));
            if !each(&newest)? || n + 1 == count {
                break;
            }
            self.advance(&rows)?;
        }
        Ok(())
    }

    /// Fails on a prompt that is empty or has numbers which the model does not know.
    ///
    /// # Errors
    /// `Config`.
    pub fn expect_prompt(&self, prompt: &[u32]) -> Result<()> {
        let list = || shortened(&format!("{prompt:?}"));
        match prompt.is_empty() || prompt.iter().any(|v| *v as usize >= self.vocabulary) {
            true => Err(Error::Config(format!("--prompt {}: give at least one number, each from 0 to {}", list(), self.vocabulary - 1))),
            false => Ok(()),
        }
    }

    /// Continues a prompt by beam search.
    fn search(&mut self, prompt: &[u32], count: usize) -> Result<Vec<u32>> {
        let mut rows = vec![prompt.to_vec(); self.batch];
        let mut scores = vec![0.0; self.batch];
        self.prefill(&rows)?;
        for n in 0..count {
            (rows, scores) = self.split_beams(rows, &scores, n == 0)?;
            if n + 1 < count {
                self.advance(&rows)?;
            }
        }
        Ok(rows[0][prompt.len()..].to_vec())
    }

    /// Extends all beams by one number and keeps the most probable ones, best first; `sources` tells which cache rows they use.
    fn split_beams(&mut self, rows: Vec<Vec<u32>>, scores: &[f64], first: bool) -> Result<(Vec<Vec<u32>>, Vec<f64>)> {
        let logits = self.logits()?;
        // All beams start from the same prompt; only one of them counts.
        let live = if first { 1 } else { rows.len() };
        let mut candidates: Vec<(f64, usize, u32)> = Vec::with_capacity(live * self.vocabulary);
        for (row, logits) in logits.iter().enumerate().take(live) {
            let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let lse = f64::from(top) + logits.iter().map(|v| f64::from(v - top).exp()).sum::<f64>().ln();
            candidates.extend(logits.iter().zip(0..).map(|(v, token)| (scores[row] + f64::from(*v) - lse, row, token)));
        }
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        candidates.truncate(rows.len());
        // Fewer than the beams, where those are more than the vocabulary: the others wait for the next number.
        if let Some((_, parent, token)) = candidates.first().copied() {
            candidates.resize(rows.len(), (f64::NEG_INFINITY, parent, token));
        }
        let old = self.sources.clone();
        for (beam, (_, parent, _)) in candidates.iter().enumerate() {
            self.sources[beam].clone_from(&old[*parent]);
            self.sources[beam][(self.position - 1) % self.context] = *parent as u32;
        }
        let extend = |(_, parent, token): &(f64, usize, u32)| {
            let mut row = rows[*parent].clone();
            row.push(*token);
            row
        };
        Ok((candidates.iter().map(extend).collect(), candidates.iter().map(|c| c.0).collect()))
    }
}

impl Sampling {
    /// Draws a number.
    pub fn draw(&self, logits: &[f32], random: &mut Random) -> u32 {
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |logit: f32| (f64::from(logit - top) / self.temperature).exp();
        let mut numbers: Vec<(u32, f64)> = (0..).zip(logits).map(|(number, logit)| (number, weight(*logit))).collect();
        if self.top_k.is_some() || self.top_p.is_some() {
            numbers.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            numbers.truncate(self.top_k.unwrap_or(usize::MAX).max(1));
            let wanted = self.top_p.unwrap_or(1.0) * numbers.iter().map(|(_, weight)| weight).sum::<f64>();
            let mut before = 0.0;
            numbers.retain(|(_, weight)| {
                let stays = before < wanted;
                before += weight;
                stays
            });
        }
        let mut left = random.uniform() * numbers.iter().map(|(_, weight)| weight).sum::<f64>();
        for (number, weight) in &numbers {
            left -= weight;
            if left < 0.0 {
                return *number;
            }
        }
        numbers.last().map_or(0, |(number, _)| *number)
    }
}

/// Text of tokens as they come: whole characters, up to a text that ends it.
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    stop: Option<String>,
    tokens: Vec<u32>,
    bytes: Vec<u8>,
    /// Number of bytes that were given.
    given: usize,
    /// True once the text that ends it has come.
    pub ended: bool,
}

impl<'a> TextStream<'a> {
    /// A text that ends before `stop`.
    pub fn new(tokenizer: &'a Tokenizer, stop: Option<&str>) -> Self {
        let stop = stop.filter(|stop| !stop.is_empty()).map(String::from);
        TextStream { tokenizer, stop, tokens: vec![], bytes: vec![], given: 0, ended: false }
    }

    /// Takes a token, and gives the text that is certain now: without the first bytes of a character, and without what may be the
    /// beginning of the text that ends it.
    pub fn push(&mut self, token: u32) -> String {
        if self.ended {
            return String::new();
        }
        self.tokens.push(token);
        match self.tokenizer.has_bytes() {
            true => self.bytes.extend(self.tokenizer.decode(&[token])),
            false => self.bytes = self.tokenizer.decode(&self.tokens),
        }
        let mut end = self.bytes.len() - begun(&self.bytes);
        if let Some(stop) = self.stop.as_deref().map(str::as_bytes) {
            let rest = &self.bytes[self.given.min(end)..end];
            if let Some(at) = rest.windows(stop.len()).position(|part| part == stop) {
                (self.ended, end) = (true, self.given + at);
            } else {
                end -= (1..stop.len()).rev().find(|n| rest.ends_with(&stop[..*n])).unwrap_or(0);
            }
        }
        self.give(end)
    }

    /// The rest of the text.
    pub fn finish(&mut self) -> String {
        if self.ended { String::new() } else { self.give(self.bytes.len()) }
    }

    fn give(&mut self, end: usize) -> String {
        let text = String::from_utf8_lossy(self.bytes.get(self.given..end).unwrap_or_default()).into_owned();
        self.given = self.given.max(end);
        text
    }
}

/// Number of bytes at the end of a text that begin a character which is not whole.
fn begun(bytes: &[u8]) -> usize {
    let wanted = |byte: u8| match byte {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => 1,
    };
    let back = |n: &usize| bytes.len().checked_sub(*n).is_some_and(|at| bytes[at] & 0xC0 != 0x80);
    (1..4).find(back).filter(|n| wanted(bytes[bytes.len() - n]) > *n).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_come_whole_and_a_text_ends_before_its_stop() {
        let told = |text: &str, stop| {
            let mut stream = TextStream::new(&Tokenizer::Bytes, stop);
            let mut parts: Vec<String> = text.bytes().map(|byte| stream.push(byte.into())).collect();
            parts.push(stream.finish());
            parts
        };
        assert_eq!(told("aß", None), ["a", "", "ß", ""]);
        assert_eq!(told("an end", Some("end")).concat(), "an ");
        assert_eq!(told("eend", Some("end")), ["", "e", "", "", ""]);
        assert_eq!(told("en", Some("end")), ["", "", "en"]);
        let mut cut = TextStream::new(&Tokenizer::Bytes, None);
        assert_eq!((cut.push(0xE2), cut.push(0x82), cut.finish()), (String::new(), String::new(), "\u{FFFD}".into()));
    }

    #[test]
    fn the_most_probable_alone_take_part() {
        let logits = [0.0f32, 2.0, 1.0, -1.0];
        let drawn = |top_k, top_p| {
            let sampling = Sampling { temperature: 1.0, seed: 1, top_k, top_p };
            let mut random = Random::new(1, 1, 0);
            let numbers: std::collections::BTreeSet<u32> = (0..500).map(|_| sampling.draw(&logits, &mut random)).collect();
            Vec::from_iter(numbers)
        };
        assert_eq!(drawn(None, None), [0, 1, 2, 3]);
        assert_eq!(drawn(Some(2), None), [1, 2]);
        // Probabilities 0.64, 0.24, 0.09, 0.03.
        assert_eq!(drawn(None, Some(0.7)), [1, 2]);
        assert_eq!(drawn(None, Some(0.6)), [1]);
    }
}
