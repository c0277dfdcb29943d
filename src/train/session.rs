//! The plans of a run and their programs on a device.

use std::sync::Arc;

use super::task::{Io, MicroBatch, Task, record_decoding, record_evaluation, record_training, task};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Target};
use crate::kernels::State;
use crate::models::initial_weights;
use crate::plan::{Arena, Flat, LayoutOptions, Memory, Plan, Program};

/// Steps whose records stay on the device until the host reads them.
pub(crate) const RING: u64 = 256;

/// Buffers of a training run within a budget in bytes: pure, no device is asked.
///
/// # Errors
/// `Config` when sizes overflow, `MissingInput` or `Data` when the data file cannot be used.
pub fn memory(config: &Config, target: Target, budget: u64) -> Result<Memory> {
    let mut task = task(config)?;
    task.settle(target, budget)?;
    memory_of(config, task.as_ref(), target)
}

pub(super) fn memory_of(config: &Config, task: &dyn Task, target: Target) -> Result<Memory> {
    let (train, _) = record_training(config, task, target)?;
    let (evaluate, _) = record_evaluation(task, target)?;
    let decode = record_decoding(task, target)?.map(|(plan, _)| plan);
    Memory::lay_out(&Vec::from_iter([&train, &evaluate].into_iter().chain(&decode)), LayoutOptions::default())
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
    /// One step of decoding, where the task decodes.
    pub decode: Option<(Program, Io)>,
}

impl Session {
    /// Plans, allocates and compiles for training; the task has its data.
    ///
    /// # Errors
    /// `Config` over the budget, `TryAgain` without memory, `Internal` when a kernel does not compile.
    pub fn training(config: &Config, task: &dyn Task, gpu: &Arc<Gpu>) -> Result<Session> {
        let session = Session::new(Some(record_training(config, task, gpu.target)?), task, gpu)?;
        session.arena.write_flat(Flat::Parameters, &initial_weights(session.evaluate.0.plan.parameters(), config.train.seed))?;
        Ok(session)
    }

    /// Plans, allocates and compiles for evaluation; the task has its data.
    ///
    /// # Errors
    /// As `training`.
    pub fn evaluation(task: &dyn Task, gpu: &Arc<Gpu>) -> Result<Session> {
        Session::new(None, task, gpu)
    }

    fn new(train: Option<(Plan, Io)>, task: &dyn Task, gpu: &Arc<Gpu>) -> Result<Session> {
        let (evaluate, io) = record_evaluation(task, gpu.target)?;
        let decode = record_decoding(task, gpu.target)?;
        let plans: Vec<&Plan> = train.iter().map(|(plan, _)| plan).chain([&evaluate]).chain(decode.iter().map(|(plan, _)| plan)).collect();
        let memory = Memory::lay_out(&plans, LayoutOptions::default())?;
        let arena = Arc::new(Arena::new(gpu.clone(), &memory)?);
        let mut places = memory.places.iter();
        let mut program = |plan: Plan| {
            let place = places.next().ok_or_else(|| Error::Internal("a plan without places".into()))?;
            let program = Program::new(plan, arena.clone(), place.clone(), false)?;
            task.fill(&program)?;
            Ok::<Program, Error>(program)
        };
        let train = train.map(|(plan, io)| Ok::<_, Error>((program(plan)?, io))).transpose()?;
        let evaluate = (program(evaluate)?, io);
        let decode = decode.map(|(plan, io)| Ok::<_, Error>((program(plan)?, io))).transpose()?;
        Ok(Session { arena, train, evaluate, decode })
    }

    /// Program of a training step.
    ///
    /// # Errors
    /// `Internal` when the session only evaluates.
    pub fn step(&self) -> Result<&(Program, Io)> {
        self.train.as_ref().ok_or_else(|| Error::Internal("this session does not train".into()))
    }

    /// Ring of metric records.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn records(&self) -> Result<Vec<f32>> {
        let (program, io) = self.step()?;
        program.read(io.records.ok_or_else(|| Error::Internal("a training plan without records".into()))?)
    }

    /// Writes a micro-batch and the step state.
    pub fn write(&self, program: &Program, io: &Io, batch: &MicroBatch, state: State) {
        for (tensor, words) in io.inputs.iter().zip(&batch.inputs) {
            program.write(*tensor, words);
        }
        let cycle = if batch.cycle { 1.0 } else { 0.0 };
        program.write(io.state, &[State { rows: batch.rows as u32, count: batch.count as u32, cycle, ..state }]);
    }

    /// Queues one step of the given micro-batches; `state` carries everything but tick, micro, rows, count, scale and cycle.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn submit_step(&self, batches: &[MicroBatch], mut state: State, step: u64, accumulate: usize) -> Result<wgpu::SubmissionIndex> {
        let (program, io) = self.step()?;
        let mut index = None;
        state.scale = 1.0 / batches.len() as f32;
        for (micro, batch) in batches.iter().enumerate() {
            state.tick = (step * accumulate as u64 + micro as u64) as u32;
            state.micro = micro as u32;
            self.write(program, io, batch, state);
            let range = if micro + 1 == batches.len() { program.all() } else { program.gradients() };
            index = Some(program.submit(range)?);
        }
        index.ok_or_else(|| Error::Internal("a step without batches".into()))
    }

    fn run_evaluation(&self, batch: &MicroBatch) -> Result<&(Program, Io)> {
        let (program, io) = &self.evaluate;
        self.write(program, io, batch, State { scale: 1.0, ..State::default() });
        program.run(program.all())?;
        Ok(&self.evaluate)
    }

    /// Results of the loss, a row each for those that count.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn evaluate_rows(&self, batch: &MicroBatch) -> Result<Vec<Vec<f32>>> {
        let (program, io) = self.run_evaluation(batch)?;
        let rows: Vec<f32> = program.read(io.rows)?;
        let cols = program.plan.shape(io.rows)[1];
        Ok(rows.chunks(cols).take(batch.rows).map(<[f32]>::to_vec).collect())
    }

    /// What the model gives, all of it, and the results of the loss.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn outputs(&self, batch: &MicroBatch) -> Result<Vec<f32>> {
        let (program, io) = self.run_evaluation(batch)?;
        program.read(io.output)
    }
}
