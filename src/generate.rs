//! Decoding with a cache on the device: greedy, beam search, temperature sampling.

use std::sync::Arc;

use crate::datasets::tokenizer::Tokenizer;
use crate::error::{Error, Result};
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

/// Number of positions of a state that a prompt is fed by at once, and of the smallest plan that feeds a cache at once.
const PREFILL: usize = 64;

/// So many positions or more are fed to a cache at once; fewer are one by one.
const WORTH: usize = 8;

/// Most rows (positions of all sequences) that a plan feeds to a cache at once, unless it is the smallest: they bound its memory.
const ROWS: usize = 1 << 14;

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

/// Plans of decoding: one position, and several at once.
struct Recorded {
    step: (FixedPlan, Inputs, Results),
    feeds: Vec<(FixedPlan, Inputs)>,
    /// Numbers of positions of the feeds, ascending.
    sizes: Vec<usize>,
    endless: bool,
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
    // A cache is fed with any number of positions at once, as it overwrites what a larger plan has fed beyond them; a state with as many as
    // its plan has. Where there are both, one by one.
    let mut sizes: Vec<usize> = match (io.endless, io.keeps_state) {
        (true, _) => vec![PREFILL],
        (false, true) => vec![],
        (false, false) => {
            let more =
                std::iter::successors(Some(PREFILL), |size| Some(2 * size)).take_while(|size| *size == PREFILL || size * batch <= ROWS);
            let mut sizes: Vec<usize> = more.take_while(|size| *size < context).collect();
            if sizes.is_empty() || sizes.len() > 1 && context * batch <= ROWS {
                sizes.push(context);
            }
            sizes
        }
    };
    sizes.retain(|size| *size > WORTH);
    let mut feeds = vec![];
    for size in &sizes {
        let (plan, io) = problem.record_positions(target, batch, *size)?.ok_or_else(no_step)?;
        feeds.push((plan.pruned(), Inputs::of(&io.feed)?));
    }
    Ok(Recorded { step, feeds, sizes, endless: io.endless, context, vocabulary })
}

/// Memory that decoding `batch` sequences at once needs.
///
/// # Errors
/// `Config` when sizes overflow.
pub fn memory(problem: &Problem, target: Target, batch: usize) -> Result<Memory> {
    let Recorded { step, feeds, .. } = record(problem, target, batch)?;
    let plans = [step.0].into_iter().chain(feeds.into_iter().map(|(plan, _)| plan)).collect();
    Ok(Memory::lay_out(plans, LayoutOptions::default())?.0)
}

/// Decoder of a batch of sequences of equal length.
#[derive(Debug)]
pub struct Decoder {
    step: (Program, Inputs),
    results: Results,
    /// Feeds of several positions at once, with their number, ascending.
    several: Vec<(usize, (Program, Inputs))>,
    /// What the model keeps of a sequence does not grow, so that it continues it without an end.
    endless: bool,
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
        let Recorded { step: (plan, inputs, results), feeds, sizes, endless, context, vocabulary } = record(problem, gpu.target, batch)?;
        let (plans, feeds): (Vec<_>, Vec<_>) = [(plan, inputs)].into_iter().chain(feeds).unzip();
        let (memory, lowered) = Memory::lay_out(plans, LayoutOptions::default())?;
        let arena = Arc::new(Arena::new(gpu.clone(), &memory)?);
        let programs = lowered.into_iter().map(|lowered| Program::new(lowered, arena.clone())).collect::<Result<Vec<_>>>()?;
        let mut made = programs.into_iter().zip(feeds);
        let step = made.next().ok_or_else(|| Error::Internal("a decoder without a step".into()))?;
        let several = sizes.into_iter().zip(made).collect();
        Ok(Decoder {
            step,
            results,
            several,
            endless,
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
        (!self.endless).then_some(self.context)
    }

    /// Feeds one number to each row at the next position.
    ///
    /// # Errors
    /// `Internal` when the context is full, `TryAgain` on device loss.
    pub fn feed(&mut self, tokens: &[u32]) -> Result<()> {
        if self.limit() == Some(self.position) || tokens.len() != self.batch {
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
        while let Some((size, feed)) = self.fed_at_once(length - at) {
            let count = (*size).min(length - at - 1);
            // What follows those that count is overwritten before it is seen.
            let rest = std::iter::repeat_n(&0, size - count);
            let tokens: Vec<u32> = rows.iter().flat_map(|row| row[at..at + count].iter().chain(rest.clone())).copied().collect();
            self.run(feed, &tokens)?;
            (at, self.position, self.feeds) = (at + count, self.position + count, self.feeds.wrapping_add(1));
        }
        for at in at..length {
            let tokens: Vec<u32> = rows.iter().map(|row| row[at]).collect();
            self.feed(&tokens)?;
        }
        Ok(())
    }

    /// The feed of several of so many numbers that is next, with the number of its positions; none if they go one by one.
    fn fed_at_once(&self, left: usize) -> Option<&(usize, (Program, Inputs))> {
        let before_last = left.saturating_sub(1);
        if self.endless {
            return self.several.first().filter(|(size, _)| before_last >= *size);
        }
        let suits = self.several.iter().find(|(size, _)| *size >= before_last).or(self.several.last());
        suits.filter(|_| self.position == 0 && before_last >= WORTH)
    }

    /// Feeds the newest number of each sequence. With a full context all positions shift, so the cache is filled anew, as if there were
    /// none.
    fn advance(&mut self, rows: &[Vec<u32>]) -> Result<()> {
        if self.naive || self.limit() == Some(self.position) {
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
        self.stream(&vec![prompt.to_vec(); self.batch], count, strategy, |newest| {
            made.extend(newest[0]);
            Ok(true)
        })?;
        Ok(made)
    }

    /// Continues the prompt of each row by at most `count` numbers, and gives those that are new to a function, which says whether to go on.
    /// All rows are at the same position: a longer prompt goes on to be fed while a shorter one has new numbers already.
    ///
    /// # Errors
    /// As `generate`, `Internal` unless each row has a prompt or for a beam search, and those of the function.
    pub fn stream(
        &mut self,
        prompts: &[Vec<u32>],
        count: usize,
        strategy: Strategy,
        mut each: impl FnMut(&[Option<u32>]) -> Result<bool>,
    ) -> Result<()> {
        prompts.iter().try_for_each(|prompt| self.expect_prompt(prompt))?;
        let lengths = prompts.iter().map(Vec::len);
        let (Some(shortest), Some(longest)) = (lengths.clone().min(), lengths.max().filter(|_| count > 0)) else { return Ok(()) };
        let seed = if let Strategy::Sampling(sampling) = strategy { sampling.seed } else { 0 };
        let mut random: Vec<Random> = (0..self.batch as u64).map(|row| Random::new(seed, stream::GENERATE, row)).collect();
        let mut rows: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt[..shortest].to_vec()).collect();
        self.prefill(&rows)?;
        for length in shortest.. {
            let makes = |row: usize| (prompts[row].len()..prompts[row].len() + count).contains(&length);
            let made: Vec<Option<u32>> = match strategy {
                Strategy::Greedy => {
                    let best: Vec<u32> = self.step.0.read(self.results.best)?;
                    best.into_iter().enumerate().map(|(row, number)| makes(row).then_some(number)).collect()
                }
                Strategy::Sampling(sampling) => {
                    let drawn = self.logits()?.into_iter().zip(&mut random).enumerate();
                    drawn.map(|(row, (logits, random))| makes(row).then(|| sampling.draw(&logits, random))).collect()
                }
                Strategy::Beam(_) => return Err(Error::Internal("the numbers of a beam search are known at its end".into())),
            };
            // A row that has all its numbers goes on with any, for the others.
            let newest = made.iter().zip(prompts).map(|(made, prompt)| made.or(prompt.get(length).copied()).unwrap_or(0));
            rows.iter_mut().zip(newest).for_each(|(row, number)| row.push(number));
            if !each(&made)? || length + 1 == longest + count {
                break;
            }
            self.advance(&rows)?;
        }
        Ok(())
    }

    fn expect_prompt(&self, prompt: &[u32]) -> Result<()> {
        match prompt.is_empty() || prompt.iter().any(|v| *v as usize >= self.vocabulary) {
            true => Err(Error::Config(format!("--prompt {prompt:?}: give at least one number, each from 0 to {}", self.vocabulary - 1))),
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
    fn draw(&self, logits: &[f32], random: &mut Random) -> u32 {
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
    stop: Option<&'a str>,
    tokens: Vec<u32>,
    bytes: Vec<u8>,
    /// Number of bytes that were given.
    given: usize,
    /// True once the text that ends it has come.
    pub ended: bool,
}

impl<'a> TextStream<'a> {
    /// A text that ends before `stop`.
    pub fn new(tokenizer: &'a Tokenizer, stop: Option<&'a str>) -> Self {
        TextStream { tokenizer, stop: stop.filter(|stop| !stop.is_empty()), tokens: vec![], bytes: vec![], given: 0, ended: false }
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
        if let Some(stop) = self.stop.map(str::as_bytes) {
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
