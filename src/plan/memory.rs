//! Buffers of a set of plans: assignment by lifetime, and the report that is read off it before a byte is allocated.

use std::collections::{BTreeMap, HashMap};

use super::fixed::FixedPlan;
use super::lowering::{ImageSpec, Lowered, Place, lower};
use super::slices::staged;
use super::tensor::{Flat, Storage, Tensor, flat_len};
use crate::error::{Error, Result};
use crate::gpu::Role;

/// A buffer to allocate.
#[derive(Debug, Clone)]
pub struct BufferSpec {
    /// Label in reports.
    pub name: String,
    /// Purpose.
    pub role: Role,
    /// Size in bytes.
    pub bytes: u64,
}

/// Options of a layout.
#[derive(Debug, Clone, Copy, Default)]
pub struct LayoutOptions {
    /// Give each tensor a buffer of its own, with that many bytes around it inside the buffer. For tests: guard words live there.
    pub guard: Option<u64>,
    /// With staging buffers for the gradient of one of several processes, a slice each.
    pub exchange: bool,
}

/// Buffers of a set of plans.
#[derive(Debug, Clone)]
pub struct Memory {
    /// Buffers in the order of allocation; the last is the staging buffer.
    pub buffers: Vec<BufferSpec>,
    /// Images.
    pub images: Vec<ImageSpec>,
    /// Buffers that the slices of a gradient go through.
    pub slices: Vec<usize>,
    /// Summary for the estimator.
    pub report: MemoryReport,
}

/// One line of the report by tensor.
#[derive(Debug, Clone, serde::Serialize)]
pub struct TensorLine {
    /// Plan that needs it.
    pub plan: String,
    /// Name.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Name of its role.
    pub role: String,
    /// Bytes of the tensor itself.
    pub bytes: u64,
    /// Buffer that holds it.
    pub buffer: String,
}

/// Memory of a run in bytes.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct MemoryReport {
    /// Sum of all buffers.
    pub total_bytes: u64,
    /// Sum by role.
    pub bytes_by_role: BTreeMap<String, u64>,
    /// Bytes that the pooled tensors would need without reuse.
    pub unshared_activation_bytes: u64,
    /// Most bytes of pooled tensors alive at once, and the dispatch where that is.
    pub peak_live_bytes: u64,
    /// Plan, section, kernel and label of the peak.
    pub peak_at: String,
    /// Largest set of bytes that one dispatch touches.
    pub working_set_bytes: u64,
    /// The dispatch that touches it.
    pub working_set_at: String,
    /// Every tensor.
    pub tensors: Vec<TensorLine>,
}

/// Largest staging buffer: reading back goes in pieces of this.
const STAGING: u64 = 16 << 20;

/// A pooled tensor of one of the plans, and the dispatches that it lives through, those of all plans counted one after another.
struct Pooled {
    plan: usize,
    tensor: Tensor,
    role: Role,
    bytes: u64,
    first: usize,
    last: usize,
}

/// State that plans share while they are laid out.
struct Shared {
    /// Places by name.
    places: HashMap<String, Place>,
    /// Most bytes that the host reads at once.
    read_back: u64,
}

impl Memory {
    /// Lays out plans that share parameters, persistent tensors and the pool. Pure: no device is asked.
    ///
    /// # Errors
    /// `Internal` when two plans declare different parameters or different shapes under one name.
    pub fn lay_out(plans: Vec<FixedPlan>, options: LayoutOptions) -> Result<(Memory, Vec<Lowered>)> {
        let mut memory = Memory { buffers: vec![], images: vec![], slices: vec![], report: MemoryReport::default() };
        let mut shared = Shared { places: HashMap::new(), read_back: 4 };
        memory.add_flats(&plans, &mut shared)?;
        let places = |plan| memory.own_places(plan, options.guard, &mut shared);
        let mut placed = plans.iter().map(places).collect::<Result<Vec<_>>>()?;
        if options.guard.is_none() {
            memory.pool(&plans, &mut placed);
        }
        let complete = |(plan, places): (&FixedPlan, Vec<Option<Place>>)| {
            let places = places.into_iter().collect::<Option<Vec<Place>>>();
            places.ok_or_else(|| Error::Internal(format!("plan {}: a tensor is never used", plan.name)))
        };
        let placed = plans.iter().zip(placed).map(complete).collect::<Result<Vec<_>>>()?;
        let launches = |images: &mut Vec<ImageSpec>| {
            plans.iter().zip(&placed).map(|(plan, places)| lower(plan, places, images)).collect::<Result<Vec<_>>>()
        };
        let mut launched = launches(&mut memory.images)?;
        if !memory.images.is_empty() {
            // Again, so that the first launches know of all images.
            launched = launches(&mut memory.images)?;
        }
        for bytes in plans.iter().filter(|plan| options.exchange && plan.options.trains).flat_map(staged) {
            let buffer = memory.add(format!("slice.{}", memory.slices.len()), Role::Staging, bytes);
            memory.slices.push(buffer);
        }
        memory.add("staging".into(), Role::Staging, shared.read_back.min(STAGING).next_multiple_of(8));
        let all = plans.into_iter().zip(placed).zip(launched);
        let lowered: Vec<Lowered> = all.map(|((plan, places), launches)| Lowered { plan, places, launches }).collect();
        memory.summarise(&lowered);
        Ok((memory, lowered))
    }

    /// The flat buffers that these plans need.
    fn add_flats(&mut self, plans: &[FixedPlan], shared: &mut Shared) -> Result<()> {
        let Some(first) = plans.first() else { return Ok(()) };
        if let Some(other) = plans.iter().find(|other| other.parameters() != first.parameters() || other.frozen() != first.frozen()) {
            return Err(Error::Internal(format!("plans {} and {} declare different parameters", first.name, other.name)));
        }
        let training = plans.iter().any(|p| p.tensors().any(|(_, t)| matches!(t.storage, Storage::Gradient { .. })));
        for flat in Flat::ALL {
            let (used, len) = match flat {
                Flat::Frozen => (true, flat_len(first.frozen())),
                Flat::Parameters => (true, first.flat_len()),
                _ => (training || plans.iter().any(|p| p.find(flat.name()).is_some()), first.flat_len()),
            };
            let bytes = len as u64 * 4;
            if used && bytes > 0 {
                let buffer = self.add(flat.name().into(), flat.role(), bytes);
                shared.places.insert(flat.name().into(), Place { buffer, offset: 0, bytes });
                shared.read_back = shared.read_back.max(bytes);
            }
        }
        Ok(())
    }

    /// Places of the tensors of a plan, without those that lie in the pool.
    fn own_places(&mut self, plan: &FixedPlan, guarded: Option<u64>, shared: &mut Shared) -> Result<Vec<Option<Place>>> {
        let guard = guarded.unwrap_or(0);
        // What only dropped launches used has no place.
        let mut places = vec![Some(Place::default()); plan.handles()];
        for (tensor, info) in plan.tensors() {
            // Uniform arrays are made of vectors of four.
            let bytes = info.bytes().next_multiple_of(16);
            let slice = |flat: Flat, offset: usize| Place { offset: offset as u64 * 4, bytes, ..shared.places[flat.name()] };
            places[tensor.0 as usize] = match info.storage {
                Storage::Parameter { offset } => Some(slice(Flat::Parameters, offset)),
                Storage::Frozen { offset } => Some(slice(Flat::Frozen, offset)),
                Storage::Gradient { offset } => Some(slice(Flat::Gradients, offset)),
                Storage::Flat(flat) => Some(slice(flat, 0)),
                Storage::Persistent(role) => {
                    shared.read_back = shared.read_back.max(bytes);
                    let known = shared.places.get(&info.name).copied();
                    if known.is_some_and(|place| place.bytes != bytes + guard) {
                        return Err(Error::Internal(format!("plans disagree on the size of {}", info.name)));
                    }
                    let place = known.unwrap_or_else(|| self.guarded(&info.name, role, bytes, guard));
                    shared.places.insert(info.name.clone(), place);
                    Some(place)
                }
                Storage::Transient(role) if guarded.is_some() => {
                    shared.read_back = shared.read_back.max(bytes);
                    Some(self.guarded(&info.name, role, bytes, guard))
                }
                Storage::Transient(_) => None,
            };
        }
        shared.read_back = plan.read_back.iter().map(|kept| plan.bytes(*kept)).fold(shared.read_back, u64::max);
        Ok(places)
    }

    /// A buffer of its own for a tensor, with so many bytes on either side.
    fn guarded(&mut self, name: &str, role: Role, bytes: u64, guard: u64) -> Place {
        Place { buffer: self.add(name.into(), role, bytes + 2 * guard), offset: guard, bytes: bytes + guard }
    }

    /// Lays out a plan by itself.
    ///
    /// # Errors
    /// As `lay_out`.
    pub fn of(plan: impl Into<FixedPlan>, options: LayoutOptions) -> Result<(Memory, Lowered)> {
        let (memory, mut lowered) = Memory::lay_out(vec![plan.into()], options)?;
        let lowered = lowered.pop().ok_or_else(|| Error::Internal("a plan that was not laid out".into()))?;
        Ok((memory, lowered))
    }

    fn add(&mut self, name: String, role: Role, bytes: u64) -> usize {
        self.buffers.push(BufferSpec { name, role, bytes });
        self.buffers.len() - 1
    }

    /// Gives each pooled tensor a buffer that no other needs while it lives, the largest first (Pisarchyk and Lee 2020, "Efficient memory
    /// management for deep neural net inference", greedy by size for shared objects): of the buffers that are free the smallest, or a new
    /// one of its size.
    fn pool(&mut self, plans: &[FixedPlan], places: &mut [Vec<Option<Place>>]) {
        let (mut tensors, mut start) = (Vec::new(), 0);
        for (number, plan) in plans.iter().enumerate() {
            for (tensor, (first, last)) in lifetimes(plan) {
                let info = plan.info(tensor);
                let Storage::Transient(role) = info.storage else { continue };
                let bytes = info.bytes().next_multiple_of(16);
                tensors.push(Pooled { plan: number, tensor, role, bytes, first: start + first, last: start + last });
            }
            start += plan.entries().len() + 1;
        }
        tensors.sort_by_key(|t| (t.role, std::cmp::Reverse(t.bytes), t.first, t.plan, t.tensor));
        // Buffers of a role, in order of size, with when they are taken: last dispatch by first.
        let mut buffers: Vec<(Role, usize, BTreeMap<usize, usize>)> = Vec::new();
        for Pooled { plan, tensor, role, bytes, first, last } in tensors {
            let free = |taken: &BTreeMap<usize, usize>| taken.range(..=last).next_back().is_none_or(|(_, until)| *until < first);
            let found = buffers.iter().rposition(|(of, _, taken)| *of == role && free(taken)).unwrap_or_else(|| {
                let name = format!("{role}.{}", buffers.len());
                buffers.push((role, self.add(name, role, bytes), BTreeMap::new()));
                buffers.len() - 1
            });
            let (_, buffer, taken) = &mut buffers[found];
            taken.insert(first, last);
            places[plan][tensor.0 as usize] = Some(Place { buffer: *buffer, offset: 0, bytes });
        }
    }

    fn summarise(&mut self, plans: &[Lowered]) {
        let report = &mut self.report;
        for buffer in &self.buffers {
            report.total_bytes += buffer.bytes;
            *report.bytes_by_role.entry(buffer.role.to_string()).or_default() += buffer.bytes;
        }
        for image in &self.images {
            let bytes = image.bytes();
            report.total_bytes += bytes;
            *report.bytes_by_role.entry(Role::Staging.to_string()).or_default() += bytes;
        }
        let mut listed = std::collections::HashSet::new();
        for Lowered { plan, places, .. } in plans {
            let lifetimes = lifetimes(plan);
            for (tensor, info) in plan.tensors() {
                let bytes = info.bytes();
                let buffer = &self.buffers[places[tensor.0 as usize].buffer];
                if info.pooled() {
                    report.unshared_activation_bytes += bytes;
                }
                if info.pooled() || listed.insert(info.name.clone()) {
                    report.tensors.push(TensorLine {
                        plan: plan.name.clone(),
                        name: info.name.clone(),
                        shape: info.shape.clone(),
                        role: buffer.role.to_string(),
                        bytes,
                        buffer: buffer.name.clone(),
                    });
                }
            }
            // What begins to live at each dispatch, less what lived up to the one before.
            let mut change = vec![0i128; plan.entries().len() + 2];
            for (tensor, (first, last)) in &lifetimes {
                let bytes = i128::from(plan.bytes(*tensor));
                change[*first] += bytes;
                change[last + 1] -= bytes;
            }
            let mut alive = 0;
            for (number, launch) in plan.launches().enumerate() {
                alive += change[launch.clone()].iter().sum::<i128>();
                let entry = &plan.entries()[launch.start];
                let at = || format!("{}: launch {number}, {} at {}", plan.name, entry.shader.name, entry.label);
                let live = alive as u64;
                let touched = plan.touched(launch);
                if live > report.peak_live_bytes {
                    (report.peak_live_bytes, report.peak_at) = (live, at());
                }
                if touched > report.working_set_bytes {
                    (report.working_set_bytes, report.working_set_at) = (touched, at());
                }
            }
        }
    }
}

/// First and last dispatch that uses each pooled tensor. Dispatches of one launch run at the same time.
fn lifetimes(plan: &FixedPlan) -> HashMap<Tensor, (usize, usize)> {
    let mut map: HashMap<Tensor, (usize, usize)> = HashMap::new();
    for launch in plan.launches() {
        let tensors = plan.entries()[launch.clone()].iter().flat_map(|e| &e.tensors);
        for tensor in tensors.filter(|t| plan.info(**t).pooled()) {
            map.entry(*tensor).or_insert((launch.start, launch.end - 1)).1 = launch.end - 1;
        }
    }
    for tensor in &plan.read_back {
        if let Some(life) = map.get_mut(tensor) {
            life.1 = plan.entries().len();
        }
    }
    map
}
