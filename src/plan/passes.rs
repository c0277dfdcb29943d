//! What is done to a recorded plan, in the one order in which it is right.

use std::collections::HashSet;

use super::dispatch::Entry;
use super::fixed::FixedPlan;
use super::recompute::Recompute;
use super::recording::Plan;
use super::tensor::{Section, Tensor, TensorInfo};
use crate::error::Result;

/// Families of kernels that take 16-bit floats, and variables of theirs that do not.
#[derive(Debug, Clone, Copy)]
pub struct Halves {
    /// Names of families.
    pub families: &'static [&'static str],
    /// Names of variables that stay in 32 bits.
    pub exact: &'static [&'static str],
}

/// Passes over a recorded plan.
#[derive(Debug)]
pub struct Passes<U = fn(&mut Plan) -> Result<()>> {
    /// Kernels whose activations are stored in 16 bits.
    pub halves: Option<Halves>,
    /// Extent to which the forward pass is computed twice.
    pub recompute: Recompute,
    /// Appends the update of the weights.
    pub update: Option<U>,
}

impl<U> Default for Passes<U> {
    fn default() -> Self {
        Passes { halves: None, recompute: Recompute::None, update: None }
    }
}

impl<U: FnOnce(&mut Plan) -> Result<()>> Passes<U> {
    /// Drops launches whose results nobody reads, chooses what is stored in 16 bits, pairs launches of the backward pass, recomputes, and
    /// appends the update.
    ///
    /// # Errors
    /// The errors of the update; `Internal` when a name is taken.
    pub fn finish(self, mut plan: Plan) -> Result<FixedPlan> {
        plan.prune();
        if let Some(halves) = self.halves {
            plan.halve(halves);
        }
        // What is recomputed must not change which products share a launch, and with it the order of their sums.
        plan.pair();
        plan.recompute(self.recompute)?;
        if let Some(update) = self.update {
            plan.within(Section::Update, update)?;
        }
        Ok(plan.fixed)
    }
}

impl From<Plan> for FixedPlan {
    /// The plan as it was recorded.
    fn from(plan: Plan) -> FixedPlan {
        plan.fixed
    }
}

impl Plan {
    /// Without the launches whose results nobody reads.
    pub fn pruned(mut self) -> FixedPlan {
        self.prune();
        self.fixed
    }

    /// Drops the launches whose results nobody reads, such as the gradient of what is data; what the host reads is kept (`keep`).
    fn prune(&mut self) {
        let mut read: HashSet<Tensor> = self.read_back.iter().copied().collect();
        let mut needed = vec![false; self.entries.len()];
        for (entry, needed) in self.entries.iter().zip(&mut needed).rev() {
            let lasting = |t: &Tensor| !self.info(*t).pooled();
            *needed = entry.writes().any(|t| lasting(&t) || read.contains(&t));
            if *needed {
                read.extend(entry.tensors.iter().copied());
            }
        }
        let mut keep = needed.into_iter();
        self.fixed.entries.retain(|_| keep.next().unwrap_or(true));
        self.forget_unused();
    }

    fn forget_unused(&mut self) {
        let used: HashSet<Tensor> = self.entries.iter().flat_map(|e| e.tensors.iter().copied()).collect();
        let pooled = |t: &Tensor| self.info(*t).pooled();
        self.fixed.dropped = (0..self.tensors.len() as u32).map(Tensor).filter(|t| pooled(t) && !used.contains(t)).collect();
    }

    /// A tensor like a pooled one, for its second making.
    pub(super) fn twin(&mut self, tensor: Tensor) -> Result<Tensor> {
        let TensorInfo { name, shape, storage, half } = self.info(tensor).clone();
        let twin = self.add(format!("{name} (again)"), &shape, storage)?;
        self.fixed.tensors[twin.0 as usize].half = half;
        Ok(twin)
    }

    /// Other entries in place of all.
    pub(super) fn replace(&mut self, entries: Vec<Entry>) {
        self.fixed.entries = entries;
        self.forget_unused();
    }

    /// Stores these tensors in 16 bits.
    pub(super) fn set_half(&mut self, halved: &[Tensor]) {
        halved.iter().for_each(|t| self.fixed.tensors[t.0 as usize].half = true);
    }
}
