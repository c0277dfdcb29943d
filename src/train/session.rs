//! The plans of a run and their programs on a device.

use std::sync::Arc;

use crate::config::Config;
use crate::datasets::integer_sequences::{CONTEXT, Sequence};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Role, Target};
use crate::kernels::metrics::{Accumulate, RECORD};
use crate::kernels::{State, state};
use crate::models::{ModelConfig, SequenceTransformer, initial_weights};
use crate::plan::{Arena, Flat, LayoutOptions, Memory, Plan, Program, Section, Tensor};

/// Steps whose records stay on the device until the host reads them.
pub(crate) const RING: u64 = 256;

/// Sequences of one evaluation batch at most.
const EVAL_BATCH: usize = 256;

/// What the host writes and reads of the training plan.
#[derive(Debug, Clone, Copy)]
pub struct TrainTensors {
    /// (batch × 8) inputs.
    pub tokens: Tensor,
    /// (batch × 8) targets.
    pub targets: Tensor,
    /// Step state.
    pub state: Tensor,
    /// Ring of metric records.
    pub records: Tensor,
}

/// What the host writes and reads of the evaluation plan.
#[derive(Debug, Clone, Copy)]
pub struct EvalTensors {
    /// (batch × 8) inputs.
    pub tokens: Tensor,
    /// (batch × 8) targets.
    pub targets: Tensor,
    /// Step state.
    pub state: Tensor,
    /// (batch × 8, 256).
    pub logits: Tensor,
    /// (batch × 8, 4) loss, cross-entropy, correct, distance.
    pub rows: Tensor,
    /// Sequences.
    pub batch: usize,
}

/// Records forward, loss, backward and update of one step.
///
/// # Errors
/// `Config` when sizes overflow.
pub fn record_training(config: &Config, target: Target) -> Result<(Plan, TrainTensors)> {
    let ModelConfig::SequenceTransformer(sizes) = &config.model;
    let (batch, rows) = (config.train.batch, config.train.batch * CONTEXT);
    let mut plan = Plan::new("train", target);
    let state = state(&mut plan)?;
    let tokens = plan.persistent(Role::Dataset, "tokens", &[rows])?;
    let targets = plan.persistent(Role::Dataset, "targets", &[rows])?;
    let records = plan.persistent(Role::Workspace, "records", &[RING as usize, RECORD])?;
    let mut model = SequenceTransformer::new(sizes, batch, true)?;
    let logits = model.forward(&mut plan, tokens, CONTEXT, None)?;
    let scale = 1.0 / (rows * config.train.accumulate) as f64;
    let (y, dlogits) = config.loss.record(&mut plan, logits, targets, Some(scale))?;
    Accumulate { x: y, records, rows, cols: 4 }.record(&mut plan, "metrics")?;
    plan.begin(Section::Backward);
    let dlogits = dlogits.ok_or_else(|| Error::Internal("no gradient of the loss".into()))?;
    model.backward(&mut plan, dlogits)?;
    config.optimizer.record(&mut plan, records)?;
    Ok((plan, TrainTensors { tokens, targets, state, records }))
}

/// Records the forward pass and the loss of `batch` sequences.
///
/// # Errors
/// `Config` when sizes overflow.
pub fn record_evaluation(config: &Config, target: Target, batch: usize) -> Result<(Plan, EvalTensors)> {
    let ModelConfig::SequenceTransformer(sizes) = &config.model;
    let rows = batch * CONTEXT;
    let mut plan = Plan::new("evaluate", target);
    let state = state(&mut plan)?;
    let tokens = plan.persistent(Role::Dataset, "evaluate.tokens", &[rows])?;
    let targets = plan.persistent(Role::Dataset, "evaluate.targets", &[rows])?;
    let logits = SequenceTransformer::new(sizes, batch, false)?.forward(&mut plan, tokens, CONTEXT, None)?;
    let (y, _) = config.loss.record(&mut plan, logits, targets, None)?;
    plan.keep(logits);
    plan.keep(y);
    Ok((plan, EvalTensors { tokens, targets, state, logits, rows: y, batch }))
}

/// Buffers of a training run: pure, no device is asked.
///
/// # Errors
/// `Config` when sizes overflow.
pub fn memory(config: &Config, target: Target) -> Result<Memory> {
    let (train, _) = record_training(config, target)?;
    let (evaluate, _) = record_evaluation(config, target, config.validation.sequences.min(EVAL_BATCH))?;
    Memory::lay_out(&[&train, &evaluate], LayoutOptions::default())
}

/// Means over evaluated sequences.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct EvalMetrics {
    /// The run's loss over all positions.
    pub loss: f64,
    /// Cross-entropy over all positions.
    pub cross_entropy: f64,
    /// Share of all positions predicted.
    pub accuracy: f64,
    /// Mean |prediction − target| over all positions.
    pub distance: f64,
    /// Share of ninth numbers predicted from the eight before.
    pub ninth_accuracy: f64,
    /// Mean |prediction − target| of ninth numbers.
    pub ninth_distance: f64,
}

/// A run's programs on a device, with its weights.
#[derive(Debug)]
pub struct Session {
    /// Buffers.
    pub arena: Arc<Arena>,
    /// One training step; absent when the session only evaluates.
    pub train: Option<(Program, TrainTensors)>,
    /// Evaluation of a batch.
    pub evaluate: (Program, EvalTensors),
}

impl Session {
    /// Plans, allocates and compiles for training.
    ///
    /// # Errors
    /// `Config` over the budget, `TryAgain` without memory, `Internal` when a kernel does not compile.
    pub fn training(config: &Config, gpu: &Arc<Gpu>) -> Result<Session> {
        let (train, train_tensors) = record_training(config, gpu.target)?;
        let batch = config.validation.sequences.min(EVAL_BATCH);
        let (evaluate, tensors) = record_evaluation(config, gpu.target, batch)?;
        let memory = Memory::lay_out(&[&train, &evaluate], LayoutOptions::default())?;
        let arena = Arc::new(Arena::new(gpu.clone(), &memory)?);
        let train = Program::new(train, arena.clone(), memory.places[0].clone(), false)?;
        let evaluate = Program::new(evaluate, arena.clone(), memory.places[1].clone(), false)?;
        let session = Session { arena, train: Some((train, train_tensors)), evaluate: (evaluate, tensors) };
        session.arena.write_flat(Flat::Parameters, &initial_weights(session.evaluate.0.plan.parameters(), config.train.seed))?;
        Ok(session)
    }

    /// Plans, allocates and compiles for evaluation.
    ///
    /// # Errors
    /// As `training`.
    pub fn evaluation(config: &Config, gpu: &Arc<Gpu>) -> Result<Session> {
        let (evaluate, tensors) = record_evaluation(config, gpu.target, EVAL_BATCH)?;
        let memory = Memory::lay_out(&[&evaluate], LayoutOptions::default())?;
        let arena = Arc::new(Arena::new(gpu.clone(), &memory)?);
        let evaluate = Program::new(evaluate, arena.clone(), memory.places[0].clone(), false)?;
        Ok(Session { arena, train: None, evaluate: (evaluate, tensors) })
    }

    /// Program of a training step.
    ///
    /// # Errors
    /// `Internal` when the session only evaluates.
    pub fn step(&self) -> Result<&(Program, TrainTensors)> {
        self.train.as_ref().ok_or_else(|| Error::Internal("this session does not train".into()))
    }

    /// Queues one step of the given micro-batches; `state` carries everything but tick, micro and rows.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn submit_step(&self, batches: &[Vec<Sequence>], mut state: State, step: u64) -> Result<wgpu::SubmissionIndex> {
        let (program, tensors) = self.step()?;
        let mut index = None;
        for (micro, batch) in batches.iter().enumerate() {
            let (tokens, targets) = split(batch);
            state.tick = (step * batches.len() as u64 + micro as u64) as u32;
            state.micro = micro as u32;
            state.rows = tokens.len() as u32;
            program.write(tensors.tokens, &tokens);
            program.write(tensors.targets, &targets);
            program.write(tensors.state, &[state]);
            let range = if micro + 1 == batches.len() { program.all() } else { program.gradients() };
            index = Some(program.submit(range)?);
        }
        index.ok_or_else(|| Error::Internal("a step without batches".into()))
    }

    /// Per-position (loss, cross-entropy, correct, distance) of sequences.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn evaluate_rows(&self, sequences: &[Sequence]) -> Result<Vec<[f32; 4]>> {
        let (program, tensors) = &self.evaluate;
        let mut out = Vec::with_capacity(sequences.len() * CONTEXT);
        for chunk in sequences.chunks(tensors.batch) {
            let (mut tokens, mut targets) = split(chunk);
            tokens.resize(tensors.batch * CONTEXT, 0);
            targets.resize(tensors.batch * CONTEXT, 0);
            program.write(tensors.tokens, &tokens);
            program.write(tensors.targets, &targets);
            program.write(tensors.state, &[State::default()]);
            program.run(program.all())?;
            let rows: Vec<[f32; 4]> = program.read(tensors.rows)?;
            out.extend_from_slice(&rows[..chunk.len() * CONTEXT]);
        }
        Ok(out)
    }

    /// Means over sequences.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn evaluate(&self, sequences: &[Sequence]) -> Result<EvalMetrics> {
        Ok(EvalMetrics::of(&self.evaluate_rows(sequences)?))
    }
}

impl EvalMetrics {
    /// Means of per-position rows, eight to a sequence.
    pub fn of(rows: &[[f32; 4]]) -> EvalMetrics {
        let mean = |rows: &mut dyn Iterator<Item = &[f32; 4]>, column: usize| {
            let (sum, count) = rows.fold((0.0, 0), |(sum, n), row| (sum + f64::from(row[column]), n + 1));
            sum / f64::from(count.max(1))
        };
        let ninths = || rows.iter().skip(CONTEXT - 1).step_by(CONTEXT);
        EvalMetrics {
            loss: mean(&mut rows.iter(), 0),
            cross_entropy: mean(&mut rows.iter(), 1),
            accuracy: mean(&mut rows.iter(), 2),
            distance: mean(&mut rows.iter(), 3),
            ninth_accuracy: mean(&mut ninths(), 2),
            ninth_distance: mean(&mut ninths(), 3),
        }
    }
}

/// Inputs (numbers 0–7) and targets (numbers 1–8) of sequences.
fn split(sequences: &[Sequence]) -> (Vec<u32>, Vec<u32>) {
    let part = |from: usize| sequences.iter().flat_map(|s| s[from..from + CONTEXT].iter().map(|v| u32::from(*v))).collect();
    (part(0), part(1))
}
