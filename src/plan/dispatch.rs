//! Launches of kernels, before and after they are recorded.

use std::ops::Range;
use std::sync::Arc;

use super::tensor::{Section, Tensor};
use crate::gpu::{Access, Shader};

/// Value of a kernel parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Param {
    /// A size, count or index.
    U32(u32),
    /// A scalar.
    F32(f32),
}

/// Another way to launch a kernel: other values of some of its consts, and the grid that goes with them.
#[derive(Debug, Clone)]
pub(super) struct Variant {
    pub(super) consts: Vec<(&'static str, u32)>,
    pub(super) grid: Grid,
    /// Cycles of the card that it takes longer than the fastest, by the model that this was chosen by.
    pub(super) cycles: usize,
}

impl Variant {
    /// The consts that it sets, as text.
    pub(super) fn name(&self) -> String {
        let consts: Vec<String> = self.consts.iter().map(|(name, value)| format!("{name}={value}")).collect();
        consts.join(" ")
    }

    /// Consts of a kernel with these in place of its own.
    pub(super) fn over(&self, consts: &[(&'static str, u32)]) -> Vec<(&'static str, u32)> {
        let others = consts.iter().filter(|(name, _)| self.consts.iter().all(|(own, _)| own != name));
        others.chain(&self.consts).copied().collect()
    }
}

/// One kernel launch, before it is recorded.
#[derive(Debug)]
pub struct Dispatch {
    pub(super) kernel: &'static str,
    pub(super) label: String,
    pub(super) consts: Vec<(&'static str, u32)>,
    pub(super) bindings: Vec<(&'static str, Tensor)>,
    pub(super) params: Vec<(&'static str, Param)>,
    pub(super) flops: u64,
    /// Elements of some of the bindings that it touches; of the others it touches all.
    pub(super) moved: Vec<(&'static str, Range<usize>)>,
    /// Bindings whose parts several workgroups read, one after another.
    pub(super) shared: Vec<(&'static str, Shared)>,
    pub(super) variants: Vec<Variant>,
}

impl Dispatch {
    /// A launch of `family/pass` under a label (the path of the layer).
    pub fn new(kernel: &'static str, label: impl Into<String>) -> Self {
        Dispatch {
            kernel,
            label: label.into(),
            consts: vec![],
            bindings: vec![],
            params: vec![],
            flops: 0,
            moved: vec![],
            shared: vec![],
            variants: vec![],
        }
    }

    /// `family/pass`.
    pub(crate) fn kernel(&self) -> &'static str {
        self.kernel
    }

    /// Replaces a const of the shader.
    pub fn constant(mut self, name: &'static str, value: u32) -> Self {
        self.consts.push((name, value));
        self
    }

    /// Value of a const that it replaces, 0 for others.
    pub(crate) fn value(&self, name: &str) -> u32 {
        self.consts.iter().find(|(known, _)| *known == name).map_or(0, |(_, value)| *value)
    }

    /// Binds a tensor to the variable of that name; twice the same is once.
    pub fn bind(mut self, name: &'static str, tensor: Tensor) -> Self {
        if !self.bindings.contains(&(name, tensor)) {
            self.bindings.push((name, tensor));
        }
        self
    }

    /// Says that the launch touches so many elements of a binding, not all of them.
    pub fn moves(self, name: &'static str, elements: usize) -> Self {
        self.moves_part(name, 0..elements)
    }

    /// Says which elements of a binding the launch touches.
    pub fn moves_part(mut self, name: &'static str, elements: Range<usize>) -> Self {
        self.moved.push((name, elements));
        self
    }

    /// Says how workgroups share what the launch touches of a binding. Of the others each reads a part of its own.
    pub fn shared(mut self, name: &'static str, shared: Shared) -> Self {
        self.shared.push((name, shared));
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

    /// Another way to launch it, which takes so many cycles longer, for where another size of workgroups is wanted.
    pub(crate) fn or(mut self, consts: &[(&'static str, u32)], grid: Grid, cycles: usize) -> Self {
        self.variants.push(Variant { consts: consts.to_vec(), grid, cycles });
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

/// How workgroups share a binding: part by part, each of which all workgroups of some consecutive ones read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shared {
    /// Parts.
    pub parts: usize,
    /// Workgroups that read a part.
    pub groups: usize,
    /// Times at most that a part is read by workgroups that are not under way together.
    pub most: usize,
}

impl Shared {
    /// Each workgroup reads a part of its own.
    pub const NO: Shared = Shared { parts: 1, groups: 1, most: 1 };
}

/// What a launch touches of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// The elements.
    pub elements: Range<usize>,
    /// How its workgroups share them.
    pub shared: Shared,
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
    /// Kernel, options and sizes, by which launches that are alike are known.
    pub kind: String,
    /// Other ways to launch it.
    pub(super) variants: Vec<Variant>,
    /// Runs in one launch with the entry before it.
    pub paired: bool,
    /// Part of the step that it is of.
    pub section: Section,
    /// Runs among the forward pass although it is of the backward pass (`Plan::at_once`).
    pub(super) early: bool,
    /// Floating-point operations.
    pub flops: u64,
    /// What it touches of each tensor.
    pub extents: Vec<Extent>,
}

impl Entry {
    /// Part of the step that it runs in.
    pub fn runs_in(&self) -> Section {
        if self.early { Section::Forward } else { self.section }
    }

    /// Names of the other ways to launch it.
    pub fn ways(&self) -> impl Iterator<Item = String> + '_ {
        self.variants.iter().map(Variant::name)
    }

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

    /// Tensors that it writes.
    pub fn writes(&self) -> impl Iterator<Item = Tensor> + '_ {
        self.uses(Access::Write)
    }

    /// Tensors that it reads and does not write.
    pub(super) fn reads(&self) -> impl Iterator<Item = Tensor> + '_ {
        self.uses(Access::Read)
    }

    fn uses(&self, access: Access) -> impl Iterator<Item = Tensor> + '_ {
        self.shader.bindings.iter().zip(&self.tensors).filter(move |(b, _)| b.access == access).map(|(_, t)| *t)
    }
}
