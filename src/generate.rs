//! Decoding with a cache on the device: greedy, beam search, temperature sampling.

use std::sync::Arc;

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
    /// Sampling from softmax(logits / temperature), with a seed.
    Temperature(f64, u64),
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
        Ok(Decoder { step, results, prefill, batch, context, vocabulary, naive: false, position: 0, feeds: 0, sources: vec![] })
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

    /// Feeds whole sequences from an empty cache; of a model with a limit the last numbers that it sees. The last number is fed alone, for
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
        let mut at = self.limit().map_or(0, |limit| length.saturating_sub(limit));
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
        let mut numbers = Vec::new();
        self.generate_each(prompt, count, strategy, |number| {
            numbers.push(number);
            true
        })?;
        Ok(numbers)
    }

    /// Continues a prompt as `generate` does, and gives each number as soon as it is known, until `each` gives false. Those of a beam
    /// search are known at its end.
    ///
    /// # Errors
    /// As `generate`.
    pub fn generate_each(&mut self, prompt: &[u32], count: usize, strategy: Strategy, mut each: impl FnMut(u32) -> bool) -> Result<()> {
        if prompt.is_empty() || prompt.iter().any(|v| *v as usize >= self.vocabulary) {
            return Err(Error::Config(format!("--prompt {prompt:?}: give at least one number, each from 0 to {}", self.vocabulary - 1)));
        }
        let mut rows = vec![prompt.to_vec(); self.batch];
        let mut scores = vec![0.0; self.batch];
        let mut random = match strategy {
            Strategy::Temperature(_, seed) => Random::new(seed, stream::GENERATE, 0),
            _ => Random::new(0, stream::GENERATE, 0),
        };
        self.prefill(&rows)?;
        for n in 0..count {
            match strategy {
                Strategy::Greedy => {
                    let best: Vec<u32> = self.step.0.read(self.results.best)?;
                    rows.iter_mut().zip(best).for_each(|(row, v)| row.push(v));
                }
                Strategy::Temperature(temperature, _) => {
                    for (row, logits) in rows.iter_mut().zip(self.logits()?) {
                        row.push(draw(&logits, temperature, &mut random));
                    }
                }
                Strategy::Beam(_) => (rows, scores) = self.split_beams(rows, &scores, n == 0)?,
            }
            if !matches!(strategy, Strategy::Beam(_)) && !each(rows[0][prompt.len() + n]) {
                return Ok(());
            }
            if n + 1 < count {
                self.advance(&rows)?;
            }
        }
        if let Strategy::Beam(_) = strategy {
            let _ = rows[0][prompt.len()..].iter().all(|number| each(*number));
        }
        Ok(())
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

/// Draws a number from softmax(logits / temperature).
fn draw(logits: &[f32], temperature: f64, random: &mut Random) -> u32 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits.iter().map(|v| (f64::from(v - top) / temperature).exp()).collect();
    let mut left = random.uniform() * weights.iter().sum::<f64>();
    for (token, weight) in (0..).zip(&weights) {
        left -= weight;
        if left < 0.0 {
            return token;
        }
    }
    weights.len() as u32 - 1
}
