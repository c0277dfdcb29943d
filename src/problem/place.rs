//! Plans in memory: what lies on the device, and the largest batch that fits.

use std::sync::Arc;

use super::{Loaded, Problem};
use crate::error::{Error, Result};
use crate::gpu::{CardModel, Gpu, Target};
use crate::kernels::loss_scale;
use crate::models::initial_weights;
use crate::plan::{Cost, Flat, Lowered, Memory};
use crate::session::{Carried, Placed, Plans, Session};
use crate::tasks::{DataState, Layout};

/// True if a device of this kind can hold these buffers within a budget in bytes.
fn fits(memory: &Memory, target: Target, budget: u64) -> bool {
    memory.report.total_bytes <= budget && memory.buffers.iter().all(|buffer| buffer.bytes <= target.max_binding)
}

/// Calls `make` with these sizes, in falling order, and gives the first result that fits; the last one if none does.
fn first_that_fits<T>(sizes: &[usize], make: impl Fn(usize) -> Result<T>, fits: impl Fn(&T) -> bool) -> Result<T> {
    let [first, between @ .., last] = sizes else { return make(sizes.first().copied().unwrap_or(1)) };
    let made = make(*first)?;
    if fits(&made) {
        return Ok(made);
    }
    let least = make(*last)?;
    if fits(&least) {
        for size in between {
            let made = make(*size)?;
            if fits(&made) {
                return Ok(made);
            }
        }
    }
    Ok(least)
}

impl Loaded {
    /// Creates a training session on a device: allocates buffers, compiles kernels and sets initial weights. It decides nothing about
    /// placement.
    ///
    /// # Errors
    /// As `training_in`, and `Config` as `place`.
    pub fn training(&self, gpu: &Arc<Gpu>) -> Result<Session> {
        self.training_in(self.placed_for(gpu.target)?, gpu)
    }

    /// Creates a training session from placed plans, with initial weights. The device must run the kernels of the target they were placed
    /// for.
    ///
    /// # Errors
    /// `Config` over the budget, `TryAgain` without memory, `Internal` when a kernel does not compile.
    pub fn training_in(&self, placed: Placed, gpu: &Arc<Gpu>) -> Result<Session> {
        let session = Session::new(placed, gpu)?;
        let weights = initial_weights(session.parameters(), self.settings.train.seed);
        session.arena.write_flat(Flat::Parameters, &weights)?;
        if !session.frozen().is_empty() {
            session.arena.write_flat(Flat::Frozen, &initial_weights(session.frozen(), self.settings.train.seed))?;
        }
        session.carry_on(0, Carried { skipped: false, loss_scale: loss_scale::INITIAL, updates: 0 })?;
        Ok(session)
    }

    /// Creates an evaluation session on a device: plans, allocates and compiles, within the memory that a run may allocate.
    ///
    /// # Errors
    /// As `training`.
    pub fn evaluation(&self, gpu: &Arc<Gpu>) -> Result<Session> {
        let target = gpu.target;
        let at = |evaluated: usize| {
            let evaluate = self.evaluation_plan(target, evaluated)?;
            Plans { train: None, evaluate, decode: self.decoding_plan(target, evaluated)? }.place(self.ranks)
        };
        let sizes = self.evaluations(self.settings.train.batch);
        Session::new(first_that_fits(&sizes, at, |placed| fits(&placed.memory, target, gpu.budget()))?, gpu)
    }
}

impl<D: DataState + ?Sized> Problem<D> {
    /// Plans for training on batches of this size and for evaluation, laid out in memory.
    fn placed_at(&self, target: Target, batch: usize, layout: Layout, evaluated: usize) -> Result<Placed> {
        let train = Some(self.training_plan(target, batch, layout)?);
        Plans { train, evaluate: self.evaluation_plan(target, evaluated)?, decode: self.decoding_plan(target, evaluated)? }
            .place(self.ranks)
    }

    /// Plans for training on batches of this size, laid out within a budget in bytes, and whether the training samples lie on the device.
    /// The samples do if they fit, and evaluation batches are as large as fits.
    fn placed_within(&self, target: Target, batch: usize, budget: u64) -> Result<(Placed, bool)> {
        let sizes = self.evaluations(batch);
        let fits = |placed: &Placed| fits(&placed.memory, target, budget);
        let placed = |resident| {
            let layout = Layout { resident, ..self.layout };
            first_that_fits(&sizes, |evaluated| self.placed_at(target, batch, layout, evaluated), fits)
        };
        if self.source().can_be_resident()
            && let Some(placed) = placed(true).ok().filter(fits)
        {
            return Ok((placed, true));
        }
        Ok((placed(false)?, false))
    }

    /// Plans for training, laid out as `place` last decided.
    ///
    /// # Errors
    /// As `record_training`.
    pub fn placed_for(&self, target: Target) -> Result<Placed> {
        let batch = self.settings.train.batch;
        self.placed_at(target, batch, self.layout, self.evaluations(batch)[0])
    }

    /// Decides for a budget in bytes if the training samples lie on the device, and how large evaluation batches are. It asks no device.
    /// Gives the plans for training, laid out in memory.
    ///
    /// # Errors
    /// As `record_training`.
    pub fn place(&mut self, target: Target, budget: u64) -> Result<Placed> {
        let (placed, resident) = self.placed_within(target, self.settings.train.batch, budget)?;
        self.layout.resident = resident;
        self.evaluated = placed.plans.evaluate.1.feed.batch;
        Ok(placed)
    }

    /// Training step as a card runs it, in its buffers; laid out as `place` last decided.
    ///
    /// # Errors
    /// As `record_training`.
    pub fn on_card(&self) -> Result<Lowered> {
        let step = self.placed_for(Target::default())?.plans.train;
        step.map(|(step, _)| step).ok_or_else(|| Error::Internal("plans for training without a step".into()))
    }

    /// Cost at least, on a card, of a step of one process with the run's micro-batches.
    ///
    /// # Errors
    /// As `record_training`.
    pub fn cost(&self, card: &CardModel) -> Result<Cost> {
        Ok(self.on_card()?.cost(card, self.micro_steps()))
    }

    /// Micro-batches of a step that one process computes.
    pub fn micro_steps(&self) -> usize {
        self.settings.train.accumulate / self.ranks.count
    }

    /// Largest batch size whose memory stays within the budget; none if no batch fits. Memory is nearly linear in the batch, so a few plans
    /// are enough: the search interpolates between known sizes, and bisects if that does not help.
    pub fn largest_batch(&self, target: Target, budget: u64) -> Option<usize> {
        /// Largest batch size that a run file may give.
        const MOST: usize = 1 << 20;
        // Shares of what there is: at most 1 fits.
        let load = |batch: usize| {
            self.placed_within(target, batch, budget).map_or(f64::INFINITY, |(Placed { memory, .. }, _)| {
                let largest = memory.buffers.iter().map(|b| b.bytes).max().unwrap_or(0);
                (memory.report.total_bytes as f64 / budget as f64).max(largest as f64 / target.max_binding as f64)
            })
        };
        let mut high = (MOST, load(MOST));
        if high.1 <= 1.0 {
            return Some(MOST);
        }
        // Not quite: a smaller batch may take other kernels, with more memory.
        let mut low =
            [self.settings.train.batch, 8, 4, 2, 1].into_iter().map(|batch| (batch, load(batch))).find(|(_, load)| *load <= 1.0)?;
        let mut interpolate = true;
        while high.0 - low.0 > 1 {
            let gap = (high.0 - low.0) as f64;
            let step = match (interpolate, high.1.is_finite()) {
                (true, true) => gap * (1.0 - low.1) / (high.1 - low.1),
                // Where nothing is known above, the middle of the orders of magnitude.
                (_, false) => (low.0 as f64 * high.0 as f64).sqrt() - low.0 as f64,
                _ => gap / 2.0,
            };
            let guess = (low.0 + step as usize).clamp(low.0 + 1, high.0 - 1);
            let share = load(guess);
            if share <= 1.0 {
                low = (guess, share)
            } else {
                high = (guess, share)
            }
            interpolate = ((high.0 - low.0) as f64) < gap / 2.0;
        }
        Some(low.0)
    }
}
