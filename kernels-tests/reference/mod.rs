//! Plain f64 references of the forward passes, generic over the scalar, one file per family. Run over a recorded plan they are an
//! oracle for whole models; on a tape, for their gradients.

macro_rules! references {
    ($($name:ident)*) => {
        $(pub mod $name;)*

        /// Runs the reference of a pass of a family; false where it has none.
        fn run<S: Scalar>(family: &str, pass: &str, call: &mut Call<'_, S>) -> bool {
            match family {
                $(stringify!($name) => $name::evaluate(pass, call),)*
                _ => false,
            }
        }
    };
}

crate::kernel_families!(references);

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use super::scalar::{Scalar, Var};
use crate::error::{Error, Result};
use crate::kernels::State;
use crate::plan::{Entry, FixedPlan, Tensor};

/// Contents of the tensors of a plan.
#[derive(Debug, Clone)]
pub struct Values<S> {
    /// Floating-point tensors.
    pub floats: HashMap<Tensor, Vec<S>>,
    /// Integer tensors.
    pub ints: HashMap<Tensor, Vec<u32>>,
    /// Step state.
    pub state: State,
    /// Floating-point tensors that references have set.
    pub set: HashSet<Tensor>,
}

impl<S: Scalar> Values<S> {
    /// Gives parts of weights the values of their weights, and joined weights those of their parts.
    pub fn fill_parts(&mut self, plan: &FixedPlan) {
        for (part, whole, first) in plan.parts() {
            if let Some(values) = self.floats.get(part).cloned() {
                let whole = self.floats.entry(*whole).or_insert_with(|| vec![S::constant(0.0); plan.len(*whole)]);
                whole[*first..first + values.len()].copy_from_slice(&values);
            } else if let Some(values) = self.floats.get(whole) {
                let values = values[*first..first + plan.len(*part)].to_vec();
                self.floats.insert(*part, values);
            }
        }
    }
}

/// One entry with the values around it.
#[derive(Debug)]
pub struct Call<'a, S> {
    plan: &'a FixedPlan,
    /// The launch.
    pub entry: &'a Entry,
    values: &'a mut Values<S>,
}

impl<S: Scalar> Call<'_, S> {
    /// Input of that name.
    pub fn floats(&self, name: &str) -> Vec<S> {
        self.maybe(name).unwrap_or_else(|| panic!("{}: no values for {name}", self.entry.shader.name))
    }

    /// Input of that name, if it is bound.
    pub fn maybe(&self, name: &str) -> Option<Vec<S>> {
        self.values.floats.get(&self.entry.tensor(name)?).cloned()
    }

    /// Integer input of that name.
    pub fn ints(&self, name: &str) -> Vec<u32> {
        self.entry.tensor(name).and_then(|t| self.values.ints.get(&t).cloned()).expect("an integer input")
    }

    /// Elements of an output, 0 when it is not bound.
    pub fn output_len(&self, name: &str) -> usize {
        self.entry.tensor(name).map_or(0, |t| self.plan.len(t))
    }

    /// Step state.
    pub fn state(&self) -> State {
        self.values.state
    }

    /// What is carried under that name, and of each row where in it its own begins that it reads, and that it writes.
    pub fn carried(&self, name: &str, batch: usize) -> Option<(Vec<S>, Vec<[usize; 2]>)> {
        let kept = self.maybe(name)?;
        let (limit, sources, len) = (self.entry.size("limit"), self.ints("sources"), kept.len() / 2 / batch);
        let (position, half) = (self.values.state.position as usize, self.values.state.tick as usize % 2);
        let place = |half: usize, row: usize| (half * batch + row) * len;
        let source = |row: usize| sources[row * limit + (position + limit - 1) % limit] as usize;
        Some((kept, (0..batch).map(|row| [place(1 - half, source(row)), place(half, row)]).collect()))
    }

    /// Sets an output, if it is bound.
    pub fn set(&mut self, name: &str, values: Vec<S>) {
        if let Some(tensor) = self.entry.tensor(name) {
            self.values.floats.insert(tensor, values);
            self.values.set.insert(tensor);
        }
    }

    /// Sets the first elements of an output; of a longer one the rest stays.
    pub fn set_first(&mut self, name: &str, mut values: Vec<S>) {
        values.extend(self.maybe(name).into_iter().flatten().skip(values.len()));
        values.resize(self.output_len(name), S::constant(0.0));
        self.set(name, values);
    }

    /// Sets an integer output.
    pub fn set_ints(&mut self, name: &str, values: Vec<u32>) {
        if let Some(tensor) = self.entry.tensor(name) {
            self.values.ints.insert(tensor, values);
        }
    }
}

/// The reference of a kernel family from outside: one function, generic over the scalar, for both kinds of numbers. It runs the reference
/// of a pass; false where that has none.
#[derive(Debug, Clone, Copy)]
pub struct Reference {
    /// Name of the family.
    pub family: &'static str,
    /// For values.
    pub value: fn(&str, &mut Call<'_, f64>) -> bool,
    /// For gradients.
    pub tape: fn(&str, &mut Call<'_, Var>) -> bool,
}

static ADDED: Mutex<Vec<Reference>> = Mutex::new(Vec::new());

/// Makes a reference known.
pub fn add_reference(reference: Reference) {
    ADDED.lock().expect("no panic while adding").push(reference);
}

/// Whether the pass has no reference of its own: a gradient, checked against the tape of its forward pass.
pub fn is_backward(entry: &Entry) -> bool {
    entry.shader.name.split_once('/').is_some_and(|(_, pass)| pass.starts_with("backward"))
}

/// Runs the reference of one entry.
///
/// # Errors
/// `Internal` when the pass has none.
pub fn evaluate<S: Scalar>(plan: &FixedPlan, entry: &Entry, values: &mut Values<S>) -> Result<()> {
    let mut call = Call { plan, entry, values };
    let name = &entry.shader.name;
    let (family, pass) = name.split_once('/').unwrap_or((name, ""));
    if run(family, pass, &mut call) {
        return Ok(());
    }
    let added = ADDED.lock().expect("no panic while adding").iter().find(|r| r.family == family).copied();
    if added.is_some_and(|reference| S::reference(&reference)(pass, &mut call)) {
        return Ok(());
    }
    Err(Error::Internal(format!("plan {}: kernel {name} has no reference", plan.name)))
}
