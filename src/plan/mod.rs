//! The plan: a model laid out on the host as a list of kernel dispatches over named tensors of fixed shape.
//!
//! Recording needs no device. The memory report is read off the plan, the profiler times it entry by entry, the tests walk it, and
//! a training step is one replay of it.

mod memory;
mod program;

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

pub use memory::{BufferSpec, ImageSpec, LayoutOptions, Memory, MemoryReport, Place, TensorLine};
pub use program::{Arena, Program, Timing};

use crate::error::{Error, Result};
use crate::gpu::{Access, BindingKind, Form, IMAGE_ROW, ParamType, Role, Shader, Target};

/// Elements between the starts of neighbouring tensors in a flat buffer are a multiple of this: 256 bytes, the binding alignment.
pub const FLAT_ALIGN: usize = 64;

/// Handle of a tensor in its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tensor(u32);

/// Where a tensor lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// Slice of the flat parameter buffer.
    Parameter {
        /// First element.
        offset: usize,
    },
    /// Slice of the flat gradient buffer.
    Gradient {
        /// First element.
        offset: usize,
    },
    /// A whole flat buffer, as the optimiser sees it.
    Flat(Flat),
    /// A buffer of its own, shared by name between the plans of a run.
    Persistent(Role),
    /// A buffer from the pool that plans reuse by lifetime.
    Transient(Role),
}

/// The four flat buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flat {
    /// Weights.
    Parameters,
    /// Their gradients.
    Gradients,
    /// Adam's first moment.
    FirstMoment,
    /// Adam's second moment.
    SecondMoment,
}

impl Flat {
    /// All four, in the order in which they are allocated.
    pub const ALL: [Flat; 4] = [Flat::Parameters, Flat::Gradients, Flat::FirstMoment, Flat::SecondMoment];

    /// Name of the buffer.
    pub fn name(self) -> &'static str {
        match self {
            Flat::Parameters => "parameters",
            Flat::Gradients => "gradients",
            Flat::FirstMoment => "adam.m",
            Flat::SecondMoment => "adam.v",
        }
    }

    /// Role of the buffer.
    pub fn role(self) -> Role {
        match self {
            Flat::Parameters => Role::Parameters,
            Flat::Gradients => Role::Gradients,
            Flat::FirstMoment | Flat::SecondMoment => Role::Optimizer,
        }
    }
}

/// Initial values of a parameter, as PyTorch draws them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// All 0.
    Zeros,
    /// All 1.
    Ones,
    /// U(−bound, bound).
    Uniform(f64),
    /// N(0, std²).
    Normal(f64),
}

/// A weight: its PyTorch name, shape, place in the flat buffers and initialisation.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// `state_dict` name.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// First element in the flat buffers.
    pub offset: usize,
    /// Initial distribution.
    pub init: Init,
}

impl Parameter {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no element; never so in a recorded plan.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Numbers that are kept with the weights and are not trained, as a PyTorch module's buffers.
#[derive(Debug, Clone, PartialEq)]
pub struct Buffer {
    /// `state_dict` name.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Values.
    pub values: Vec<f32>,
}

/// Values of a constant tensor: words of a range of its elements, asked for piece by piece when it is placed on a device.
#[derive(Clone)]
pub struct Fill(Arc<dyn Fn(Range<usize>) -> Vec<u32> + Send + Sync>);

impl Fill {
    /// Values that are made when they are asked for.
    pub fn new(words: impl Fn(Range<usize>) -> Vec<u32> + Send + Sync + 'static) -> Self {
        Fill(Arc::new(words))
    }

    /// These numbers.
    pub fn floats(values: Vec<f32>) -> Self {
        Fill::new(move |range| values[range].iter().map(|v| v.to_bits()).collect())
    }

    pub(super) fn words(&self, range: Range<usize>) -> Vec<u32> {
        (self.0)(range)
    }
}

impl std::fmt::Debug for Fill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fill")
    }
}

/// What a plan knows of one tensor.
#[derive(Debug, Clone)]
pub struct TensorInfo {
    /// Name, unique in the plan.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Where it lives.
    pub storage: Storage,
}

impl TensorInfo {
    /// Number of elements; each is four bytes.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no element; never so in a recorded plan.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Parts of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Section {
    /// Loss and what it needs.
    Forward,
    /// Gradients.
    Backward,
    /// Gradient norm and optimiser.
    Update,
}

/// Value of a kernel parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Param {
    /// A size, count or index.
    U32(u32),
    /// A scalar.
    F32(f32),
}

/// One kernel launch, before it is recorded.
#[derive(Debug)]
pub struct Dispatch {
    kernel: &'static str,
    label: String,
    consts: Vec<(&'static str, u32)>,
    bindings: Vec<(&'static str, Tensor)>,
    params: Vec<(&'static str, Param)>,
    flops: u64,
}

impl Dispatch {
    /// A launch of `family/pass` under a label (the path of the layer).
    pub fn new(kernel: &'static str, label: impl Into<String>) -> Self {
        Dispatch { kernel, label: label.into(), consts: vec![], bindings: vec![], params: vec![], flops: 0 }
    }

    /// Replaces a const of the shader.
    pub fn constant(mut self, name: &'static str, value: u32) -> Self {
        self.consts.push((name, value));
        self
    }

    /// Binds a tensor to the variable of that name.
    pub fn bind(mut self, name: &'static str, tensor: Tensor) -> Self {
        self.bindings.push((name, tensor));
        self
    }

    /// Binds a tensor if there is one; the const `flag` says so to the shader.
    pub fn bind_if(self, flag: &'static str, name: &'static str, tensor: Option<Tensor>) -> Self {
        let known = self.consts.iter().any(|(name, _)| *name == flag);
        let this = if known { self } else { self.constant(flag, u32::from(tensor.is_some())) };
        match tensor {
            Some(tensor) => this.bind(name, tensor),
            None => this,
        }
    }

    /// Sets a `u32` parameter.
    pub fn size(mut self, name: &'static str, value: usize) -> Self {
        self.params.push((name, Param::U32(u32::try_from(value).unwrap_or(u32::MAX))));
        self
    }

    /// Sets an `f32` parameter.
    pub fn scalar(mut self, name: &'static str, value: f64) -> Self {
        self.params.push((name, Param::F32(value as f32)));
        self
    }

    /// Floating-point operations of the launch, for the profile.
    pub fn flops(mut self, flops: usize) -> Self {
        self.flops = flops as u64;
        self
    }
}

/// Size of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grid {
    /// One invocation for each element.
    Threads(usize),
    /// That many workgroups.
    Groups(usize),
}

/// A recorded launch.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Specialised kernel.
    pub shader: Arc<Shader>,
    /// Path of the layer that asked for it.
    pub label: String,
    /// Tensors in the order of the shader's bindings.
    pub tensors: Vec<Tensor>,
    /// Parameters by name.
    pub params: Vec<(&'static str, Param)>,
    /// The immediate block.
    pub immediates: Vec<u8>,
    /// Workgroups.
    pub grid: [u32; 3],
    /// Part of the step.
    pub section: Section,
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes read and written, each binding counted once.
    pub bytes: u64,
}

impl Entry {
    /// Tensor bound to a variable.
    pub fn tensor(&self, name: &str) -> Option<Tensor> {
        let position = self.shader.bindings.iter().position(|b| b.name == name)?;
        Some(self.tensors[position])
    }

    /// `u32` parameter, 0 when absent.
    pub fn size(&self, name: &str) -> usize {
        match self.params.iter().find(|(n, _)| *n == name) {
            Some((_, Param::U32(v))) => *v as usize,
            _ => 0,
        }
    }

    /// `f32` parameter, 0 when absent.
    pub fn scalar(&self, name: &str) -> f64 {
        match self.params.iter().find(|(n, _)| *n == name) {
            Some((_, Param::F32(v))) => f64::from(*v),
            _ => 0.0,
        }
    }

    /// Value of a replaced const, 0 when it was not replaced.
    pub fn constant(&self, name: &str) -> u32 {
        self.shader.consts.iter().find(|(n, _)| *n == name).map_or(0, |(_, v)| *v)
    }
}

/// Static lists of dispatches over named tensors.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Name for reports: train, evaluate, decode.
    pub name: String,
    /// Device that the kernel variants are chosen for.
    pub target: Target,
    /// Whether a backward pass follows: then dropout drops, and layers keep what it needs.
    pub trains: bool,
    tensors: Vec<TensorInfo>,
    names: HashMap<String, Tensor>,
    parameters: Vec<Parameter>,
    entries: Vec<Entry>,
    written: HashSet<Tensor>,
    section: Section,
    kept: Vec<Tensor>,
    parts: Vec<(Tensor, Tensor, usize)>,
    constants: Vec<(Tensor, Fill)>,
    dropped: HashSet<Tensor>,
    streams: u32,
}

impl Plan {
    /// An empty plan of a training step.
    pub fn training(name: &str, target: Target) -> Self {
        Plan { trains: true, ..Plan::new(name, target) }
    }

    /// An empty plan without a backward pass.
    pub fn new(name: &str, target: Target) -> Self {
        Plan {
            name: name.into(),
            target,
            trains: false,
            tensors: vec![],
            names: HashMap::new(),
            parameters: vec![],
            entries: vec![],
            written: HashSet::new(),
            section: Section::Forward,
            kept: vec![],
            parts: vec![],
            constants: vec![],
            dropped: HashSet::new(),
            streams: 0,
        }
    }

    fn add(&mut self, name: String, shape: &[usize], storage: Storage) -> Result<Tensor> {
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
        self.names.insert(name.clone(), tensor);
        self.tensors.push(TensorInfo { name, shape: shape.to_vec(), storage });
        Ok(tensor)
    }

    /// Declares a weight under its PyTorch name.
    ///
    /// # Errors
    /// `Config` when the shape overflows, `Internal` when the name is taken.
    pub fn parameter(&mut self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        let offset = self.flat_len();
        let tensor = self.add(name.into(), shape, Storage::Parameter { offset })?;
        self.parameters.push(Parameter { name: name.into(), shape: shape.to_vec(), offset, init });
        Ok(tensor)
    }

    /// A contiguous part of a weight, from its element `first`; its gradient is the same part of the weight's.
    ///
    /// # Errors
    /// `Config` when bindings cannot start there, `Internal` when the tensor is no parameter.
    pub fn part(&mut self, parameter: Tensor, first: usize, shape: &[usize]) -> Result<Tensor> {
        let info = self.info(parameter);
        let (name, len) = (info.name.clone(), info.len());
        let Storage::Parameter { offset } = info.storage else {
            return Err(Error::Internal(format!("{name} is no parameter")));
        };
        if first + shape.iter().product::<usize>() > len {
            return Err(Error::Internal(format!("{name} has {len} elements: no part {shape:?} from {first}")));
        }
        if !first.is_multiple_of(FLAT_ALIGN) {
            return Err(Error::Config(format!(
                "part of {name} from element {first}: bindings start at multiples of {FLAT_ALIGN}. Use a width that is a multiple of {FLAT_ALIGN}"
            )));
        }
        let part = self.add(format!("{name}[{first}..]"), shape, Storage::Parameter { offset: offset + first })?;
        self.parts.push((part, parameter, first));
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
            let Storage::Parameter { offset } = info.storage else {
                return Err(Error::Internal(format!("{} is no parameter", info.name)));
            };
            if !first.is_multiple_of(FLAT_ALIGN) {
                return Err(Error::Config(format!(
                    "{name}: its parts need sizes that are multiples of {FLAT_ALIGN} elements. Use a width that is a multiple of 8"
                )));
            }
            if *start.get_or_insert(offset) + first != offset {
                return Err(Error::Internal(format!("{} does not follow the weight before it", info.name)));
            }
            parts.push((*weight, first));
            first += info.len();
        }
        let offset = start.filter(|_| first == shape.iter().product::<usize>());
        let offset = offset.ok_or_else(|| Error::Internal(format!("{name}: parts of {first} elements make no {shape:?}")))?;
        let whole = self.add(name.into(), shape, Storage::Parameter { offset })?;
        self.parts.extend(parts.into_iter().map(|(part, first)| (part, whole, first)));
        Ok(whole)
    }

    /// Parts of weights: (part, weight, first element).
    pub fn parts(&self) -> &[(Tensor, Tensor, usize)] {
        &self.parts
    }

    /// Gradient of a weight: accumulated by `+=`, cleared by the optimiser.
    ///
    /// # Errors
    /// `Internal` when the tensor is no parameter.
    pub fn gradient(&mut self, parameter: Tensor) -> Result<Tensor> {
        let info = self.info(parameter);
        let Storage::Parameter { offset } = info.storage else {
            return Err(Error::Internal(format!("{} is no parameter", info.name)));
        };
        let (name, shape) = (format!("grad.{}", info.name), info.shape.clone());
        match self.names.get(&name) {
            Some(found) => Ok(*found),
            None => self.add(name, &shape, Storage::Gradient { offset }),
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
        self.constants.extend(fill.map(|fill| (tensor, fill)));
        Ok(tensor)
    }

    /// Constant tensors with their values.
    pub(crate) fn constants(&self) -> &[(Tensor, Fill)] {
        &self.constants
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
        self.kept.push(tensor);
    }

    /// Drops the launches whose results nobody reads, such as the gradient of what is data; what the host reads is kept (`keep`).
    pub fn prune(&mut self) {
        let mut read: HashSet<Tensor> = self.kept.iter().copied().collect();
        let mut needed = vec![false; self.entries.len()];
        for (entry, needed) in self.entries.iter().zip(&mut needed).rev() {
            let lasting = |t: &Tensor| !matches!(self.tensors[t.0 as usize].storage, Storage::Transient(_));
            *needed = entry.writes().any(|t| lasting(&t) || read.contains(&t));
            if *needed {
                read.extend(entry.tensors.iter().copied());
            }
        }
        let mut keep = needed.into_iter();
        self.entries.retain(|_| keep.next().unwrap_or(true));
        let used: HashSet<Tensor> = self.entries.iter().flat_map(|e| e.tensors.iter().copied()).collect();
        let pooled = |t: &Tensor| matches!(self.tensors[t.0 as usize].storage, Storage::Transient(_));
        self.dropped = (0..self.tensors.len() as u32).map(Tensor).filter(|t| pooled(t) && !used.contains(t)).collect();
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

    /// What is known of a tensor.
    pub fn info(&self, tensor: Tensor) -> &TensorInfo {
        &self.tensors[tensor.0 as usize]
    }

    /// Shape of a tensor.
    pub fn shape(&self, tensor: Tensor) -> &[usize] {
        &self.info(tensor).shape
    }

    /// Elements of a tensor.
    pub fn len(&self, tensor: Tensor) -> usize {
        self.info(tensor).len()
    }

    /// Whether nothing was recorded.
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

    /// Weights in the order of their declaration.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Number of weights, without padding.
    pub fn parameter_count(&self) -> usize {
        self.parameters.iter().map(Parameter::len).sum()
    }

    /// Elements of a flat buffer, padding included.
    pub fn flat_len(&self) -> usize {
        self.parameters.last().map_or(0, |p| (p.offset + p.len()).next_multiple_of(FLAT_ALIGN))
    }

    /// Recorded dispatches.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Range of the dispatches of one section.
    pub fn range(&self, section: Section) -> Range<usize> {
        let first = self.entries.iter().position(|e| e.section == section).unwrap_or(0);
        let count = self.entries.iter().filter(|e| e.section == section).count();
        first..first + count
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

    /// What a read-only array in a storage buffer becomes on this target.
    fn form(&self, tensor: Tensor) -> Option<Form> {
        let elements = self.len(tensor);
        if elements.next_multiple_of(4) * 4 <= self.target.uniform_bytes as usize {
            return Some(Form::Uniform(elements));
        }
        (elements.div_ceil(IMAGE_ROW) <= self.target.image_rows as usize).then_some(Form::Image)
    }

    /// Whether dispatches read a copy of this tensor in an image, so that they may also write the tensor itself.
    pub(crate) fn reads_copy(&self, tensor: Tensor) -> bool {
        self.form(tensor) == Some(Form::Image)
    }

    /// Records a launch after checking it against what naga reflects of the shader: each binding and parameter exactly once, by name
    /// and type, and no pooled tensor read before it is written.
    ///
    /// # Errors
    /// `Internal`, naming the kernel, the label and what differs.
    pub fn record(&mut self, dispatch: Dispatch, grid: Grid) -> Result<()> {
        let Dispatch { kernel, label, consts, bindings, params, flops } = dispatch;
        let mut shader = Shader::load(kernel, &consts)?;
        let form = |name: &str| self.form(bindings.iter().find(|(n, _)| *n == name)?.1);
        let reads = shader.bindings.iter().filter(|b| b.access == Access::Read);
        let forms: Vec<(String, Form)> = reads.filter_map(|b| Some((b.name.clone(), form(&b.name)?))).collect();
        if !forms.is_empty() {
            shader = Shader::load_with(kernel, &consts, &forms)?;
        }
        let wrong = |what: String| Error::Internal(format!("{kernel} at {label}: {what}"));
        let mut tensors = Vec::with_capacity(bindings.len());
        let mut bytes = 0;
        for binding in &shader.bindings {
            let mut given = bindings.iter().filter(|(name, _)| *name == binding.name);
            let (Some((_, tensor)), None) = (given.next(), given.next()) else {
                return Err(wrong(format!("binding {} is needed exactly once", binding.name)));
            };
            let info = self.info(*tensor);
            if binding.access == Access::Read && matches!(info.storage, Storage::Transient(_)) && !self.written.contains(tensor) {
                return Err(wrong(format!("{} is read before it is written", info.name)));
            }
            bytes += info.len() as u64 * 4;
            tensors.push(*tensor);
        }
        if bindings.len() != shader.bindings.len() {
            return Err(wrong(format!("{} bindings given, the shader has {}", bindings.len(), shader.bindings.len())));
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
        let groups = match grid {
            Grid::Threads(threads) => threads.div_ceil(shader.workgroup as usize),
            Grid::Groups(groups) => groups,
        };
        let x = groups.min(self.target.max_groups as usize).max(1);
        let y = groups.div_ceil(x);
        if y > 65_535 {
            return Err(wrong(format!("{groups} workgroups exceed the grid")));
        }
        let grid = [x as u32, y as u32, 1];
        let entry = Entry { shader, label, tensors, params, immediates, grid, section: self.section, flops, bytes };
        self.written.extend(entry.writes());
        self.entries.push(entry);
        Ok(())
    }

    /// Fails where a kernel passes what the target allows.
    fn within_limits(&self, shader: &Shader, label: &str, immediates: &[u8]) -> Result<()> {
        let target = &self.target;
        let storage = shader.bindings.iter().filter(|b| b.kind == BindingKind::Storage).count() as u32;
        for (what, needed, allowed) in [
            ("bytes of workgroup memory", shader.workgroup_bytes, target.workgroup_memory),
            ("invocations in a workgroup", shader.workgroup, target.workgroup_invocations),
            ("storage buffers", storage, target.storage_buffers),
            ("bytes of parameters", shader.params_bytes, target.immediate_bytes),
        ] {
            if needed > allowed {
                return Err(Error::Config(format!(
                    "{} at {label} needs {needed} {what}; the device allows {allowed}. Use smaller heads or layers there, or another device",
                    shader.name
                )));
            }
        }
        if target.loop_iterations < u64::MAX {
            let iterations = shader.loop_iterations(immediates)?;
            if iterations > target.loop_iterations {
                return Err(Error::Config(format!(
                    "{} at {label}: one invocation may loop {iterations} times, and software adapters end its loops after {}, which would \
                     leave the rest out of the sum. Lower train.batch or the length of the sequences, or run on a GPU",
                    shader.name, target.loop_iterations
                )));
            }
        }
        Ok(())
    }

    /// The plan as text: every dispatch with its tensors.
    pub fn dump(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "plan {}: {} dispatches, {} tensors, {} parameters",
            self.name,
            self.entries.len(),
            self.tensors().count(),
            self.parameter_count()
        );
        let width = self.entries.iter().map(|e| e.shader.name.len()).max().unwrap_or(0);
        let labels = self.entries.iter().map(|e| e.label.len()).max().unwrap_or(0);
        for (i, e) in self.entries.iter().enumerate() {
            let section = format!("{:?}", e.section).to_lowercase();
            let _ = write!(out, "{i:4} {section:8} {:width$}  {:labels$}  ", e.shader.name, e.label);
            for (binding, tensor) in e.shader.bindings.iter().zip(&e.tensors) {
                let info = self.info(*tensor);
                let mark = if binding.access == Access::Write { "→" } else { "" };
                let _ = write!(out, " {mark}{}={}{:?}", binding.name, info.name, info.shape);
            }
            out.push('\n');
        }
        out
    }
}

impl Entry {
    /// Tensors that the launch reads as images, with the components of a texel.
    pub(crate) fn images(&self) -> impl Iterator<Item = (u32, Tensor)> + '_ {
        self.shader.bindings.iter().zip(&self.tensors).filter_map(|(b, t)| match b.kind {
            BindingKind::Image(components) => Some((components, *t)),
            _ => None,
        })
    }

    /// Tensors that the launch writes.
    pub fn writes(&self) -> impl Iterator<Item = Tensor> + '_ {
        self.shader.bindings.iter().zip(&self.tensors).filter(|(b, _)| b.access == Access::Write).map(|(_, t)| *t)
    }
}
