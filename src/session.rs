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

/// Number of steps whose records stay on the device until the host reads them.
pub(crate) const RING: u64 = 256;

/// Values that a step takes from the one before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Carried {
    /// True if the step before was skipped.
    pub skipped: bool,
    /// Loss scale of the step before, in a run with 16 bits.
    pub loss_scale: f32,
    /// Number of updates so far of the optimiser's moments.
    pub updates: u64,
}

/// Tensors of a plan that take a batch.
#[derive(Debug, Clone)]
pub struct Feed {
    /// State of the step.
    pub state: Tensor,
    /// Input tensors by name.
    pub inputs: Vec<(&'static str, Tensor)>,
    /// Number of rows of a sample, for a loss whose means are taken over samples.
    pub sample_rows: Option<usize>,
    /// Number of samples in a batch.
    pub batch: usize,
}

impl Feed {
    /// Number that the means of a micro-batch are divided by.
    pub fn count(&self, batch: &Batch) -> usize {
        self.sample_rows.map_or(batch.count, |rows| batch.rows / rows)
    }

    /// Weight of each micro-batch in the means of its step, so that each sample counts the same however the step is divided. Terms that
    /// compare the samples of a micro-batch are weighted by the number of its samples.
    fn shares(&self, step: &[Batch]) -> impl Fn(&Batch) -> f32 {
        let all = step.iter().map(|batch| self.count(batch)).sum::<usize>().max(1) as f32;
        move |batch| self.count(batch) as f32 / all
    }

    /// The state of a step with what a micro-batch sets of it.
    fn filled(&self, batch: &Batch, state: State) -> State {
        let drawn = f32::from(u8::from(batch.drawn)).max(state.drawn);
        State { rows: batch.rows as u32, count: self.count(batch) as u32, drawn, ..state }
    }

    /// States of the micro-batches of step `step`. The caller sets `state` but for tick, micro_step, rows, count, scale and drawn.
    pub fn states<'a>(&'a self, batches: &'a [Batch], state: State, step: u64, accumulate: usize) -> impl Iterator<Item = State> + 'a {
        let share = self.shares(batches);
        batches.iter().enumerate().map(move |(micro_step, batch)| {
            let tick = (step * accumulate as u64 + micro_step as u64) as u32;
            self.filled(batch, State { scale: share(batch), tick, micro_step: micro_step as u32, ..state })
        })
    }

    /// The input tensors of a batch, with their elements.
    ///
    /// # Errors
    /// `Internal` when the plan lacks an input of the batch, or has it in another size.
    pub fn words<'a>(&self, plan: &FixedPlan, batch: &'a Batch) -> Result<Vec<(Tensor, &'a [u32])>> {
        let one = |(name, words): &'a (&'static str, Vec<u32>)| {
            let input = self.input(name)?;
            if words.len() != plan.len(input) {
                let (has, shape) = (words.len(), plan.shape(input));
                return Err(Error::Internal(format!("a batch has {has} numbers of `{name}`, the plan takes {shape:?}")));
            }
            Ok((input, &words[..]))
        };
        batch.inputs.iter().map(one).collect()
    }

    /// The input tensor with this name.
    ///
    /// # Errors
    /// `Internal` when the plan has none.
    pub fn input(&self, name: &str) -> Result<Tensor> {
        let found = self.inputs.iter().find(|(n, _)| *n == name).map(|(_, t)| *t);
        found.ok_or_else(|| Error::Internal(format!("a plan without input {name}")))
    }
}

/// Tensors of a training plan that the host reads and writes.
#[derive(Debug, Clone)]
pub struct TrainIo {
    /// Tensors that take a batch.
    pub feed: Feed,
    /// Ring of metric records.
    pub records: Tensor,
}

/// Tensors of an evaluation plan that the host reads and writes.
#[derive(Debug, Clone)]
pub struct EvaluateIo {
    /// Tensors that take a batch.
    pub feed: Feed,
    /// Main output of the model, if it is made as a whole.
    pub output: Option<Tensor>,
    /// Other outputs of the model by name.
    pub others: Vec<(&'static str, Tensor)>,
    /// Results of the loss, shape (batch rows, columns).
    pub rows: Tensor,
}

impl EvaluateIo {
    /// Main output of the model.
    ///
    /// # Errors
    /// `Internal` when it is not made as a whole.
    pub fn whole(&self) -> Result<Tensor> {
        self.output.ok_or_else(|| Error::Internal("the outputs of this evaluation are not stored".into()))
    }

    /// Another output of the model, by name.
    pub fn other(&self, name: &str) -> Option<Tensor> {
        self.others.iter().find(|(n, _)| *n == name).map(|(_, t)| *t)
    }
}

/// Tensors of a decoding plan that the host reads and writes.
#[derive(Debug, Clone)]
pub struct DecodeIo {
    /// Tensors that take the numbers at the position.
    pub feed: Feed,
    /// Output of the model.
    pub output: Tensor,
    /// What the model keeps of a sequence does not grow: it continues sequences without an end.
    pub endless: bool,
    /// It keeps a state of all that it is fed.
    pub keeps_state: bool,
}

/// Tensors of a prediction plan that the host reads and writes.
#[derive(Debug, Clone)]
pub struct PredictIo {
    /// Tensors that take a batch.
    pub feed: Feed,
    /// Output of the model.
    pub output: Tensor,
}

/// Plans of a run, each with the tensors that the host reads and writes.
#[derive(Debug)]
pub struct Plans<P = FixedPlan> {
    /// Training step, if the run trains.
    pub train: Option<(P, TrainIo)>,
    /// Evaluation of a batch.
    pub evaluate: (P, EvaluateIo),
    /// Decoding step, if the model decodes.
    pub decode: Option<(P, DecodeIo)>,
}

impl<P> Plans<P> {
    /// Applies a function to each plan.
    fn map<Q>(self, mut make: impl FnMut(P) -> Result<Q>) -> Result<Plans<Q>> {
        Ok(Plans {
            train: self.train.map(|(plan, io)| Ok::<_, Error>((make(plan)?, io))).transpose()?,
            evaluate: (make(self.evaluate.0)?, self.evaluate.1),
            decode: self.decode.map(|(plan, io)| Ok::<_, Error>((make(plan)?, io))).transpose()?,
        })
    }
}

impl Plans {
    /// Lays the plans out in memory, with shared buffers, for one of these processes.
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

/// Plans of a run, laid out in memory.
#[derive(Debug)]
pub struct Placed {
    /// Plans with the places of their tensors, lowered to their target.
    pub plans: Plans<Lowered>,
    /// Buffers that they share.
    pub memory: Memory,
}

/// Programs of a run on a device, with its weights.
#[derive(Debug)]
pub struct Session {
    /// Buffers on the device.
    pub arena: Arc<Arena>,
    /// Programs: training step if the session trains, evaluation of a batch, decoding step if the model decodes.
    pub programs: Plans<Program>,
}

impl Session {
    /// Allocates the buffers of the plans and compiles their kernels.
    ///
    /// # Errors
    /// `Config` over the budget, `TryAgain` without memory, `Internal` when a kernel does not compile.
    pub fn new(placed: Placed, gpu: &Arc<Gpu>) -> Result<Session> {
        let arena = Arc::new(Arena::new(gpu.clone(), &placed.memory)?);
        let programs = placed.plans.map(|lowered| Program::new(lowered, arena.clone()))?;
        Ok(Session { arena, programs })
    }

    /// Program that evaluates a batch.
    pub fn evaluation(&self) -> &(Program, EvaluateIo) {
        &self.programs.evaluate
    }

    /// Program of a decoding step, if the model decodes.
    pub fn decoding(&self) -> Option<&(Program, DecodeIo)> {
        self.programs.decode.as_ref()
    }

    /// All programs of the session.
    pub fn all(&self) -> impl Iterator<Item = &Program> {
        let Plans { train, evaluate, decode } = &self.programs;
        let (train, decode) = (train.iter().map(|(program, _)| program), decode.iter().map(|(program, _)| program));
        train.chain([&evaluate.0]).chain(decode)
    }

    /// Weights that are trained, in the order of their declaration.
    pub fn parameters(&self) -> &[Parameter] {
        self.programs.evaluate.0.plan.parameters()
    }

    /// Weights that are not trained, in the order of their declaration.
    pub fn frozen(&self) -> &[Parameter] {
        self.programs.evaluate.0.plan.frozen()
    }

    /// Program of a training step.
    ///
    /// # Errors
    /// `Internal` when the session only evaluates.
    pub fn step(&self) -> Result<&(Program, TrainIo)> {
        self.programs.train.as_ref().ok_or_else(|| Error::Internal("this session does not train".into()))
    }

    /// Floating-point operations of an update of so many micro-steps.
    ///
    /// # Errors
    /// As `step`.
    pub fn operations(&self, micro_steps: usize) -> Result<u64> {
        Ok(self.step()?.0.plan.entries().iter().map(|entry| entry.flops * entry.section.times(micro_steps) as u64).sum())
    }

    /// Writes the values that the first step takes from the one before, as after a resume.
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

    /// Exchange that adds up the gradients of the processes of a run.
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
        for (input, words) in feed.words(&program.plan, batch)? {
            program.write(input, words);
        }
        program.write(feed.state, &[feed.filled(batch, state)]);
        Ok(())
    }

    /// Queues one step over the given micro-batches. The caller sets `state` but for tick, micro_step, rows, count, scale and drawn.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn submit_step(&self, batches: &[Batch], state: State, step: u64, accumulate: usize) -> Result<wgpu::SubmissionIndex> {
        let (program, io) = self.step()?;
        let mut queued = VecDeque::new();
        for (number, (batch, state)) in batches.iter().zip(io.feed.states(batches, state, step, accumulate)).enumerate() {
            self.write(program, &io.feed, batch, state)?;
            let range = if number + 1 == batches.len() { program.all() } else { program.gradients() };
            queued.push_back(program.submit(range)?);
            self.bound(&mut queued)?;
        }
        queued.pop_back().ok_or_else(|| Error::Internal("a step without batches".into()))
    }

    /// Queues one step that the processes of a run compute together; the micro-batches of this process are those in `own`.
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
            state.micro_step = (number - mine.start) as u32;
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

    /// Waits for the oldest queued step or micro-step if there are many, since each has a copy of its batch.
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

    /// Number of samples in an evaluation batch.
    pub fn batch(&self) -> usize {
        self.evaluation().1.feed.batch
    }

    /// Results of the loss for the valid rows of a batch.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn evaluate_rows(&self, batch: &Batch) -> Result<Vec<Vec<f32>>> {
        let (program, io) = self.run_evaluation(batch)?;
        let rows: Vec<f32> = program.read(io.rows)?;
        let cols = program.plan.shape(io.rows)[1];
        Ok(rows.chunks(cols).take(batch.rows).map(<[f32]>::to_vec).collect())
    }

    /// Results of the loss for the valid rows of a batch, and the whole main output of the model.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn evaluate_both(&self, batch: &Batch) -> Result<(Vec<Vec<f32>>, Vec<f32>)> {
        let rows = self.evaluate_rows(batch)?;
        let (program, io) = self.evaluation();
        Ok((rows, program.read(io.whole()?)?))
    }

    /// Whole main output of the model.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn outputs(&self, batch: &Batch) -> Result<Vec<f32>> {
        let output = self.evaluation().1.whole()?;
        self.evaluated(batch, output)
    }

    /// Whole output tensor of the evaluation of a batch, such as one of the others.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn evaluated(&self, batch: &Batch, output: Tensor) -> Result<Vec<f32>> {
        self.run_evaluation(batch)?.0.read(output)
    }

    /// Means of the columns of the loss over batches; for a sum, the loss is the weighted sum of the means of its terms. A sample alone in
    /// its batch has no standard deviation: it is left out of the means of terms that need one, which are NaN if no sample is left.
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
