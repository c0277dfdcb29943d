//! A plan that no longer changes: what memory is laid out for, what is lowered to a device, and what reports and tests read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use super::dispatch::Entry;
use super::tensor::{Adapter, Fill, Parameter, Section, Storage, Tensor, TensorInfo, flat_len};
use crate::error::{Error, Result};
use crate::gpu::Target;

/// Properties of the run that launches depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanOptions {
    /// True if a backward pass follows: then dropout drops, and layers keep what it needs.
    pub trains: bool,
    /// True if a step has several micro-steps, whose gradients add up.
    pub micro_steps: bool,
    /// True if what layers keep will be stored in 16 bits, by which launches differ in time.
    pub halves: bool,
    /// True if somebody besides the loss reads what the model gives. If not, the loss may make it in parts, none of which lasts.
    pub outputs: bool,
    /// True if the weights that layers declare are not trained, but adapters beside them.
    pub frozen: bool,
}

/// Static lists of dispatches over named tensors: forward, backward and update, one after another.
#[derive(Debug, Clone)]
pub struct FixedPlan {
    /// Name for reports: train, evaluate, decode.
    pub name: String,
    /// Device that the kernel variants are chosen for.
    pub target: Target,
    /// Properties of the run that its launches depend on.
    pub options: PlanOptions,
    pub(super) tensors: Vec<TensorInfo>,
    pub(super) names: HashMap<String, Tensor>,
    pub(super) parameters: Vec<Parameter>,
    pub(super) frozen: Vec<Parameter>,
    pub(super) adapters: Vec<Adapter>,
    pub(super) entries: Vec<Entry>,
    pub(super) read_back: Vec<Tensor>,
    pub(super) parts: Vec<(Tensor, Tensor, usize)>,
    pub(super) constants: Vec<(Tensor, Fill)>,
    pub(super) dropped: HashSet<Tensor>,
}

impl FixedPlan {
    /// Parts of weights: (part, weight, first element).
    pub fn parts(&self) -> &[(Tensor, Tensor, usize)] {
        &self.parts
    }

    /// Constant tensors with their values.
    pub(crate) fn constants(&self) -> &[(Tensor, Fill)] {
        &self.constants
    }

    /// Gives its persistent tensors names of their own: of plans that are laid out together, it then shares weights alone.
    pub(crate) fn apart(mut self, name: &str) -> FixedPlan {
        for info in self.tensors.iter_mut().filter(|info| matches!(info.storage, Storage::Persistent(_))) {
            let renamed = format!("{} ({name})", info.name);
            if let Some(tensor) = self.names.remove(&info.name) {
                self.names.insert(renamed.clone(), tensor);
            }
            info.name = renamed;
        }
        self
    }

    /// Properties of a tensor.
    pub fn info(&self, tensor: Tensor) -> &TensorInfo {
        &self.tensors[tensor.0 as usize]
    }

    /// Shape of a tensor.
    pub fn shape(&self, tensor: Tensor) -> &[usize] {
        &self.info(tensor).shape
    }

    /// Bytes of a tensor.
    pub fn bytes(&self, tensor: Tensor) -> u64 {
        self.info(tensor).bytes()
    }

    /// Elements of a tensor.
    pub fn len(&self, tensor: Tensor) -> usize {
        self.info(tensor).len()
    }

    /// True if nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All tensors with their handles, without those that only dropped launches used.
    pub fn tensors(&self) -> impl Iterator<Item = (Tensor, &TensorInfo)> {
        let all = self.tensors.iter().enumerate().map(|(i, info)| (Tensor(i as u32), info));
        all.filter(|(tensor, _)| !self.dropped.contains(tensor))
    }

    /// One more than the number of the last tensor.
    pub(crate) fn handles(&self) -> usize {
        self.tensors.len()
    }

    /// Tensor of that name.
    pub fn find(&self, name: &str) -> Option<Tensor> {
        self.names.get(name).copied()
    }

    /// Weights that are trained, in the order of their declaration.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Weights that are not trained, in the order of their declaration.
    pub fn frozen(&self) -> &[Parameter] {
        &self.frozen
    }

    /// Weights of the model itself, with which it begins: the frozen ones where adapters are trained, else all.
    pub fn of_model(&self) -> &[Parameter] {
        if self.options.frozen { &self.frozen } else { &self.parameters }
    }

    /// Adapters beside frozen weights.
    pub fn adapters(&self) -> &[Adapter] {
        &self.adapters
    }

    /// Number of weights that are not trained, without padding.
    pub fn frozen_count(&self) -> usize {
        self.frozen.iter().map(Parameter::len).sum()
    }

    /// Number of weights that are trained, without padding.
    pub fn parameter_count(&self) -> usize {
        self.parameters.iter().map(Parameter::len).sum()
    }

    /// Elements of a flat buffer of trained weights, padding included.
    pub fn flat_len(&self) -> usize {
        flat_len(&self.parameters)
    }

    /// Recorded dispatches.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Range of the dispatches that run in one section.
    pub fn range(&self, section: Section) -> Range<usize> {
        self.entries.partition_point(|e| e.runs_in() < section)..self.entries.partition_point(|e| e.runs_in() <= section)
    }

    /// Launches: one or two entries each.
    pub fn launches(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let starts = (0..self.entries.len()).filter(|at| !self.entries[*at].paired);
        starts.map(|at| at..at + 1 + usize::from(self.entries.get(at + 1).is_some_and(|next| next.paired)))
    }

    /// Bytes that a launch reads and writes.
    pub fn touched(&self, launch: Range<usize>) -> u64 {
        self.moved(&self.entries[launch]).values().sum()
    }

    /// Bytes of each tensor that entries of one launch read or write, each counted once.
    pub fn moved(&self, entries: &[Entry]) -> BTreeMap<Tensor, u64> {
        let mut moved = BTreeMap::new();
        for (tensor, extent) in entries.iter().flat_map(|e| e.tensors.iter().zip(&e.extents)) {
            let bytes = self.info(*tensor).bytes_of(extent.elements.len());
            moved.entry(*tensor).and_modify(|most: &mut u64| *most = bytes.max(*most)).or_insert(bytes);
        }
        moved
    }

    /// Fails unless a tensor has that many elements.
    ///
    /// # Errors
    /// `Internal`, naming the operation, the tensor and both counts.
    pub fn expect(&self, operation: &str, tensor: Tensor, elements: usize) -> Result<()> {
        let info = self.info(tensor);
        if info.len() == elements {
            return Ok(());
        }
        Err(Error::Internal(format!("{operation}: {} has shape {:?}, {elements} elements expected", info.name, info.shape)))
    }
}
