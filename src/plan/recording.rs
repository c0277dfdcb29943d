//! Recording: a plan takes shape dispatch by dispatch, each checked against its shader and the device's limits.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Deref;
use std::sync::Arc;

use super::dispatch::{Dispatch, Entry, Extent, Grid, Param, Shared, Variant};
use super::fixed::{FixedPlan, PlanOptions};
use super::tensor::{Adapter, FLAT_ALIGN, Fill, Flat, Init, Parameter, Section, Storage, Tensor, TensorInfo, flat_len};
use crate::error::{Error, Result};
use crate::gpu::{Access, ParamType, Role, Shader, Target};

/// A launch as it was chosen.
struct Launch {
    shader: Arc<Shader>,
    grid: Grid,
    kind: String,
    variants: Vec<Variant>,
}

/// A plan while it is recorded: what has been recorded of it so far (`FixedPlan`), and what the next launch is checked against.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(super) fixed: FixedPlan,
    written: HashSet<Tensor>,
    section: Section,
    early: bool,
    anew: HashSet<Tensor>,
    /// Parts of the flat gradients that were added to, by their first numbers.
    summed: BTreeMap<usize, usize>,
    streams: u32,
}

impl Deref for Plan {
    type Target = FixedPlan;

    fn deref(&self) -> &FixedPlan {
        &self.fixed
    }
}

impl Plan {
    /// An empty plan of a training step.
    pub fn training(name: &str, target: Target) -> Self {
        Plan::with(name, target, PlanOptions { trains: true, micro_steps: true, halves: false, outputs: false, frozen: false })
    }

    /// An empty plan without a backward pass.
    pub fn new(name: &str, target: Target) -> Self {
        Plan::with(name, target, PlanOptions { trains: false, micro_steps: true, halves: false, outputs: true, frozen: false })
    }

    /// Tells the launches that follow whether a step has several micro-steps; for tests.
    #[doc(hidden)]
    pub fn set_micro_steps(&mut self, several: bool) {
        self.fixed.options.micro_steps = several;
    }

    /// An empty plan.
    pub fn with(name: &str, target: Target, options: PlanOptions) -> Self {
        let fixed = FixedPlan {
            name: name.into(),
            target,
            options,
            tensors: vec![],
            names: HashMap::new(),
            parameters: vec![],
            frozen: vec![],
            adapters: vec![],
            entries: vec![],
            read_back: vec![],
            parts: vec![],
            constants: vec![],
            dropped: HashSet::new(),
        };
        Plan {
            fixed,
            written: HashSet::new(),
            section: Section::Forward,
            early: false,
            anew: HashSet::new(),
            summed: BTreeMap::new(),
            streams: 0,
        }
    }

    pub(super) fn add(&mut self, name: String, shape: &[usize], storage: Storage) -> Result<Tensor> {
        let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|n| *n <= u32::MAX as usize / 4);
        if elements.is_none_or(|n| n == 0) {
            return Err(Error::Config(format!(
                "tensor {name} of shape {shape:?} does not fit a buffer: each dimension is at least 1, all together at most 2^30. \
                 Lower the sizes of the model or train.batch"
            )));
        }
        if self.names.contains_key(&name) {
            return Err(Error::Internal(format!("plan {}: two tensors are named {name}", self.name)));
        }
        let tensor = Tensor(self.tensors.len() as u32);
        self.fixed.names.insert(name.clone(), tensor);
        self.fixed.tensors.push(TensorInfo { name, shape: shape.to_vec(), storage, half: false });
        Ok(tensor)
    }

    /// Declares a weight under its PyTorch name, which is trained unless the plan has frozen ones.
    ///
    /// # Errors
    /// `Config` when the shape overflows, `Internal` when the name is taken.
    pub fn parameter(&mut self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        if !self.options.frozen {
            return self.trained(name, shape, init);
        }
        let offset = flat_len(&self.frozen);
        let tensor = self.add(name.into(), shape, Storage::Frozen { offset })?;
        self.fixed.frozen.push(Parameter { name: name.into(), shape: shape.to_vec(), offset, init });
        Ok(tensor)
    }

    fn trained(&mut self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        let offset = self.flat_len();
        let tensor = self.add(name.into(), shape, Storage::Parameter { offset })?;
        self.fixed.parameters.push(Parameter { name: name.into(), shape: shape.to_vec(), offset, init });
        Ok(tensor)
    }

    /// Declares the trained factors A and B of an adapter of this rank, and gives them. A begins as U(±1/√inputs) and B as 0, as `peft` has
    /// them, so that the first step is that of the weights alone.
    ///
    /// # Errors
    /// As `parameter`.
    pub fn adapter(&mut self, adapter: Adapter, [inputs, outputs, rank]: [usize; 3]) -> Result<[Tensor; 2]> {
        let a = self.trained(&adapter.a, &[rank, inputs], Init::Uniform(1.0 / (inputs as f64).sqrt()))?;
        let b = self.trained(&adapter.b, &[outputs, rank], Init::Zeros)?;
        self.fixed.adapters.push(adapter);
        Ok([a, b])
    }

    /// A contiguous part of a weight, from its element `first`; its gradient is the same part of the weight's.
    ///
    /// # Errors
    /// `Config` when bindings cannot start there, `Internal` when the tensor is no parameter.
    pub fn part(&mut self, parameter: Tensor, first: usize, shape: &[usize]) -> Result<Tensor> {
        let info = self.info(parameter);
        let (name, len) = (info.name.clone(), info.len());
        let storage = info.storage.after(first).ok_or_else(|| Error::Internal(format!("{name} is no parameter")))?;
        if first + shape.iter().product::<usize>() > len {
            return Err(Error::Internal(format!("{name} has {len} elements: no part {shape:?} from {first}")));
        }
        if !first.is_multiple_of(FLAT_ALIGN) {
            return Err(Error::Config(format!(
                "part of {name} from element {first}: bindings start at multiples of {FLAT_ALIGN}. Use a width that is a multiple of {FLAT_ALIGN}"
            )));
        }
        let part = self.add(format!("{name}[{first}..]"), shape, storage)?;
        self.fixed.parts.push((part, parameter, first));
        Ok(part)
    }

    /// One tensor over weights that lie one after another, such as the projections of an attention: stored by their own names, used in one
    /// product.
    ///
    /// # Errors
    /// `Config` when a weight does not end where the next may begin, `Internal` when they were not declared in this order.
    pub fn joined(&mut self, name: &str, weights: &[Tensor], shape: &[usize]) -> Result<Tensor> {
        let mut first = 0usize;
        let mut start = None;
        let mut parts = Vec::with_capacity(weights.len());
        for weight in weights {
            let info = self.info(*weight);
            if info.storage.after(0).is_none() {
                return Err(Error::Internal(format!("{} is no parameter", info.name)));
            }
            if !first.is_multiple_of(FLAT_ALIGN) {
                return Err(Error::Config(format!(
                    "{name}: its parts need sizes that are multiples of {FLAT_ALIGN} elements. Use a width that is a multiple of 8"
                )));
            }
            if start.get_or_insert(info.storage).after(first) != Some(info.storage) {
                return Err(Error::Internal(format!("{} does not follow the weight before it", info.name)));
            }
            parts.push((*weight, first));
            first += info.len();
        }
        let storage = start.filter(|_| first == shape.iter().product::<usize>());
        let storage = storage.ok_or_else(|| Error::Internal(format!("{name}: parts of {first} elements make no {shape:?}")))?;
        let whole = self.add(name.into(), shape, storage)?;
        self.fixed.parts.extend(parts.into_iter().map(|(part, first)| (part, whole, first)));
        Ok(whole)
    }

    /// Gradient of a weight: a sum over the micro-steps of a step (`sum_anew`). That of a frozen weight nobody reads, so that the launches
    /// which would make it are dropped.
    ///
    /// # Errors
    /// `Internal` when the tensor is no parameter.
    pub fn gradient(&mut self, parameter: Tensor) -> Result<Tensor> {
        let info = self.info(parameter);
        let storage = match info.storage {
            Storage::Parameter { offset } => Storage::Gradient { offset },
            Storage::Frozen { .. } => Storage::Transient(Role::Workspace),
            _ => return Err(Error::Internal(format!("{} is no parameter", info.name))),
        };
        let (name, shape) = (format!("grad.{}", info.name), info.shape.clone());
        if let Some(found) = self.names.get(&name) {
            return Ok(*found);
        }
        let gradient = self.add(name, &shape, storage)?;
        self.sum_anew(gradient);
        Ok(gradient)
    }

    /// Declares a tensor whose sum begins anew in the first micro-step of a step, whatever it holds from before: the first launch of a plan
    /// that adds to it writes it then, and nobody clears it.
    pub fn sum_anew(&mut self, tensor: Tensor) {
        self.anew.insert(tensor);
    }

    /// True if the next launch is the first that adds to these tensors, of those whose sums begin anew.
    ///
    /// # Errors
    /// `Internal` when that holds for a part of them.
    pub(crate) fn begins_sum(&self, sums: &[Tensor]) -> Result<bool> {
        let accumulate: Vec<bool> = sums.iter().map(|t| self.accumulates(*t)).collect::<Result<_>>()?;
        if accumulate.windows(2).any(|pair| pair[0] != pair[1]) {
            let names: Vec<&str> = sums.iter().map(|t| self.info(*t).name.as_str()).collect();
            return Err(Error::Internal(format!("of {} some were added to before", names.join(", "))));
        }
        Ok(accumulate.first() == Some(&false))
    }

    /// True if the next launch that writes a sum adds to what is stored: launches have added to it before, or it does not begin anew.
    fn accumulates(&self, tensor: Tensor) -> Result<bool> {
        let Storage::Gradient { offset } = self.info(tensor).storage else {
            return Ok(!self.anew.contains(&tensor) || self.written.contains(&tensor));
        };
        // A weight and its parts are one: as numbers of the flat buffer.
        let end = offset + self.len(tensor);
        let before = self.summed.range(..offset).next_back();
        let parts = before.into_iter().chain(self.summed.range(offset..end));
        match parts.map(|(first, last)| (*last).min(end).saturating_sub(*first.max(&offset))).sum::<usize>() {
            0 => Ok(false),
            all if all == end - offset => Ok(true),
            some => Err(Error::Internal(format!(
                "{}: {some} of its {} numbers were added to before, as a part of it",
                self.info(tensor).name,
                end - offset
            ))),
        }
    }

    /// A whole flat buffer.
    ///
    /// # Errors
    /// `Internal` when asked for before any parameter.
    pub fn flat(&mut self, flat: Flat) -> Result<Tensor> {
        let shape = [self.flat_len()];
        self.add(flat.name().into(), &shape, Storage::Flat(flat))
    }

    /// A tensor in a buffer of its own, the same in every plan of a run that names it.
    ///
    /// # Errors
    /// As `parameter`.
    pub fn persistent(&mut self, role: Role, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.add(name.into(), shape, Storage::Persistent(role))
    }

    /// A tensor of constant values, written once when the plan is placed on a device; without `fill`, because they are not known yet, the
    /// plan can be looked at and not run.
    ///
    /// # Errors
    /// As `parameter`.
    pub fn constant(&mut self, role: Role, name: &str, shape: &[usize], fill: Option<Fill>) -> Result<Tensor> {
        let tensor = self.persistent(role, name, shape)?;
        self.fixed.constants.extend(fill.map(|fill| (tensor, fill)));
        Ok(tensor)
    }

    /// A tensor in a pooled buffer.
    ///
    /// # Errors
    /// As `parameter`.
    pub fn activation(&mut self, name: impl Into<String>, shape: &[usize]) -> Result<Tensor> {
        self.add(name.into(), shape, Storage::Transient(Role::Activations))
    }

    /// A pooled tensor of the shape of another.
    ///
    /// # Errors
    /// As `parameter`.
    pub fn like(&mut self, name: impl Into<String>, other: Tensor) -> Result<Tensor> {
        let shape = self.shape(other).to_vec();
        self.activation(name, &shape)
    }

    /// Scratch in a pooled buffer.
    ///
    /// # Errors
    /// As `parameter`.
    pub fn workspace(&mut self, name: impl Into<String>, shape: &[usize]) -> Result<Tensor> {
        self.add(name.into(), shape, Storage::Transient(Role::Workspace))
    }

    /// Keeps a pooled tensor alive to the end of the plan, for the host to read.
    pub fn keep(&mut self, tensor: Tensor) {
        self.fixed.read_back.push(tensor);
    }

    /// A stream of random numbers that no other part of the plan uses.
    pub fn stream(&mut self) -> u32 {
        self.streams += 1;
        self.streams
    }

    /// The dispatches that follow belong to this part of the step.
    pub fn begin(&mut self, section: Section) {
        self.section = section;
    }

    /// Records dispatches of another part of the step, and comes back to this one.
    ///
    /// # Errors
    /// The errors of `record`.
    pub fn within<T>(&mut self, section: Section, record: impl FnOnce(&mut Plan) -> Result<T>) -> Result<T> {
        let before = std::mem::replace(&mut self.section, section);
        let recorded = record(self);
        self.section = before;
        recorded
    }

    /// Records dispatches of the backward pass that run where they stand, among the forward pass: gradients by what is overwritten next, as
    /// of a loss that is computed in chunks of rows.
    ///
    /// # Errors
    /// The errors of `record`.
    pub fn at_once<T>(&mut self, record: impl FnOnce(&mut Plan) -> Result<T>) -> Result<T> {
        self.early = true;
        let recorded = record(self);
        self.early = false;
        recorded
    }

    /// Records a launch after checking it against what naga reflects of the shader: each binding and parameter exactly once, by name
    /// and type, and no pooled tensor read before it is written.
    ///
    /// # Errors
    /// `Internal`, naming the kernel, the label and what differs.
    pub fn record(&mut self, dispatch: Dispatch, grid: Grid) -> Result<()> {
        let Dispatch { kernel, label, consts, bindings, params, flops, moved, shared, variants } = dispatch;
        let Launch { shader, grid, kind, variants } = self.choose(kernel, &consts, grid, &params, variants)?;
        let wrong = |what: String| Error::Internal(format!("{kernel} at {label}: {what}"));
        let overwrites = consts.iter().any(|(name, value)| *name == "OVERWRITE" && *value > 0);
        let (mut tensors, mut extents) = (Vec::with_capacity(bindings.len()), Vec::with_capacity(bindings.len()));
        for binding in &shader.bindings {
            let mut bound = bindings.iter().filter(|(name, _)| *name == binding.name);
            let (Some((_, tensor)), None) = (bound.next(), bound.next()) else {
                return Err(wrong(format!("binding {} is needed exactly once", binding.name)));
            };
            let info = self.info(*tensor);
            if binding.access == Access::Read && info.pooled() && !self.written.contains(tensor) {
                return Err(wrong(format!("{} is read before it is written", info.name)));
            }
            if binding.access == Access::Write && !overwrites && !self.accumulates(*tensor)? {
                return Err(wrong(format!(
                    "{} is a sum that nobody clears: the first kernel that adds to it uses shaders/common/sum and kernels::adding",
                    info.name
                )));
            }
            let part = moved.iter().find(|(name, _)| *name == binding.name).map_or(0..info.len(), |(_, elements)| elements.clone());
            let shared = shared.iter().find(|(name, _)| *name == binding.name).map_or(Shared::NO, |(_, shared)| *shared);
            extents.push(Extent { elements: part.start.min(info.len())..part.end.min(info.len()), shared });
            tensors.push(*tensor);
        }
        if let Some((name, _)) = bindings.iter().find(|(name, _)| shader.bindings.iter().all(|b| b.name != *name)) {
            return Err(wrong(format!("binding {name} is given, and the shader does not use it")));
        }
        if params.len() != shader.params.len() {
            return Err(wrong(format!("{} parameters given, the shader has {}", params.len(), shader.params.len())));
        }
        let mut immediates = vec![0u8; shader.params_bytes as usize];
        for (name, offset, kind) in &shader.params {
            let value = match (params.iter().find(|(n, _)| n == name), kind) {
                (Some((_, Param::U32(u32::MAX))), _) => return Err(wrong(format!("{name} exceeds 32 bits"))),
                (Some((_, Param::U32(v))), ParamType::U32) => v.to_le_bytes(),
                (Some((_, Param::F32(v))), ParamType::F32) => v.to_le_bytes(),
                _ => return Err(wrong(format!("parameter {name} is missing or not {kind:?}"))),
            };
            immediates[*offset as usize..*offset as usize + 4].copy_from_slice(&value);
        }
        self.within_limits(&shader, &label, &immediates)?;
        let grid = self.workgroups(grid, &shader)?;
        let (early, place) = (self.early, self.section);
        let section = if early { Section::Backward } else { place };
        let entry =
            Entry { shader, label, tensors, params, immediates, grid, kind, variants, paired: false, section, early, flops, extents };
        for tensor in entry.writes() {
            if let Storage::Gradient { offset } = self.info(tensor).storage
                && !self.accumulates(tensor)?
            {
                self.summed.insert(offset, offset + self.len(tensor));
            }
            self.written.insert(tensor);
        }
        // A section may be gone on with after the next has begun, as terms of a loss do: their gradients are computed after all of the
        // forward pass.
        let at = self.range(place).end;
        if let Some(later) = self.entries[at..].iter().find(|later| self.depend(&entry, later)) {
            return Err(Error::Internal(format!(
                "{kernel} at {}: it belongs before {} at {}, which was recorded first and depends on it",
                entry.label, later.shader.name, later.label
            )));
        }
        self.fixed.entries.insert(at, entry);
        Ok(())
    }

    /// Ways to launch a kernel, and the one that the target was found to run fastest, if it was asked; else the given one.
    fn choose(
        &self,
        kernel: &str,
        consts: &[(&'static str, u32)],
        grid: Grid,
        params: &[(&'static str, Param)],
        mut variants: Vec<Variant>,
    ) -> Result<Launch> {
        let shader = Shader::load(kernel, consts)?;
        if let Grid::Threads(_) = grid
            && shader.sizeable
            && shader.workgroup_bytes == 0
        {
            // Where every element stands alone, workgroups of any size do.
            let others = [64, 128, 256].into_iter().filter(|size| *size != shader.workgroup);
            variants.extend(others.map(|size| Variant { consts: vec![("WG", size)], grid, cycles: 0 }));
        }
        let varies = |name: &str| variants.iter().any(|variant| variant.consts.iter().any(|(other, _)| *other == name));
        let mut kind = kernel.to_string();
        consts.iter().filter(|(name, _)| !varies(name)).for_each(|(name, value)| kind += &format!(" {name}={value}"));
        // Where a launch begins in a longer tensor, and which numbers it draws, change nothing of its time.
        let sizes = params.iter().filter(|(name, _)| !name.ends_with("_at") && !["t", "stream"].contains(name));
        for (name, value) in sizes {
            if let Param::U32(value) = value {
                kind += &format!(" {name}={value}");
            }
        }
        if self.options.halves {
            kind += " f16";
        }
        let chosen = self.target.tuned.and_then(|tuned| tuned.of(&kind));
        let Some(at) = chosen.and_then(|name| variants.iter().position(|variant| variant.name() == name)) else {
            return Ok(Launch { shader, grid, kind, variants });
        };
        let other = Shader::load(kernel, &variants[at].over(consts))?;
        // A run may come with a checkpoint from a device that allows more.
        if self.has_room(&other, kernel).is_err() {
            return Ok(Launch { shader, grid, kind, variants });
        }
        let measured = variants.swap_remove(at);
        // The given way stays one of the others; only the size of workgroups may be left to the shader.
        let value = |name: &str| consts.iter().find(|(own, _)| *own == name).map_or(shader.workgroup, |(_, value)| *value);
        let own = measured.consts.iter().map(|(name, _)| (*name, value(name))).collect();
        variants.push(Variant { consts: own, grid, cycles: measured.cycles });
        Ok(Launch { shader: other, grid: measured.grid, kind, variants })
    }
}
