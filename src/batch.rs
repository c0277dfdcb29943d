//! What a batch holds, by name: as data offer it, as tensors of a plan, and as words of the host.

use crate::error::{Error, Result};
use crate::plan::Tensor;

/// One input of a model or a loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// What models and losses ask for it by.
    pub name: &'static str,
    /// Shape for one sample.
    pub shape: Vec<usize>,
    /// Integers below this; without it, floating-point numbers.
    pub below: Option<usize>,
    /// It is what is to be predicted.
    pub answer: bool,
    /// Names of arrays that hold it in a file, besides its own and that with an s.
    pub arrays: &'static [&'static str],
}

impl Field {
    /// Floating-point numbers.
    pub fn floats(name: &'static str, shape: &[usize]) -> Self {
        Field { name, shape: shape.to_vec(), below: None, answer: false, arrays: &[] }
    }

    /// Integers from 0 to `below` − 1.
    pub fn integers(name: &'static str, shape: &[usize], below: usize) -> Self {
        Field { name, shape: shape.to_vec(), below: Some(below), answer: false, arrays: &[] }
    }

    /// The same under other names in files.
    pub fn read_as(mut self, arrays: &'static [&'static str]) -> Self {
        self.arrays = arrays;
        self
    }

    /// Numbers of a sample.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether a sample has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether an array of a file holds it, by the name.
    pub fn is_read_as(&self, array: &str) -> bool {
        array == self.name || array.strip_suffix('s') == Some(self.name) || self.arrays.contains(&array)
    }

    /// What a sample of it is, in words.
    pub fn describe(&self) -> String {
        match self.below {
            Some(below) => format!("a sample has {:?} integers from 0 to {}", self.shape, below - 1),
            None => format!("a sample has {:?} numbers", self.shape),
        }
    }

    /// The word that a kernel reads for a number.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub fn word(&self, value: f32) -> std::result::Result<u32, String> {
        match self.below {
            Some(below) if value.fract() == 0.0 && (0.0..below as f32).contains(&value) => Ok(value as u32),
            Some(below) => Err(format!("{value} is no integer from 0 to {}", below - 1)),
            None if value.is_finite() => Ok(value.to_bits()),
            None => Err(format!("{value} is not finite")),
        }
    }

    /// The same as what is to be predicted, which is no input of a model.
    pub fn answer(mut self) -> Self {
        self.answer = true;
        self
    }
}

/// All that data offer.
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
    /// `Config` when there is none, with those that there are.
    pub fn shape<const N: usize>(&self, who: &str, name: &str) -> Result<[usize; N]> {
        let shape = &self.find(who, name)?.shape;
        let wrong = |_| Error::Config(format!("{who} needs `{name}` with {N} axes; these data have {shape:?}"));
        shape.as_slice().try_into().map_err(wrong)
    }

    /// What the integers of a field are below.
    ///
    /// # Errors
    /// `Config` when there is no such field or it holds no integers.
    pub fn below(&self, who: &str, name: &str) -> Result<usize> {
        let no_integers = || Error::Config(format!("{who} needs integers as `{name}`; these data have floating-point numbers"));
        self.find(who, name)?.below.ok_or_else(no_integers)
    }
}

/// The tensors of a batch in a plan.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// Samples.
    pub batch: usize,
    tensors: Vec<(&'static str, Tensor)>,
    fields: Vec<Field>,
}

impl Inputs {
    /// Of a batch of so many samples, as yet without tensors.
    pub fn new(batch: usize) -> Self {
        Inputs { batch, tensors: vec![], fields: vec![] }
    }

    /// With one more.
    pub fn with(mut self, name: &'static str, tensor: Tensor) -> Self {
        self.tensors.push((name, tensor));
        self
    }

    /// With what is known of the data.
    pub(crate) fn of(mut self, fields: Fields) -> Self {
        self.fields = fields.0;
        self
    }

    /// What the integers of a field are below, where that is known.
    pub fn below(&self, name: &str) -> Option<usize> {
        self.fields.iter().find(|f| f.name == name)?.below
    }

    /// All of them.
    pub fn tensors(&self) -> &[(&'static str, Tensor)] {
        &self.tensors
    }

    /// The tensor of that name, if there is one.
    pub fn find(&self, name: &str) -> Option<Tensor> {
        self.tensors.iter().find(|(n, _)| *n == name).map(|(_, t)| *t)
    }

    /// The tensor of that name.
    ///
    /// # Errors
    /// `Config` when the data have none, with those that there are.
    pub fn get(&self, who: &str, name: &str) -> Result<Tensor> {
        self.find(name).ok_or_else(|| {
            let names: Vec<String> = self.tensors.iter().map(|(n, _)| format!("`{n}`")).collect();
            Error::Config(format!("{who} needs `{name}`, which these data do not have: they have {}", names.join(", ")))
        })
    }
}

/// What a model gives, or the gradients of that: the output that the loss compares, and others by name.
#[derive(Debug, Clone)]
pub struct Outputs {
    /// Prediction, logits, reconstruction.
    pub main: Tensor,
    /// Others, such as a posterior.
    pub others: Vec<(&'static str, Tensor)>,
}

impl Outputs {
    /// The main output alone.
    pub fn only(main: Tensor) -> Self {
        Outputs { main, others: vec![] }
    }

    /// Another output of that name.
    pub fn find(&self, name: &str) -> Option<Tensor> {
        self.others.iter().find(|(n, _)| *n == name).map(|(_, t)| *t)
    }
}

/// Inputs of one micro-step, on the host.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// 32-bit words by the name of their tensor.
    pub inputs: Vec<(&'static str, Vec<u32>)>,
    /// Rows of results that count.
    pub rows: usize,
    /// Number that means are taken over: these rows, or fewer where some of them are masked.
    pub count: usize,
    /// Whether the terms of the loss that are left out of some batches are in this one.
    pub drawn: bool,
}

impl Batch {
    /// Words of an input, none where there is none of that name.
    pub fn words(&self, name: &str) -> &[u32] {
        self.inputs.iter().find(|(n, _)| *n == name).map_or(&[], |(_, words)| words)
    }
}
