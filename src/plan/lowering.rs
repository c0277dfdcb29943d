//! A plan as its target runs it: kernels in the form that suits the device, and the copies that this needs.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use super::dispatch::Entry;
use super::fixed::FixedPlan;
use super::tensor::Tensor;
use crate::error::{Error, Result};
use crate::gpu::{Access, Binding, BindingKind, Form, IMAGE_ROW, Shader, Texel};

/// An image that tensors are copied to before a dispatch reads them. Software adapters alone have any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageSpec {
    /// Content of its texels.
    pub texel: Texel,
    /// Rows of 4,096 numbers.
    pub rows: u32,
}

impl ImageSpec {
    /// Bytes of the image.
    pub fn bytes(&self) -> u64 {
        u64::from(self.rows) * self.texel.pitch_bytes()
    }
}

/// Place of a tensor: buffer, first byte, and the bytes that a binding of it covers.
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
    /// The plan.
    pub plan: FixedPlan,
    /// Place of each tensor by index.
    pub places: Vec<Place>,
    /// Launches, in the order of the plan's.
    pub launches: Vec<Launch>,
}

/// A launch on the target.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Entries of the plan that it runs: one, or two.
    pub entries: Range<usize>,
    /// Kernel as it is compiled.
    pub shader: Arc<Shader>,
    /// Tensors in the order of its bindings.
    pub tensors: Vec<Tensor>,
    /// Images that it reads, in the order of its bindings.
    pub images: Vec<ImageRead>,
}

/// A tensor that a launch reads from an image.
#[derive(Debug, Clone, Copy)]
pub struct ImageRead {
    /// Tensor that the image holds a copy of.
    pub tensor: Tensor,
    /// Index into the images of the memory.
    pub image: usize,
    /// The launch before that read the same copy; without one, the tensor is copied.
    pub previous: Option<usize>,
}

/// The kernel of a launch with the conversions that its 16-bit tensors need, and no other change of form.
///
/// # Errors
/// `Internal` when a part of a module is not understood.
#[cfg(feature = "isa")]
pub(crate) fn converted(plan: &FixedPlan, entries: Range<usize>) -> Result<Arc<Shader>> {
    let half = |(binding, tensor): (&Binding, &Tensor)| plan.info(*tensor).half.then(|| (binding.name.clone(), Form::Half));
    Ok(compiled(plan, entries, half)?.0)
}

/// The kernel of a launch with the arrays of its entries in these forms, and its tensors in the order of its bindings.
fn compiled(
    plan: &FixedPlan,
    entries: Range<usize>,
    form: impl Fn((&Binding, &Tensor)) -> Option<(String, Form)>,
) -> Result<(Arc<Shader>, Vec<Tensor>)> {
    let one = |entry: &Entry| {
        let forms: Vec<(String, Form)> = entry.shader.bindings.iter().zip(&entry.tensors).filter_map(&form).collect();
        let shader = if forms.is_empty() { entry.shader.clone() } else { entry.shader.in_forms(&forms)? };
        let tensors: Option<Vec<Tensor>> = shader.bindings.iter().map(|b| entry.tensor(&b.name)).collect();
        let tensors = tensors.ok_or_else(|| Error::Internal(format!("{}: a binding appeared in another form", shader.name)))?;
        Ok((shader, tensors))
    };
    let entries = &plan.entries()[entries];
    let (shader, mut tensors) = one(&entries[0])?;
    let [first, second] = entries else { return Ok((shader, tensors)) };
    let (other, of_other) = one(second)?;
    let same: Vec<(u32, u32)> = shared((&shader, &tensors), (&other, &of_other)).collect();
    let own = other.bindings.iter().zip(of_other).filter(|(b, _)| same.iter().all(|(_, second)| *second != b.index));
    tensors.extend(own.map(|(_, tensor)| tensor));
    Ok((shader.beside(&other, first.grid[0], same)?, tensors))
}

/// Bindings by which both of two kernels read the same tensor in the same way.
pub(super) fn shared<'a>(first: (&'a Shader, &'a [Tensor]), second: (&'a Shader, &'a [Tensor])) -> impl Iterator<Item = (u32, u32)> + 'a {
    let read = |(shader, tensors): (&'a Shader, &'a [Tensor])| {
        shader.bindings.iter().zip(tensors).filter(|(binding, _)| binding.access == Access::Read)
    };
    read(second).filter_map(move |(its, tensor)| {
        let mut alike = read(first).filter(|(own, other)| *other == tensor && first.0.binds_alike(own, second.0, its));
        Some((alike.next()?.0.index, its.index))
    })
}

/// Launches of a plan whose tensors have their places; lists the images that they need beside those that there are.
pub(super) fn lower(plan: &FixedPlan, places: &[Place], images: &mut Vec<ImageSpec>) -> Result<Vec<Launch>> {
    let overlap = |a: Place, b: Place| a.buffer == b.buffer && a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
    // What each image holds, and who read it last.
    let mut held: Vec<(Option<Place>, usize)> = vec![(None, 0); images.len()];
    let mut launches = Vec::new();
    for (index, entries) in plan.launches().enumerate() {
        // A form that changes nothing would only make another kernel of the same text.
        let form = |(binding, tensor): (&Binding, &Tensor)| {
            let info = plan.info(*tensor);
            let form = if info.half {
                // Uniform arrays are made of vectors of four floats; texels have any format.
                if binding.access != Access::Read || !plan.target.holds_image(info.len()) {
                    return Some((binding.name.clone(), Form::Half));
                }
                Form::Image { half: true }
            } else if binding.access == Access::Read {
                plan.target.form(info.len())?
            } else {
                return None;
            };
            Some((binding.name.clone(), form))
        };
        let (shader, tensors) = compiled(plan, entries.clone(), form)?;
        let mut reads: Vec<ImageRead> = Vec::new();
        for (binding, tensor) in shader.bindings.iter().zip(&tensors) {
            let BindingKind::Image(texel) = binding.kind else { continue };
            let (place, rows) = (places[tensor.0 as usize], plan.len(*tensor).div_ceil(IMAGE_ROW) as u32);
            let free = |image: &usize| images[*image].texel == texel && reads.iter().all(|r| r.image != *image);
            // The one that holds it; or of those that are large enough the one that was not read for longest; or the one that grows least.
            let best = (0..images.len()).filter(free).min_by_key(|image| {
                let (content, reader) = held[*image];
                let grows = rows.saturating_sub(images[*image].rows);
                (content != Some(place), grows, content.is_some(), reader)
            });
            let image = best.unwrap_or(images.len());
            if image == images.len() {
                images.push(ImageSpec { texel, rows: 0 });
                held.push((None, 0));
            }
            images[image].rows = images[image].rows.max(rows);
            let previous = (held[image].0 == Some(place)).then_some(held[image].1);
            held[image] = (Some(place), index);
            reads.push(ImageRead { tensor: *tensor, image, previous });
        }
        for written in plan.entries()[entries.clone()].iter().flat_map(Entry::writes).map(|tensor| places[tensor.0 as usize]) {
            held.iter_mut().filter(|h| h.0.is_some_and(|content| overlap(content, written))).for_each(|h| h.0 = None);
        }
        launches.push(Launch { entries, shader, tensors, images: reads });
    }
    Ok(launches)
}

impl Lowered {
    /// Copies to images, with the launch that each comes before.
    pub fn copies(&self) -> impl Iterator<Item = (usize, &ImageRead)> {
        let of = |(index, launch)| std::iter::repeat(index).zip(&(launch as &Launch).images);
        self.launches.iter().enumerate().flat_map(of).filter(|(_, read)| read.previous.is_none())
    }

    /// The plan as text: every dispatch with its tensors, and the copies that it needs on its target.
    pub fn dump(&self) -> String {
        let plan = &self.plan;
        let mut out = String::new();
        let copies = self.copies().count();
        let _ = writeln!(
            out,
            "plan {}: {} launches, {}{} tensors, {} parameters",
            plan.name,
            self.launches.len(),
            if copies > 0 { format!("{copies} copies, ") } else { String::new() },
            plan.tensors().count(),
            plan.parameter_count()
        );
        let width = plan.entries().iter().map(|e| e.shader.name.len()).max().unwrap_or(0);
        let labels = plan.entries().iter().map(|e| e.label.len()).max().unwrap_or(0);
        for (number, launch) in self.launches.iter().enumerate() {
            let entries = &plan.entries()[launch.entries.clone()];
            let section = entries.first().map(|e| format!("{:?}", e.section).to_lowercase()).unwrap_or_default();
            for read in launch.images.iter().filter(|read| read.previous.is_none()) {
                let info = plan.info(read.tensor);
                let _ = writeln!(
                    out,
                    "     {section:8} {:width$}  {:labels$}   {}{:?} →image {}",
                    "copy", "", info.name, info.shape, read.image
                );
            }
            for e in entries {
                let number = if e.paired { "+".to_string() } else { number.to_string() };
                let _ = write!(out, "{number:>4} {section:8} {:width$}  {:labels$}  ", e.shader.name, e.label);
                for (binding, tensor) in e.shader.bindings.iter().zip(&e.tensors) {
                    let info = plan.info(*tensor);
                    let mark = if binding.access == Access::Write { "→" } else { "" };
                    let _ = write!(out, " {mark}{}={}{:?}", binding.name, info.name, info.shape);
                }
                out.push('\n');
            }
        }
        out
    }
}
