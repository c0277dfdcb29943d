//! The tensors of a plan: where they live, how weights begin, and what constants hold.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::gpu::Role;

/// Elements between the starts of neighbouring tensors in a flat buffer are a multiple of this: 256 bytes, the binding alignment.
pub const FLAT_ALIGN: usize = 64;

/// Handle of a tensor in its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tensor(pub(super) u32);

/// Memory that a tensor lives in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// Slice of the flat parameter buffer.
    Parameter {
        /// First element.
        offset: usize,
    },
    /// Slice of the flat buffer of frozen weights, which no step changes.
    Frozen {
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

impl Storage {
    /// That of a weight so many elements further on; none for what is no weight.
    pub(super) fn after(self, elements: usize) -> Option<Storage> {
        match self {
            Storage::Parameter { offset } => Some(Storage::Parameter { offset: offset + elements }),
            Storage::Frozen { offset } => Some(Storage::Frozen { offset: offset + elements }),
            _ => None,
        }
    }
}

/// The flat buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flat {
    /// Weights that are trained.
    Parameters,
    /// Their gradients.
    Gradients,
    /// Adam's first moment.
    FirstMoment,
    /// Adam's second moment.
    SecondMoment,
    /// Weights that are not trained, of a run that has such.
    Frozen,
}

impl Flat {
    /// All of them, in the order in which they are allocated.
    pub const ALL: [Flat; 5] = [Flat::Parameters, Flat::Gradients, Flat::FirstMoment, Flat::SecondMoment, Flat::Frozen];

    /// Name of the buffer.
    pub fn name(self) -> &'static str {
        match self {
            Flat::Parameters => "parameters",
            Flat::Gradients => "gradients",
            Flat::FirstMoment => "adam.m",
            Flat::SecondMoment => "adam.v",
            Flat::Frozen => "frozen",
        }
    }

    /// Role of the buffer.
    pub fn role(self) -> Role {
        match self {
            Flat::Parameters | Flat::Frozen => Role::Parameters,
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
    /// ln U(least, most).
    LogOfUniform(f64, f64),
    /// Numbers whose softplus is uniform in its logarithm from least to most, but not below the third number: `dt_bias` of Mamba-2.
    SoftplusLogUniform(f64, f64, f64),
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

    /// True if it has no element; never so in a recorded plan.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Elements of a flat buffer of these weights, padding included.
pub fn flat_len(parameters: &[Parameter]) -> usize {
    parameters.last().map_or(0, |last| (last.offset + last.len()).next_multiple_of(FLAT_ALIGN))
}

/// Numbers of weights that are trained and that are not, in words.
pub fn counted(trained: usize, frozen: usize) -> String {
    match frozen {
        0 => format!("{trained} parameters"),
        _ => format!("{trained} parameters of adapters, {frozen} frozen"),
    }
}

/// Two trained factors beside frozen weights W (outputs, inputs), which together are W + scale · B·A (Hu et al. 2021, "LoRA: low-rank
/// adaptation of large language models", eq. 3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adapter {
    /// Names of the weights, whose rows follow one another in B.
    pub weights: Vec<String>,
    /// Name of A (rank, inputs).
    pub a: String,
    /// Name of B (outputs, rank).
    pub b: String,
    /// α / rank.
    pub scale: f64,
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

    /// Words of a range of the elements.
    pub(crate) fn words(&self, range: Range<usize>) -> Vec<u32> {
        (self.0)(range)
    }
}

impl std::fmt::Debug for Fill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fill")
    }
}

/// Properties of one tensor of a plan.
#[derive(Debug, Clone)]
pub struct TensorInfo {
    /// Name, unique in the plan.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Memory that it lives in.
    pub storage: Storage,
    /// Stored as 16-bit floats.
    pub half: bool,
}

impl TensorInfo {
    /// Number of elements; each is four bytes, or two.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// True if it lies in a pooled buffer, and lives from the first entry that uses it to the last.
    pub(crate) fn pooled(&self) -> bool {
        matches!(self.storage, Storage::Transient(_))
    }

    /// Bytes of all elements.
    pub fn bytes(&self) -> u64 {
        self.bytes_of(self.len())
    }

    /// Bytes of so many elements.
    pub fn bytes_of(&self, elements: usize) -> u64 {
        elements as u64 * if self.half { 2 } else { 4 }
    }

    /// True if it has no element; never so in a recorded plan.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Parts of a step, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// Loss and what it needs.
    Forward,
    /// Gradients.
    Backward,
    /// Gradient norm and optimiser.
    Update,
}

impl Section {
    /// How often it runs in a step of `micro_steps` micro-steps.
    pub fn times(self, micro_steps: usize) -> usize {
        if self < Section::Update { micro_steps } else { 1 }
    }
}
