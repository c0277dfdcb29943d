//! The programs of a run on a device, with its weights: a training step, the evaluation of a batch, a step of decoding.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::kernels::State;
use crate::kernels::metrics::{RECORD, UPDATES};
use crate::losses::Columns;
use crate::metrics::Metrics;
use crate::plan::{Arena, Exchange, LayoutOptions, Memory, Plan, Program, Tensor};
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

/// What the host touches of a plan.
#[derive(Debug, Clone)]
pub struct Io {
    /// Step state.
    pub state: Tensor,
    /// Inputs by name.
    pub inputs: Vec<(&'static str, Tensor)>,
    /// Ring of metric records, of a training plan.
    pub records: Option<Tensor>,
    /// What the model gives.
    pub output: Tensor,
    /// Its other outputs by name, of an evaluation.
    pub others: Vec<(&'static str, Tensor)>,
    /// (batch rows, columns) results of the loss.
    pub rows: Tensor,
    /// Rows of a sample, of a loss whose means are taken over samples.
    pub sample_rows: Option<usize>,
    /// Samples.
    pub batch: usize,
}

impl Io {
    /// Another output of the model.
    pub fn other(&self, name: &str) -> Option<Tensor> {
        self.others.iter().find(|(n, _)| *n == name).map(|(_, t)| *t)
    }

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

/// The plans of a run.
#[derive(Debug)]
pub struct Plans {
    /// Of a training step, where the run trains.
    pub train: Option<(Plan, Io)>,
    /// Of the evaluation of a batch.
    pub evaluate: (Plan, Io),
    /// Of a step of decoding, where the model decodes.
    pub decode: Option<(Plan, Io)>,
}

impl Plans {
    /// Their buffers, which they share, on one of these processes.
    ///
    /// # Errors
    /// `Config` when sizes overflow.
    pub fn lay_out(&self, ranks: Ranks) -> Result<Memory> {
        let plans: Vec<&Plan> = self.train.iter().chain([&self.evaluate]).chain(&self.decode).map(|(plan, _)| plan).collect();
        Memory::lay_out(&plans, LayoutOptions { exchange: ranks.shared(), ..LayoutOptions::default() })
    }
}

/// A run's programs on a device, with its weights.
#[derive(Debug)]
pub struct Session {
    /// Buffers.
    pub arena: Arc<Arena>,
    /// One training step; absent when the session only evaluates.
    pub train: Option<(Program, Io)>,
    /// Evaluation of a batch.
    pub evaluate: (Program, Io),
    /// One step of decoding, where the model decodes.
    pub decode: Option<(Program, Io)>,
}

impl Session {
    /// Allocates what the layout of the plans says, and compiles.
    ///
    /// # Errors
    /// `Config` over the budget, `TryAgain` without memory, `Internal` when a kernel does not compile.
    pub fn new(plans: Plans, memory: &Memory, gpu: &Arc<Gpu>) -> Result<Session> {
        let Plans { train, evaluate, decode } = plans;
        let arena = Arc::new(Arena::new(gpu.clone(), memory)?);
        let mut lowered = memory.plans.iter();
        let mut program = |(plan, io): (Plan, Io)| {
            let lowered = lowered.next().ok_or_else(|| Error::Internal("a plan that was not laid out".into()))?;
            Ok::<_, Error>((Program::new(plan, arena.clone(), lowered.clone(), false)?, io))
        };
        let train = train.map(&mut program).transpose()?;
        let evaluate = program(evaluate)?;
        let decode = decode.map(&mut program).transpose()?;
        Ok(Session { arena, train, evaluate, decode })
    }

    /// Program of a training step.
    ///
    /// # Errors
    /// `Internal` when the session only evaluates.
    pub fn step(&self) -> Result<&(Program, Io)> {
        self.train.as_ref().ok_or_else(|| Error::Internal("this session does not train".into()))
    }

    /// Tells the device what the records of the steps before this one would say: what a run goes on from.
    ///
    /// # Errors
    /// `Internal` when the session only evaluates.
    pub fn carry_on(&self, step: u64, carried: Carried) -> Result<()> {
        let (program, records) = self.ring()?;
        let before = ((step + RING - 1) % RING) as usize * RECORD;
        program.write_at(records, before + 2, &[f32::from(u8::from(carried.skipped)), carried.loss_scale]);
        program.write_at(records, before + UPDATES, &[carried.updates as f32]);
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
        Ok((program, io.records.ok_or_else(|| Error::Internal("a training plan without records".into()))?))
    }

    /// Writes a micro-batch and the step state.
    ///
    /// # Errors
    /// `Internal` when the plan lacks an input of the batch, or has it in another size.
    pub fn write(&self, program: &Program, io: &Io, batch: &Batch, state: State) -> Result<()> {
        for (name, words) in &batch.inputs {
            let input = io.input(name)?;
            if words.len() != program.plan.len(input) {
                let (has, shape) = (words.len(), program.plan.shape(input));
                return Err(Error::Internal(format!("a batch has {has} numbers of `{name}`, the plan takes {shape:?}")));
            }
            program.write(input, words);
        }
        let drawn = f32::from(u8::from(batch.drawn)).max(state.drawn);
        program.write(io.state, &[State { rows: batch.rows as u32, count: io.count(batch) as u32, drawn, ..state }]);
        Ok(())
    }

    /// Queues one step of the given micro-batches; `state` carries everything but tick, micro, rows, count, scale and drawn.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn submit_step(&self, batches: &[Batch], mut state: State, step: u64, accumulate: usize) -> Result<wgpu::SubmissionIndex> {
        let (program, io) = self.step()?;
        let (mut queued, share) = (VecDeque::new(), io.shares(batches));
        for (micro, batch) in batches.iter().enumerate() {
            state.scale = share(batch);
            state.tick = (step * accumulate as u64 + micro as u64) as u32;
            state.micro = micro as u32;
            self.write(program, io, batch, state)?;
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
        let (mut queued, share) = (VecDeque::new(), io.shares(batches));
        for number in mine.clone() {
            state.scale = share(&batches[number]);
            state.tick = (step * accumulate as u64 + number as u64) as u32;
            state.micro = (number - mine.start) as u32;
            self.write(program, io, &batches[number], state)?;
            if number + 1 < mine.end {
                queued.push_back(program.submit(program.gradients())?);
                self.bound(&mut queued)?;
            }
        }
        if mine.is_empty() {
            // The update reads it.
            self.write(program, io, &Batch::default(), state)?;
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

    fn run_evaluation(&self, batch: &Batch) -> Result<&(Program, Io)> {
        let (program, io) = &self.evaluate;
        // Terms that training leaves out of some batches are in all of these.
        self.write(program, io, batch, State { scale: 1.0, drawn: 1.0, ..State::default() })?;
        program.run(program.all())?;
        Ok(&self.evaluate)
    }

    /// Samples of one evaluation batch.
    pub fn batch(&self) -> usize {
        self.evaluate.1.batch
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
        let output = self.evaluate.1.output;
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
            let (rows, counted) = (self.evaluate_rows(&batch)?, self.evaluate.1.count(&batch));
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
