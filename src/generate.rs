//! Decoding with a cache on the device: greedy, beam search, temperature sampling.

use std::sync::Arc;

use crate::error::{Error, Result, shortened};
use crate::gpu::{Gpu, Target};
use crate::kernels::{State, argmax};
use crate::plan::{Arena, FixedPlan, Flat, LayoutOptions, Memory, Program, Tensor};
use crate::problem::Problem;
use crate::random::{Random, stream};
use crate::sampling::TEMPERATURE;
pub use crate::sampling::{Sampling, TextStream};
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
        let usual = if of_text { TEMPERATURE } else { f64::from(u8::from(top_k.is_some() || top_p.is_some())) };
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

/// Plans of decoding: of one position, and of several at once.
struct Recorded {
    plans: Vec<FixedPlan>,
    inputs: Vec<Inputs>,
    results: Results,
    /// Numbers of positions of the second plan and those after it, ascending.
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
    let results = Results { logits: io.output, best };
    let (mut plans, mut inputs) = (vec![plan.pruned()], vec![Inputs::of(&io.feed)?]);
    // A cache is fed with any number of positions at once, as it overwrites what a larger plan has fed beyond them; a state with as many as
    // its plan has. Where there are both, one by one.
    let sizes: Vec<usize> = match (io.endless, io.keeps_state) {
        (true, _) => vec![PREFILL],
        (false, true) => vec![],
        (false, false) => {
            let smallest = PREFILL.min(context);
            let doubled = std::iter::successors(Some(smallest), |size| (*size < context).then(|| (2 * size).min(context)));
            doubled.take_while(|size| *size == smallest || size * batch <= ROWS).filter(|size| *size > WORTH).collect()
        }
    };
    for size in &sizes {
        let (plan, io) = problem.record_positions(target, batch, *size)?.ok_or_else(no_step)?;
        plans.push(plan.pruned());
        inputs.push(Inputs::of(&io.feed)?);
    }
    Ok(Recorded { plans, inputs, results, sizes, endless: io.endless, context, vocabulary })
}

/// Memory that decoding `batch` sequences at once needs.
///
/// # Errors
/// `Config` when sizes overflow.
pub fn memory(problem: &Problem, target: Target, batch: usize) -> Result<Memory> {
    Ok(Memory::lay_out(record(problem, target, batch)?.plans, LayoutOptions::default())?.0)
}

/// The first position of a sequence of this length that a model sees which was fed it number by number: whenever its cache of `limit`
/// positions was full, it has begun anew with the last `kept`.
fn first_seen(length: usize, limit: usize, kept: usize) -> usize {
    let between = limit - kept + 1;
    length.saturating_sub(limit).div_ceil(between) * between
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
    /// A decoder of `batch` rows, which `load` gives its weights.
    ///
    /// # Errors
    /// Errors of recording the plan and of placing it on the device.
    pub fn new(problem: &Problem, gpu: &Arc<Gpu>, batch: usize) -> Result<Decoder> {
        Decoder::sharing_weights(problem, gpu, &[batch])?.pop().ok_or_else(|| Error::Internal("no decoder was made".into()))
    }

    /// Decoders of so many rows each, with one copy of the weights: `load` of any of them gives them to all. What one has found is read
    /// before another of them is fed, as they share what lasts no longer than a step.
    ///
    /// # Errors
    /// As `new`.
    pub fn sharing_weights(problem: &Problem, gpu: &Arc<Gpu>, batches: &[usize]) -> Result<Vec<Decoder>> {
        let (mut plans, mut decoders) = (vec![], vec![]);
        for batch in batches {
            let mut recorded = record(problem, gpu.target, *batch)?;
            plans.extend(std::mem::take(&mut recorded.plans).into_iter().map(|plan| plan.apart(&format!("{batch} rows"))));
            decoders.push((*batch, recorded));
        }
        let (memory, lowered) = Memory::lay_out(plans, LayoutOptions::default())?;
        let arena = Arc::new(Arena::new(gpu.clone(), &memory)?);
        let mut lowered = lowered.into_iter();
        let mut made = |(batch, recorded): (usize, Recorded)| {
            let Recorded { inputs, results, sizes, endless, context, vocabulary, .. } = recorded;
            let program = |(lowered, inputs)| Ok((Program::new(lowered, arena.clone())?, inputs));
            let mut programs = lowered.by_ref().take(inputs.len()).zip(inputs).map(program).collect::<Result<Vec<_>>>()?.into_iter();
            let step = programs.next().ok_or_else(|| Error::Internal("a decoder without a step".into()))?;
            Ok(Decoder {
                step,
                results,
                several: sizes.into_iter().zip(programs).collect(),
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
        };
        decoders.into_iter().map(&mut made).collect()
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

    /// True if the cache has room for no further position.
    fn is_full(&self) -> bool {
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

    /// Feeds whole sequences from an empty cache; of more than a model sees, the last numbers alone. The very last is fed by itself, for
    /// its logits.
    ///
    /// # Errors
    /// `Internal` unless each row has a sequence and all have one length, `TryAgain` on device loss.
    pub fn prefill(&mut self, rows: &[Vec<u32>]) -> Result<()> {
        let length = rows.first().map_or(0, Vec::len);
        if rows.len() != self.batch || rows.iter().any(|row| row.len() != length) {
            return Err(Error::Internal(format!("feeding {} sequences, or of unequal lengths, to {} rows", rows.len(), self.batch)));
        }
        self.reset();
        let mut at = self.limit().map_or(0, |limit| first_seen(length, limit, self.kept));
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

    /// Feeds the newest number of each sequence, all others of which have been fed. With a full context all positions shift, so the cache
    /// is filled anew, as if there were none.
    ///
    /// # Errors
    /// As `prefill`.
    pub fn advance(&mut self, rows: &[Vec<u32>]) -> Result<()> {
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
            return self.search(prompt, count, || true);
        }
        let mut made = Vec::with_capacity(count);
        self.stream(&vec![prompt.to_vec(); self.batch], count, strategy, |newest| {
            made.extend(newest[0]);
            Ok(true)
        })?;
        Ok(made)
    }

    /// Continues the prompt of each row by at most `count` numbers, and gives those that are new to a function, which says whether to go
    /// on. All rows are at the same position: a longer prompt goes on to be fed while a shorter one has new numbers already.
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
                Strategy::Greedy => self.best()?.into_iter().enumerate().map(|(row, number)| makes(row).then_some(number)).collect(),
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

    /// Continues a prompt by beam search, as long as a function says that its result is wanted.
    ///
    /// # Errors
    /// As `generate`.
    pub fn search(&mut self, prompt: &[u32], count: usize, wanted: impl Fn() -> bool) -> Result<Vec<u32>> {
        self.expect_prompt(prompt)?;
        let mut rows = vec![prompt.to_vec(); self.batch];
        let mut scores = vec![0.0; self.batch];
        self.prefill(&rows)?;
        for n in (0..count).take_while(|_| wanted()) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_cache_begins_anew_with_what_is_kept() {
        for (limit, kept) in [(16, 8), (7, 4), (5, 5), (2, 1)] {
            let (mut first, mut held) = (0, 0);
            for length in 1..60 {
                if held == limit {
                    (first, held) = (length - kept, kept - 1);
                }
                held += 1;
                assert_eq!(first_seen(length, limit, kept), first, "{length} of {limit}, {kept} kept");
            }
        }
    }
}
