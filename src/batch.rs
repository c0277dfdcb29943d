//! What a batch holds, by name: as data offer it, as tensors of a plan, and as words of the host.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

pub use crate::datasets::scale::{Normalization, Scale};
use crate::error::{Error, Result};
use crate::layers::{Projected, Projection};
use crate::plan::{Buffer, Tensor};

/// Names of the buffers that keep the scale of a field with the weights.
fn scale_names(field: &str) -> [String; 2] {
    ["mean", "deviation"].map(|what| format!("normalization.{field}.{what}"))
}

/// Buffers that keep the scale of a field with the weights.
pub fn scale_buffers(scale: &Scale, field: &str) -> [Buffer; 2] {
    let [mean, deviation] = scale_names(field);
    let buffer = |name: String, values: &[f32]| Buffer { name, shape: vec![values.len()], values: values.to_vec() };
    [buffer(mean, &scale.mean), buffer(deviation, &scale.deviation)]
}

/// Scale of a field that was kept with weights, if it has one.
pub fn saved_scale(buffers: &[Buffer], field: &str) -> Option<Scale> {
    let [mean, deviation] = scale_names(field).map(|name| buffers.iter().find(|buffer| buffer.name == name));
    Some(Scale { mean: mean?.values.clone(), deviation: deviation?.values.clone() })
}

/// A name that lives as long as the process: each is stored once.
pub fn interned(name: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return known;
    }
    let name: &'static str = name.to_string().leak();
    names.insert(name);
    name
}

/// A named input of a model or a loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Name by which models and losses ask for it.
    pub name: &'static str,
    /// Shape for one sample.
    pub shape: Vec<usize>,
    /// Upper bound (exclusive) of integers; none for floating-point numbers.
    pub below: Option<usize>,
    /// True if it is a target, which the model predicts and does not see.
    pub answer: bool,
    /// Other names that an array with it may have in a file, besides its own name and that with an s.
    pub arrays: &'static [&'static str],
    /// Least and largest value, where the data have limits.
    pub limits: Option<[f32; 2]>,
    /// Normalisation of the numbers before the model sees them; targets are predicted as they are normalised.
    pub normalization: Normalization,
    /// True if a model that does not look at it would be wrong, such as at the lengths of padded sequences.
    pub needed: bool,
    /// Words of the integers, such as names of classes; empty if they have none.
    pub words: Vec<String>,
    /// True if it has a value for each position of sequences of unequal length, and none that counts after the end of one.
    pub each_position: bool,
}

impl Field {
    fn named(name: &'static str) -> Self {
        Field {
            name,
            shape: vec![],
            below: None,
            answer: false,
            arrays: &[],
            limits: None,
            normalization: Normalization::None,
            needed: false,
            words: vec![],
            each_position: false,
        }
    }

    /// A field of floating-point numbers.
    pub fn floats(name: &'static str, shape: &[usize]) -> Self {
        Field { shape: shape.to_vec(), ..Field::named(name) }
    }

    /// A field of integers from 0 to `below` − 1.
    pub fn integers(name: &'static str, shape: &[usize], below: usize) -> Self {
        Field { shape: shape.to_vec(), below: Some(below), ..Field::named(name) }
    }

    /// The field with these further array names.
    pub fn read_as(mut self, arrays: &'static [&'static str]) -> Self {
        self.arrays = arrays;
        self
    }

    /// The field with these limits of its values.
    pub fn within(mut self, limits: [f32; 2]) -> Self {
        self.limits = Some(limits);
        self
    }

    /// Number of elements in a sample.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// True if a sample has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True if an array of this name in a file holds the field.
    pub fn is_read_as(&self, array: &str) -> bool {
        array == self.name || array.strip_suffix('s') == Some(self.name) || self.arrays.contains(&array)
    }

    /// Description of a sample of the field, for messages.
    pub fn describe(&self) -> String {
        match self.below {
            Some(below) => format!("a sample has {:?} integers from {} to {}", self.shape, self.least(), below - 1),
            None => format!("a sample has {:?} numbers", self.shape),
        }
    }

    /// The 32-bit word that a kernel reads for this number: an integer, or the bits of a float.
    ///
    /// # Errors
    /// A message that says why the number is not valid.
    pub fn word(&self, value: f32) -> std::result::Result<u32, String> {
        match self.below {
            Some(below) if value.fract() == 0.0 && (self.least()..below as f32).contains(&value) => Ok(value as u32),
            Some(below) => Err(format!("{value} is no integer from {} to {}", self.least(), below - 1)),
            None if !value.is_finite() => Err(format!("{value} is not finite")),
            None => match self.limits {
                Some([least, most]) if !(least..=most).contains(&value) => Err(format!("{value} is not from {least} to {most}")),
                _ => Ok(value.to_bits()),
            },
        }
    }

    /// Least integer of the field.
    fn least(&self) -> f32 {
        self.limits.map_or(0.0, |[least, _]| least)
    }

    /// Number of features: the length of the last axis.
    pub fn features(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// The field marked as a target, which is no input of a model.
    pub fn answer(mut self) -> Self {
        self.answer = true;
        self
    }
}

/// All fields that the data have.
#[derive(Debug, Clone, PartialEq)]
pub struct Fields(pub Vec<Field>);

impl Fields {
    pub(crate) fn list(&self) -> String {
        let one = |f: &Field| format!("`{}` of shape {:?}", f.name, f.shape);
        self.0.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    fn find(&self, who: &str, name: &str) -> Result<&Field> {
        let missing = || Error::Config(format!("{who} needs `{name}`, which these data do not have: they have {}", self.list()));
        self.0.iter().find(|f| f.name == name).ok_or_else(missing)
    }

    /// Shape of a field of N axes.
    ///
    /// # Errors
    /// `Config` when there is no such field, with a list of those that exist.
    pub fn shape<const N: usize>(&self, who: &str, name: &str) -> Result<[usize; N]> {
        let shape = &self.find(who, name)?.shape;
        let wrong = |_| Error::Config(format!("{who} needs `{name}` with {N} axes; these data have {shape:?}"));
        shape.as_slice().try_into().map_err(wrong)
    }

    /// Upper bound (exclusive) of the integers of a field.
    ///
    /// # Errors
    /// `Config` when there is no such field or it holds no integers.
    pub fn below(&self, who: &str, name: &str) -> Result<usize> {
        let no_integers = || Error::Config(format!("{who} needs integers as `{name}`; these data have floating-point numbers"));
        self.find(who, name)?.below.ok_or_else(no_integers)
    }
}

/// Input tensors of a batch in a plan, by name.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// Number of samples in the batch.
    pub batch: usize,
    tensors: Vec<(&'static str, Tensor)>,
    fields: Vec<Field>,
}

impl Inputs {
    /// The inputs of a batch of this size, as yet without tensors.
    pub fn new(batch: usize) -> Self {
        Inputs { batch, tensors: vec![], fields: vec![] }
    }

    /// The inputs with one more tensor.
    pub fn with(mut self, name: &'static str, tensor: Tensor) -> Self {
        self.tensors.push((name, tensor));
        self
    }

    /// The inputs with the description of the data's fields.
    pub(crate) fn of(mut self, fields: Fields) -> Self {
        self.fields = fields.0;
        self
    }

    /// Upper bound (exclusive) of the integers of a field, if it is known.
    pub fn below(&self, name: &str) -> Option<usize> {
        self.fields.iter().find(|f| f.name == name)?.below
    }

    /// All tensors, with their names.
    pub fn tensors(&self) -> &[(&'static str, Tensor)] {
        &self.tensors
    }

    /// The tensor with this name, if there is one.
    pub fn find(&self, name: &str) -> Option<Tensor> {
        self.tensors.iter().find(|(n, _)| *n == name).map(|(_, t)| *t)
    }

    /// Name and tensor of the target of the data: the field that the model predicts.
    ///
    /// # Errors
    /// `Config` when there is none.
    pub fn answer(&self, who: &str) -> Result<(&'static str, Tensor)> {
        let found = self.fields.iter().filter(|field| field.answer).find_map(|field| Some((field.name, self.find(field.name)?)));
        found.ok_or_else(|| Error::Config(format!("{who} needs a target, which these data do not have")))
    }

    /// The tensor with this name.
    ///
    /// # Errors
    /// `Config` when there is none, with a list of those that exist.
    pub fn get(&self, who: &str, name: &str) -> Result<Tensor> {
        self.find(name).ok_or_else(|| {
            let names: Vec<String> = self.tensors.iter().map(|(n, _)| format!("`{n}`")).collect();
            Error::Config(format!("{who} needs `{name}`, which these data do not have: they have {}", names.join(", ")))
        })
    }
}

/// Outputs of a model: the one that the loss compares, and others by name.
#[derive(Debug, Clone)]
pub struct Outputs {
    /// Main output: prediction, logits or reconstruction; or the last layer, for the loss to apply.
    pub main: Projected,
    /// Other outputs by name, such as a posterior.
    pub others: Vec<(&'static str, Tensor)>,
}

impl Outputs {
    /// The main output alone.
    pub fn only(main: Tensor) -> Self {
        Outputs::projected(Projected::Whole(main))
    }

    /// What a last layer gives.
    pub fn projected(main: Projected) -> Self {
        Outputs { main, others: vec![] }
    }

    /// The main output as a whole.
    ///
    /// # Errors
    /// `Config` when the last layer is left to the loss, which `who` does not apply.
    pub fn whole(&self, who: &str) -> Result<Tensor> {
        match &self.main {
            Projected::Whole(main) => Ok(*main),
            Projected::Chunked(Projection { rows, outputs, .. }) => Err(Error::Config(format!(
                "{who} takes the outputs of the model as a whole, and {rows} times {outputs} of them are not stored: use loss.kind = \"cross_entropy\""
            ))),
        }
    }

    /// Another output, by name.
    pub fn find(&self, name: &str) -> Option<Tensor> {
        self.others.iter().find(|(n, _)| *n == name).map(|(_, t)| *t)
    }
}

/// Inputs of one micro-batch, in host memory.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Names of input tensors, and their elements as 32-bit words.
    pub inputs: Vec<(&'static str, Vec<u32>)>,
    /// Number of valid rows of results; later rows of a short batch are ignored.
    pub rows: usize,
    /// Number that means are divided by: the valid rows, or fewer if some of them are masked.
    pub count: usize,
    /// True if the terms of the loss that take part in some batches only take part in this one.
    pub drawn: bool,
}

impl Batch {
    /// Words of an input; empty if there is none of this name.
    pub fn words(&self, name: &str) -> &[u32] {
        self.inputs.iter().find(|(n, _)| *n == name).map_or(&[], |(_, words)| words)
    }
}
