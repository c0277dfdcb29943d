//! The programs of a run on a device, with its weights: a training step, the evaluation of a batch, a step of decoding.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::kernels::State;
use crate::kernels::metrics::{RECORD, SCALE, SKIPPED, UPDATES};
use crate::losses::Columns;
use crate::metrics::Metrics;
use crate::plan::{Arena, Exchange, FixedPlan, LayoutOptions, Lowered, Memory, Parameter, Program, Tensor};
use crate::ranks::Ranks;

/// Steps whose records stay on the device until the host reads them.
pub(crate) const RING: u64 = 256;

/// What a step takes from the one before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Carried {
    /// Whether that was skipped.
    pub skipped: bool,
    /// Its loss scale, of a run in 16 bits.
    pub loss_scale: f32,
    /// Updates that the moments of the optimiser have had.
    pub updates: u64,
}

/// Where a batch goes in a plan.
#[derive(Debug, Clone)]
pub struct Feed {
    /// Step state.
    pub state: Tensor,
    /// Inputs by name.
    pub inputs: Vec<(&'static str, Tensor)>,
    /// Rows of a sample, of a loss whose means are taken over samples.
    pub sample_rows: Option<usize>,
    /// Samples.
    pub batch: usize,
}

impl Feed {
    /// Number that the means of a micro-batch are taken over.
    pub fn count(&self, batch: &Batch) -> usize {
        self.sample_rows.map_or(batch.count, |rows| batch.rows / rows)
    }

    /// Share of a micro-batch in the means of its step, so that each sample has the same weight whatever the form of the step. Terms that compare the samples
    /// of a micro-batch are weighted by their number.
    fn shares(&self, step: &[Batch]) -> impl Fn(&Batch) -> f32 {
        let all = step.iter().map(|batch| self.count(batch)).sum::<usize>().max(1) as f32;
        move |batch| self.count(batch) as f32 / all
    }

    /// Input of that name.
    ///
    /// # Errors
    /// `Internal` when the plan has none.
    pub fn input(&self, name: &str) -> Result<Tensor> {
        let found = self.inputs.iter().find(|(n, _)| *n == name).map(|(_, t)| *t);
        found.ok_or_else(|| Error::Internal(format!("a plan without input {name}")))
    }
}

/// What the host touches of the plan of a training step.
#[derive(Debug, Clone)]
pub struct TrainIo {
    /// Where batches go.
    pub feed: Feed,
    /// Ring of metric records.
    pub records: Tensor,
}

/// What the host touches of the plan of an evaluation.
#[derive(Debug, Clone)]
pub struct EvaluateIo {
    /// Where batches go.
    pub feed: Feed,
    /// What the model gives.
    pub output: Tensor,
    /// Its other outputs by name.
    pub others: Vec<(&'static str, Tensor)>,
    /// (batch rows, columns) results of the loss.
    pub rows: Tensor,
}

impl EvaluateIo {
    /// Another output of the model.
    pub fn other(&self, name: &str) -> Option<Tensor> {
        self.others.iter().find(|(n, _)| *n == name).map(|(_, t)| *t)
    }
}

/// What the host touches of the plan of a position of decoding.
#[derive(Debug, Clone)]
pub struct DecodeIo {
    /// Where the numbers of the position go.
    pub feed: Feed,
    /// What the model gives.
    pub output: Tensor,
}

/// What the host touches of the plan of the model alone.
#[derive(Debug, Clone)]
pub struct PredictIo {
    /// Where batches go.
    pub feed: Feed,
    /// What the model gives.
    pub output: Tensor,
}

/// The plans of a run, each with what the host touches of it.
#[derive(Debug)]
pub struct Plans<P = FixedPlan> {
    /// Of a training step, where the run trains.
    pub train: Option<(P, TrainIo)>,
    /// Of the evaluation of a batch.
    pub evaluate: (P, EvaluateIo),
    /// Of a step of decoding, where the model decodes.
    pub decode: Option<(P, DecodeIo)>,
}

impl<P> Plans<P> {
    /// Makes something of each plan.
    fn map<Q>(self, mut make: impl FnMut(P) -> Result<Q>) -> Result<Plans<Q>> {
        Ok(Plans {
            train: self.train.map(|(plan, io)| Ok::<_, Error>((make(plan)?, io))).transpose()?,
            evaluate: (make(self.evaluate.0)?, self.evaluate.1),
            decode: self.decode.map(|(plan, io)| Ok::<_, Error>((make(plan)?, io))).transpose()?,
        })
    }
}

impl Plans {
    /// Gives them buffers, which they share, on one of these processes.
    ///
    /// # Errors
    /// `Config` when sizes overflow.
    pub fn place(self, ranks: Ranks) -> Result<Placed> {
        let mut all = Vec::new();
        let names = self.map(|plan| {
            let name = plan.name.clone();
            all.push(plan);
            Ok(name)
        })?;
        let (memory, mut lowered) = Memory::lay_out(all, LayoutOptions { exchange: ranks.shared(), ..LayoutOptions::default() })?;
        let plans = names.map(|name| {
            let at = lowered.iter().position(|lowered| lowered.plan.name == name);
            Ok(lowered.swap_remove(at.ok_or_else(|| Error::Internal(format!("the plan {name} was not laid out")))?))
        })?;
        Ok(Placed { plans, memory })
    }
}

/// The plans of a run in their memory.
#[derive(Debug)]
pub struct Placed {
    /// Where each has its tensors, and how its target runs it.
    pub plans: Plans<Lowered>,
    /// Their buffers.
    pub memory: Memory,
}

/// A run's programs on a device, with its weights.
#[derive(Debug)]
pub struct Session {
    /// Buffers.
    pub arena: Arc<Arena>,
    /// One training step, where the session trains; evaluation of a batch; one step of decoding, where the model decodes.
    pub programs: Plans<Program>,
}

impl Session {
    /// Allocates what the layout of the plans says, and compiles.
    ///
    /// # Errors
    /// `Config` over the budget, `TryAgain` without memory, `Internal` when a kernel does not compile.
    pub fn new(placed: Placed, gpu: &Arc<Gpu>) -> Result<Session> {
        let arena = Arc::new(Arena::new(gpu.clone(), &placed.memory)?);
        let programs = placed.plans.map(|lowered| Program::new(lowered, arena.clone()))?;
        Ok(Session { arena, programs })
    }

    /// Evaluation of a batch.
    pub fn evaluation(&self) -> &(Program, EvaluateIo) {
        &self.programs.evaluate
    }

    /// One step of decoding, where the model decodes.
    pub fn decoding(&self) -> Option<&(Program, DecodeIo)> {
        self.programs.decode.as_ref()
    }

    /// All programs.
    pub fn all(&self) -> impl Iterator<Item = &Program> {
        let Plans { train, evaluate, decode } = &self.programs;
        let (train, decode) = (train.iter().map(|(program, _)| program), decode.iter().map(|(program, _)| program));
        train.chain([&evaluate.0]).chain(decode)
    }

    /// Weights in the order of their declaration.
    pub fn parameters(&self) -> &[Parameter] {
        self.programs.evaluate.0.plan.parameters()
    }

    /// Program of a training step.
    ///
    /// # Errors
    /// `Internal` when the session only evaluates.
    pub fn step(&self) -> Result<&(Program, TrainIo)> {
        self.programs.train.as_ref().ok_or_else(|| Error::Internal("this session does not train".into()))
    }

    /// Tells the device what the records of the steps before this one would say: what a run goes on from.
    ///
    /// # Errors
    /// `Internal` when the session only evaluates.
    pub fn carry_on(&self, step: u64, carried: Carried) -> Result<()> {
        let (program, records) = self.ring()?;
        let before = ((step + RING - 1) % RING) as usize * RECORD;
        let skipped = f32::from(u8::from(carried.skipped));
        for (at, value) in [(SKIPPED, skipped), (SCALE, carried.loss_scale), (UPDATES, carried.updates as f32)] {
            program.write_at(records, before + at, &[value]);
        }
        Ok(())
    }

    /// Ring of metric records.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn records(&self) -> Result<Vec<f32>> {
        let (program, records) = self.ring()?;
        program.read(records)
    }

    /// What adds up the gradients of the processes of a run.
    ///
    /// # Errors
    /// `Internal` when the session was not made for several.
    pub fn exchange(&self, ranks: Ranks) -> Result<Exchange> {
        let (program, records) = self.ring()?;
        Exchange::new(program, records, ranks)
    }

    fn ring(&self) -> Result<(&Program, Tensor)> {
        let (program, io) = self.step()?;
        Ok((program, io.records))
    }

    /// Writes a micro-batch and the step state.
    ///
    /// # Errors
    /// `Internal` when the plan lacks an input of the batch, or has it in another size.
    pub fn write(&self, program: &Program, feed: &Feed, batch: &Batch, state: State) -> Result<()> {
        for (name, words) in &batch.inputs {
            let input = feed.input(name)?;
            if words.len() != program.plan.len(input) {
                let (has, shape) = (words.len(), program.plan.shape(input));
                return Err(Error::Internal(format!("a batch has {has} numbers of `{name}`, the plan takes {shape:?}")));
            }
            program.write(input, words);
        }
        let drawn = f32::from(u8::from(batch.drawn)).max(state.drawn);
        program.write(feed.state, &[State { rows: batch.rows as u32, count: feed.count(batch) as u32, drawn, ..state }]);
        Ok(())
    }

    /// Queues one step of the given micro-batches; `state` carries everything but tick, micro, rows, count, scale and drawn.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn submit_step(&self, batches: &[Batch], mut state: State, step: u64, accumulate: usize) -> Result<wgpu::SubmissionIndex> {
        let (program, io) = self.step()?;
        let (mut queued, share) = (VecDeque::new(), io.feed.shares(batches));
        for (micro, batch) in batches.iter().enumerate() {
            state.scale = share(batch);
            state.tick = (step * accumulate as u64 + micro as u64) as u32;
            state.micro = micro as u32;
            self.write(program, &io.feed, batch, state)?;
            let range = if micro + 1 == batches.len() { program.all() } else { program.gradients() };
            queued.push_back(program.submit(range)?);
            self.bound(&mut queued)?;
        }
        queued.pop_back().ok_or_else(|| Error::Internal("a step without batches".into()))
    }

    /// The same of a step that the processes of a run take together: the micro-batches of this one lie in `own`.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn submit_shared_step(
        &self,
        batches: &[Batch],
        mut state: State,
        step: u64,
        own: Range<usize>,
        exchange: &mut Exchange,
    ) -> Result<wgpu::SubmissionIndex> {
        let (program, io) = self.step()?;
        let accumulate = own.len() * exchange.ranks.count;
        let mine = own.start..own.end.min(batches.len());
        let (mut queued, share) = (VecDeque::new(), io.feed.shares(batches));
        for number in mine.clone() {
            state.scale = share(&batches[number]);
            state.tick = (step * accumulate as u64 + number as u64) as u32;
            state.micro = (number - mine.start) as u32;
            self.write(program, &io.feed, &batches[number], state)?;
            if number + 1 < mine.end {
                queued.push_back(program.submit(program.gradients())?);
                self.bound(&mut queued)?;
            }
        }
        if mine.is_empty() {
            // The update reads it.
            self.write(program, &io.feed, &Batch::default(), state)?;
        }
        exchange.step(program, state.slot as usize, !mine.is_empty(), batches.len().div_ceil(own.len()))
    }

    /// Waits for the oldest of the steps or micro-steps that were queued where there are many: each has a copy of its batch.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub(crate) fn bound(&self, queued: &mut VecDeque<wgpu::SubmissionIndex>) -> Result<()> {
        const IN_FLIGHT: usize = 8;
        if queued.len() > IN_FLIGHT
            && let Some(oldest) = queued.pop_front()
        {
            self.arena.gpu.wait(oldest)?;
        }
        Ok(())
    }

    fn run_evaluation(&self, batch: &Batch) -> Result<&(Program, EvaluateIo)> {
        let (program, io) = self.evaluation();
        // Terms that training leaves out of some batches are in all of these.
        self.write(program, &io.feed, batch, State { scale: 1.0, drawn: 1.0, ..State::default() })?;
        program.run(program.all())?;
        Ok(self.evaluation())
    }

    /// Samples of one evaluation batch.
    pub fn batch(&self) -> usize {
        self.evaluation().1.feed.batch
    }

    /// Results of the loss, a row each for those that count.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn evaluate_rows(&self, batch: &Batch) -> Result<Vec<Vec<f32>>> {
        let (program, io) = self.run_evaluation(batch)?;
        let rows: Vec<f32> = program.read(io.rows)?;
        let cols = program.plan.shape(io.rows)[1];
        Ok(rows.chunks(cols).take(batch.rows).map(<[f32]>::to_vec).collect())
    }

    /// What the model gives, all of it.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn outputs(&self, batch: &Batch) -> Result<Vec<f32>> {
        let output = self.evaluation().1.output;
        self.evaluated(batch, output)
    }

    /// One of the outputs of the evaluation of a batch, all of it.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn evaluated(&self, batch: &Batch, output: Tensor) -> Result<Vec<f32>> {
        self.run_evaluation(batch)?.0.read(output)
    }

    /// Means of the columns of the loss over batches; of a sum, the loss is the weighted sum of its terms' means. A sample that is alone in
    /// its batch has no standard deviation: it is left out of the means of the terms that need one, which are NaN where no sample is left.
    ///
    /// # Errors
    /// `TryAgain` on device loss, and those of the batches.
    pub fn means(&self, columns: &Columns, batches: impl IntoIterator<Item = Result<Batch>>) -> Result<Metrics> {
        let mut sums = vec![(0.0, 0.0); columns.names.len()];
        for batch in batches {
            let batch = batch?;
            let (rows, counted) = (self.evaluate_rows(&batch)?, self.evaluation().1.feed.count(&batch));
            for (c, (name, (sum, count))) in columns.names.iter().zip(&mut sums).enumerate() {
                if counted > 1 || !columns.need_two.contains(name) {
                    *sum += rows.iter().map(|row| f64::from(row[c])).sum::<f64>();
                    *count += counted as f64;
                }
            }
        }
        let mut means = Metrics::new(columns.names.iter().copied().zip(sums.into_iter().map(|(sum, count)| sum / count)));
        if !columns.terms.is_empty() {
            means.0[0].1 = columns.terms.iter().map(|(name, weight)| weight * means.get(name).unwrap_or(f64::NAN)).sum();
        }
        Ok(means)
    }
}
