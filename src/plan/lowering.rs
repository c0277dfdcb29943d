//! A plan as its target runs it: kernels in the form that suits the device, and the copies that this needs.

use std::fmt::Write as _;
use std::sync::Arc;

use super::recording::Plan;
use super::tensor::Tensor;
use crate::error::{Error, Result};
use crate::gpu::{Access, Binding, BindingKind, Form, IMAGE_ROW, Shader};

/// An image that tensors are copied to before a dispatch reads them. Software adapters alone have any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageSpec {
    /// Components of a texel.
    pub components: u32,
    /// Holds 16-bit floats.
    pub half: bool,
    /// Rows of 4,096 numbers.
    pub rows: u32,
}

impl ImageSpec {
    /// Bytes of the image.
    pub fn bytes(&self) -> u64 {
        u64::from(self.rows) * IMAGE_ROW as u64 * if self.half { 2 } else { 4 }
    }
}

/// Where a tensor lies: buffer, first byte, and the bytes that a binding of it covers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// Index into the buffers.
    pub buffer: usize,
    /// First byte.
    pub offset: u64,
    /// Bytes of the binding.
    pub bytes: u64,
}

/// A plan in its buffers, for its target.
#[derive(Debug, Clone)]
pub struct Lowered {
    /// Place of each tensor by index.
    pub places: Vec<Place>,
    /// Launches, in the order of the plan's entries.
    pub launches: Vec<Launch>,
}

/// A launch on the target.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Kernel as it is compiled.
    pub shader: Arc<Shader>,
    /// Tensors in the order of its bindings.
    pub tensors: Vec<Tensor>,
    /// What it reads from images, in the order of its bindings.
    pub images: Vec<ImageRead>,
}

/// A tensor that a launch reads from an image.
#[derive(Debug, Clone, Copy)]
pub struct ImageRead {
    /// What the image holds a copy of.
    pub tensor: Tensor,
    /// Index into the images of the memory.
    pub image: usize,
    /// The launch before that read the same copy; without one, the tensor is copied.
    pub previous: Option<usize>,
}

/// The kernel of an entry with the conversions that its 16-bit tensors need, and no other change.
///
/// # Errors
/// `Internal` when a part of the module is not understood.
#[cfg(feature = "isa")]
pub(crate) fn converted(plan: &Plan, entry: &super::dispatch::Entry) -> Result<Arc<Shader>> {
    let halves = entry.shader.bindings.iter().zip(&entry.tensors).filter(|(_, tensor)| plan.info(**tensor).half);
    let forms: Vec<_> = halves.map(|(binding, _)| (binding.name.clone(), Form::Half)).collect();
    if forms.is_empty() { Ok(entry.shader.clone()) } else { entry.shader.in_forms(&forms) }
}

impl Lowered {
    /// Lowers a plan whose tensors have their places, and lists the images that it needs beside those that there are.
    pub(super) fn new(plan: &Plan, places: Vec<Place>, images: &mut Vec<ImageSpec>) -> Result<Lowered> {
        let overlap = |a: Place, b: Place| a.buffer == b.buffer && a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
        // What each image holds, and who read it last.
        let mut held: Vec<Option<(Place, usize)>> = vec![None; images.len()];
        let mut launches = Vec::with_capacity(plan.entries().len());
        for (index, entry) in plan.entries().iter().enumerate() {
            // A form that changes nothing would only make another kernel of the same text.
            let form = |(binding, tensor): (&Binding, &Tensor)| {
                let info = plan.info(*tensor);
                let form = match (plan.target.form(info.len()), info.half) {
                    // Uniform arrays are made of vectors of four floats; texels have any format.
                    (Some(_), true) if binding.access == Access::Read && plan.target.holds_image(info.len()) => Form::Image,
                    (_, true) => return Some((binding.name.clone(), Form::Half)),
                    (form, false) => form?,
                };
                (binding.access == Access::Read || form == Form::Image).then(|| (binding.name.clone(), form))
            };
            let forms: Vec<(String, Form)> = entry.shader.bindings.iter().zip(&entry.tensors).filter_map(form).collect();
            let shader = if forms.is_empty() { entry.shader.clone() } else { entry.shader.in_forms(&forms)? };
            let tensors: Option<Vec<Tensor>> = shader.bindings.iter().map(|b| entry.tensor(&b.name)).collect();
            let tensors = tensors.ok_or_else(|| Error::Internal(format!("{}: a binding appeared in another form", shader.name)))?;
            let mut reads: Vec<ImageRead> = Vec::new();
            for (binding, tensor) in shader.bindings.iter().zip(&tensors) {
                let BindingKind::Image(components) = binding.kind else { continue };
                let half = plan.info(*tensor).half;
                let alike = |spec: &ImageSpec| spec.components == components && spec.half == half;
                let free = |(image, spec): (usize, &ImageSpec)| alike(spec) && reads.iter().all(|r| r.image != image);
                let image = images.iter().enumerate().position(free).unwrap_or(images.len());
                if image == images.len() {
                    images.push(ImageSpec { components, half, rows: 0 });
                    held.push(None);
                }
                images[image].rows = images[image].rows.max(plan.len(*tensor).div_ceil(IMAGE_ROW) as u32);
                let place = places[tensor.0 as usize];
                let previous = held[image].filter(|(content, _)| *content == place).map(|(_, reader)| reader);
                held[image] = Some((place, index));
                reads.push(ImageRead { tensor: *tensor, image, previous });
            }
            for written in entry.writes().map(|tensor| places[tensor.0 as usize]) {
                held.iter_mut().filter(|h| h.is_some_and(|(content, _)| overlap(content, written))).for_each(|h| *h = None);
            }
            launches.push(Launch { shader, tensors, images: reads });
        }
        Ok(Lowered { places, launches })
    }

    /// Copies to images, with the launch that each comes before.
    pub fn copies(&self) -> impl Iterator<Item = (usize, &ImageRead)> {
        let of = |(index, launch)| std::iter::repeat(index).zip(&(launch as &Launch).images);
        self.launches.iter().enumerate().flat_map(of).filter(|(_, read)| read.previous.is_none())
    }

    /// The plan as text: every dispatch with its tensors, and the copies that it needs on its target.
    pub fn dump(&self, plan: &Plan) -> String {
        let mut out = String::new();
        let copies = self.copies().count();
        let _ = writeln!(
            out,
            "plan {}: {} dispatches, {}{} tensors, {} parameters",
            plan.name,
            plan.entries().len(),
            if copies > 0 { format!("{copies} copies, ") } else { String::new() },
            plan.tensors().count(),
            plan.parameter_count()
        );
        let width = plan.entries().iter().map(|e| e.shader.name.len()).max().unwrap_or(0);
        let labels = plan.entries().iter().map(|e| e.label.len()).max().unwrap_or(0);
        for (i, (e, launch)) in plan.entries().iter().zip(&self.launches).enumerate() {
            let section = format!("{:?}", e.section).to_lowercase();
            for read in launch.images.iter().filter(|read| read.previous.is_none()) {
                let info = plan.info(read.tensor);
                let _ = writeln!(
                    out,
                    "     {section:8} {:width$}  {:labels$}   {}{:?} →image {}",
                    "copy", "", info.name, info.shape, read.image
                );
            }
            let _ = write!(out, "{i:4} {section:8} {:width$}  {:labels$}  ", e.shader.name, e.label);
            for (binding, tensor) in e.shader.bindings.iter().zip(&e.tensors) {
                let info = plan.info(*tensor);
                let mark = if binding.access == Access::Write { "→" } else { "" };
                let _ = write!(out, " {mark}{}={}{:?}", binding.name, info.name, info.shape);
            }
            out.push('\n');
        }
        out
    }
}
