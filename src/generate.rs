//! Decoding with a key-value cache on the device: greedy, beam search, temperature sampling.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Target};
use crate::kernels::{State, argmax};
use crate::plan::{FixedPlan, Flat, LayoutOptions, Memory, Program, Tensor};
use crate::problem::Problem;
use crate::random::{Random, stream};

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

#[derive(Debug, Clone, Copy)]
struct Tensors {
    tokens: Tensor,
    sources: Tensor,
    state: Tensor,
    logits: Tensor,
    best: Tensor,
}

/// Records a decoding step: its plan, its tensors, and the sizes [context length, vocabulary].
fn record(problem: &Problem, target: Target, batch: usize) -> Result<(FixedPlan, Tensors, [usize; 2])> {
    let none = || Error::Config("this run predicts no numbers one after another: there is no sequence to continue".into());
    let fields = problem.source().fields();
    let ([context], vocabulary) =
        (fields.shape("engine generate", "tokens").map_err(|_| none())?, fields.below("engine generate", "tokens")?);
    let no_step = || {
        Error::Config(
            "this model has no step of decoding: `engine generate` takes runs of a sequence_transformer or a mechanism_transformer".into(),
        )
    };
    let (mut plan, io) = problem.record_position(target, batch)?.ok_or_else(no_step)?;
    let best = plan.activation("decode.best", &[batch])?;
    argmax::Forward { x: io.output, y: best, rows: batch, cols: vocabulary }.record(&mut plan, "decode")?;
    plan.keep(best);
    let tensors =
        Tensors { tokens: io.feed.input("tokens")?, sources: io.feed.input("sources")?, state: io.feed.state, logits: io.output, best };
    Ok((plan.pruned(), tensors, [context, vocabulary]))
}

/// Memory that decoding `batch` sequences at once needs.
///
/// # Errors
/// `Config` when sizes overflow.
pub fn memory(problem: &Problem, target: Target, batch: usize) -> Result<Memory> {
    Ok(Memory::of(record(problem, target, batch)?.0, LayoutOptions::default())?.0)
}

/// Decoder of a batch of sequences of equal length.
#[derive(Debug)]
pub struct Decoder {
    program: Program,
    tensors: Tensors,
    batch: usize,
    /// Largest number of positions of a sequence.
    context: usize,
    /// Number of different numbers (tokens).
    vocabulary: usize,
    /// Compute all positions anew for each number, instead of caching their keys and values.
    pub naive: bool,
    position: usize,
    /// Batch row of the cache that holds each position, for each sequence.
    sources: Vec<Vec<u32>>,
}

impl Decoder {
    /// A decoder of `batch` rows with the given flat weights.
    ///
    /// # Errors
    /// Errors of recording the plan and of placing it on the device.
    pub fn new(problem: &Problem, gpu: &Arc<Gpu>, batch: usize) -> Result<Decoder> {
        let (plan, tensors, [context, vocabulary]) = record(problem, gpu.target, batch)?;
        let (program, _) = Program::alone(plan, gpu)?;
        Ok(Decoder { program, tensors, batch, context, vocabulary, naive: false, position: 0, sources: vec![] })
    }

    /// Plan of a decoding step, which lists the parameters for loading weights.
    pub fn plan(&self) -> &FixedPlan {
        &self.program.plan
    }

    /// Writes the weights to the device.
    ///
    /// # Errors
    /// `Internal` when the length differs.
    pub fn load(&self, weights: &[f32]) -> Result<()> {
        self.program.arena().write_flat(Flat::Parameters, weights)
    }

    /// Starts anew with an empty cache.
    pub fn reset(&mut self) {
        self.position = 0;
        self.sources = (0..self.batch as u32).map(|row| vec![row; self.context]).collect();
    }

    /// Feeds one number to each row at the next position.
    ///
    /// # Errors
    /// `Internal` when the context is full, `TryAgain` on device loss.
    pub fn feed(&mut self, tokens: &[u32]) -> Result<()> {
        if self.position == self.context || tokens.len() != self.batch {
            return Err(Error::Internal(format!("decoding {} numbers at position {}", tokens.len(), self.position)));
        }
        let state = State { position: self.position as u32, ..State::default() };
        self.program.write(self.tensors.state, &[state]);
        self.program.write(self.tensors.tokens, tokens);
        self.program.write(self.tensors.sources, &self.sources.concat());
        self.program.run(self.program.all())?;
        self.position += 1;
        Ok(())
    }

    /// Logits of each row after the last number that was fed.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn logits(&self) -> Result<Vec<Vec<f32>>> {
        let flat: Vec<f32> = self.program.read(self.tensors.logits)?;
        Ok(flat.chunks(self.vocabulary).map(<[f32]>::to_vec).collect())
    }

    /// Feeds whole sequences from an empty cache; only the last numbers that fit the context count.
    fn prefill(&mut self, rows: &[Vec<u32>]) -> Result<()> {
        self.reset();
        let first = rows[0].len().saturating_sub(self.context);
        for at in first..rows[0].len() {
            let tokens: Vec<u32> = rows.iter().map(|row| row[at]).collect();
            self.feed(&tokens)?;
        }
        Ok(())
    }

    /// Feeds the newest number of each sequence. With a full context all positions shift, so the cache is filled anew, as if there were none.
    fn advance(&mut self, rows: &[Vec<u32>]) -> Result<()> {
        if self.naive || self.position == self.context {
            return self.prefill(rows);
        }
        let newest: Vec<u32> = rows.iter().map(|row| row[row.len() - 1]).collect();
        self.feed(&newest)
    }

    /// Largest number of positions of a sequence.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Continues a prompt by `count` numbers.
    ///
    /// # Errors
    /// `Config` for an empty prompt or numbers out of range, `TryAgain` on device loss.
    pub fn generate(&mut self, prompt: &[u32], count: usize, strategy: Strategy) -> Result<Vec<u32>> {
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
                    let best: Vec<u32> = self.program.read(self.tensors.best)?;
                    rows.iter_mut().zip(best).for_each(|(row, v)| row.push(v));
                }
                Strategy::Temperature(temperature, _) => {
                    for (row, logits) in rows.iter_mut().zip(self.logits()?) {
                        row.push(draw(&logits, temperature, &mut random));
                    }
                }
                Strategy::Beam(_) => (rows, scores) = self.split_beams(rows, &scores, n == 0)?,
            }
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
            self.sources[beam][self.position - 1] = *parent as u32;
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
