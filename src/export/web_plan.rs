//! Plans as browsers replay them: launches over parts of buffers, and kernels as WGSL. What the pages for browsers share.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::wgsl::{validated, wgsl};
use crate::error::{Error, Result};
use crate::files;
use crate::gpu::{BindingKind, CARD, Gpu, LAUNCH, Shader, Target};
use crate::plan::{Arena, BufferSpec, Flat, Lowered, Memory, Place, Program, Tensor};

/// Folder of the kernels.
const KERNELS: &str = "kernels";

/// Names of files, with what they hold.
pub(super) type Files = Vec<(String, Vec<u8>)>;

/// What all pages have.
const SHARED: [(&str, &str); 2] = [("style.css", include_str!("web/style.css")), ("replay.js", include_str!("web/replay.js"))];

/// A page with what all pages have: its text becomes `index.html`, its module keeps its name.
pub(super) fn page(html: &str, (module, script): (&str, &str)) -> Files {
    let own = [("index.html", html), (module, script)];
    own.into_iter().chain(SHARED).map(|(name, text)| (name.to_string(), text.as_bytes().to_vec())).collect()
}

/// The target of a plan for browsers: a card with the limits that WebGPU promises, but for its storage buffers, of which it promises eight
/// and browsers have ten or more.
pub fn browser() -> Target {
    Target { storage_buffers: 10, max_binding: 128 << 20, half: false, ..Target::default() }
}

/// Writes files into a folder that is new or empty.
///
/// # Errors
/// `CannotCreate` when the folder has something in it or cannot be made, and `Io` when the disk is full.
pub(super) fn write<'a>(folder: &Path, list: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<()> {
    files::expect_new_folder(folder)?;
    fs::create_dir_all(folder).map_err(|e| Error::create(folder, e))?;
    for (name, bytes) in list {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(|e| Error::create(parent, e))?;
        files::write(&path, bytes)?;
    }
    Ok(())
}

/// A part of a buffer.
#[derive(Debug, Serialize)]
pub(super) struct Part {
    pub(super) buffer: usize,
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

impl Part {
    pub(super) fn of(place: Place, bytes: u64) -> Part {
        Part { buffer: place.buffer, offset: place.offset, bytes }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Buffer {
    pub(super) name: String,
    pub(super) bytes: u64,
}

/// What a buffer holds before the first step; all else is 0.
#[derive(Debug, Serialize)]
pub(super) struct Fill {
    pub(super) file: String,
    #[serde(flatten)]
    pub(super) to: Part,
}

#[derive(Debug, Serialize)]
pub(super) struct Bound {
    pub(super) binding: u32,
    #[serde(flatten)]
    pub(super) part: Part,
}

#[derive(Debug, Serialize)]
pub(super) struct Launch {
    pub(super) label: String,
    pub(super) kernel: usize,
    pub(super) grid: [u32; 3],
    /// Words of the immediate block.
    pub(super) immediates: Vec<u32>,
    pub(super) bindings: Vec<Bound>,
    /// Seconds that an RX 6600 takes for it at least.
    pub(super) seconds: f64,
}

/// Most of what the kernels and buffers need of a device, by the names of WebGPU.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Limits {
    max_storage_buffers_per_shader_stage: u64,
    max_compute_workgroup_storage_size: u64,
    max_compute_invocations_per_workgroup: u64,
    max_compute_workgroup_size_x: u64,
    max_compute_workgroups_per_dimension: u64,
    max_storage_buffer_binding_size: u64,
    max_buffer_size: u64,
    max_immediate_size: u64,
}

impl Limits {
    /// Makes them large enough for another plan.
    pub(super) fn raise(&mut self, lowered: &Lowered, launches: &[Launch], buffers: &[Buffer]) {
        let most = |of: &dyn Fn(&Shader) -> u64| lowered.launches.iter().map(|launch| of(&launch.shader)).max().unwrap_or(0);
        let bound = launches.iter().flat_map(|launch| &launch.bindings).map(|bound| bound.part.bytes);
        let groups = launches.iter().flat_map(|launch| launch.grid).max().unwrap_or(0);
        for (limit, needed) in [
            (&mut self.max_storage_buffers_per_shader_stage, most(&|shader| shader.bindings.len() as u64)),
            (&mut self.max_compute_workgroup_storage_size, most(&|shader| shader.workgroup_bytes.into())),
            (&mut self.max_compute_invocations_per_workgroup, most(&|shader| shader.workgroup.into())),
            (&mut self.max_compute_workgroup_size_x, most(&|shader| shader.workgroup.into())),
            (&mut self.max_compute_workgroups_per_dimension, groups.into()),
            (&mut self.max_storage_buffer_binding_size, bound.max().unwrap_or(0)),
            (&mut self.max_buffer_size, buffers.iter().map(|buffer| buffer.bytes).max().unwrap_or(0)),
            (&mut self.max_immediate_size, most(&|shader| shader.params_bytes.into())),
        ] {
            *limit = needed.max(*limit);
        }
    }
}

/// Places of the tensors that are left after the passes.
pub(super) struct Places(HashMap<Tensor, Place>);

impl Places {
    pub(super) fn of(lowered: &Lowered) -> Result<Places> {
        // What only dropped launches used has a place without a byte.
        let placed: Vec<Place> = lowered.places.iter().copied().filter(|place| place.bytes > 0).collect();
        let tensors: Vec<Tensor> = lowered.plan.tensors().map(|(tensor, _)| tensor).collect();
        if placed.len() != tensors.len() {
            return Err(Error::Internal(format!("{} places for {} tensors", placed.len(), tensors.len())));
        }
        Ok(Places(tensors.into_iter().zip(placed).collect()))
    }

    pub(super) fn find(&self, tensor: Tensor) -> Result<Place> {
        self.0.get(&tensor).copied().ok_or_else(|| Error::Internal(format!("{tensor:?} has no place")))
    }

    /// The bytes of a tensor alone, which a binding may pass by a few.
    pub(super) fn of_tensor(&self, lowered: &Lowered, tensor: Tensor) -> Result<Part> {
        Ok(Part::of(self.find(tensor)?, lowered.plan.bytes(tensor)))
    }
}

/// The different kernels of plans, those of the same text once.
#[derive(Default)]
pub(super) struct Kernels {
    /// Numbers of shaders by their addresses, at which each stays.
    numbers: HashMap<*const Shader, (Arc<Shader>, usize)>,
    texts: HashMap<String, usize>,
    /// Names of their files.
    pub(super) names: Vec<String>,
    /// Features of WebGPU that they need.
    pub(super) features: Vec<&'static str>,
    /// Their files.
    pub(super) files: Files,
}

impl Kernels {
    /// Writes the kernels of a plan into files.
    pub(super) fn add(&mut self, lowered: &Lowered) -> Result<()> {
        for shader in lowered.launches.iter().map(|launch| &launch.shader) {
            if self.numbers.contains_key(&Arc::as_ptr(shader)) {
                continue;
            }
            let text = wgsl(shader, &validated(shader)?)?;
            for (said, feature) in [("enable f16;", "shader-f16"), ("enable subgroups;", "subgroups")] {
                if text.contains(said) && !self.features.contains(&feature) {
                    self.features.push(feature);
                }
            }
            let number = *self.texts.entry(text.clone()).or_insert(self.names.len());
            if number == self.names.len() {
                let name = format!("{KERNELS}/{number:02}-{}.wgsl", shader.name.replace(" + ", "+").replace('/', "-"));
                self.names.push(name.clone());
                self.files.push((name, text.into_bytes()));
            }
            self.numbers.insert(Arc::as_ptr(shader), (shader.clone(), number));
        }
        Ok(())
    }

    /// Number of a kernel that was added.
    fn number(&self, shader: &Arc<Shader>) -> Result<usize> {
        let found = self.numbers.get(&Arc::as_ptr(shader)).map(|(_, number)| *number);
        found.ok_or_else(|| Error::Internal(format!("{} was not written", shader.name)))
    }
}

/// The launches of a step, as `Program` runs them.
pub(super) fn launches(lowered: &Lowered, places: &Places, kernels: &Kernels) -> Result<Vec<Launch>> {
    // By the first entry of a launch, as not all launches of a plan need be here.
    let costs = lowered.cost(&CARD, 1).launches;
    let costs: HashMap<usize, f64> = lowered.plan.launches().zip(costs).map(|(launch, cost)| (launch.start, cost.seconds)).collect();
    let one = |launch: &crate::plan::Launch| {
        let entries = &lowered.plan.entries()[launch.entries.clone()];
        let bound = |(tensor, binding): (&Tensor, &crate::gpu::Binding)| {
            if binding.kind != BindingKind::Storage {
                return Err(Error::Internal(format!("{}: {} is no storage buffer", launch.shader.name, binding.name)));
            }
            let place = places.find(*tensor)?;
            Ok(Bound { binding: binding.index, part: Part::of(place, place.bytes) })
        };
        let immediates: Vec<u8> = entries.iter().flat_map(|entry| entry.immediates.iter().copied()).collect();
        Ok(Launch {
            label: entries.iter().map(|entry| entry.label.as_str()).collect::<Vec<_>>().join(" + "),
            kernel: kernels.number(&launch.shader)?,
            // Two entries lie in one row.
            grid: if let [entry] = entries { entry.grid } else { [entries.iter().map(|e| e.grid[0]).sum(), 1, 1] },
            immediates: bytemuck::pod_collect_to_vec(&immediates),
            bindings: launch.tensors.iter().zip(&launch.shader.bindings).map(bound).collect::<Result<_>>()?,
            seconds: costs[&launch.entries.start] + LAUNCH,
        })
    };
    lowered.launches.iter().map(one).collect()
}

/// A whole flat buffer.
pub(super) fn flat(memory: &Memory, flat: Flat) -> Result<Part> {
    let found = memory.buffers.iter().position(|buffer| buffer.name == flat.name());
    let buffer = found.ok_or_else(|| Error::Internal(format!("no buffer {}", flat.name())))?;
    Ok(Part { buffer, offset: 0, bytes: memory.buffers[buffer].bytes })
}

/// Buffers of a memory, but for the last, which is for reading back: a page has its own way.
pub(super) fn buffers(memory: &Memory) -> Vec<Buffer> {
    let buffer = |spec: &BufferSpec| Buffer { name: spec.name.clone(), bytes: spec.bytes };
    memory.buffers[..memory.buffers.len() - 1].iter().map(buffer).collect()
}

/// What buffers hold from the start besides weights: the constants of a plan, which are read back from a device that `open` opens.
pub(super) fn constants(
    lowered: &Lowered,
    places: &Places,
    memory: &Memory,
    open: impl FnOnce() -> Result<Gpu>,
) -> Result<(Vec<Fill>, Files)> {
    if lowered.plan.constants().is_empty() {
        return Ok((vec![], vec![]));
    }
    // A program without launches: it writes the constants, and they are read back.
    let idle = Lowered { launches: vec![], ..lowered.clone() };
    let program = Program::new(idle, Arc::new(Arena::new(Arc::new(open()?), memory)?))?;
    let one = |(number, (tensor, _)): (usize, &(Tensor, _))| {
        let (file, words) = (format!("constant-{number}.bin"), program.read::<u32>(*tensor)?);
        let fill = Fill { file: file.clone(), to: places.of_tensor(lowered, *tensor)? };
        Ok((fill, (file, bytemuck::cast_slice(&words).to_vec())))
    };
    lowered.plan.constants().iter().enumerate().map(one).collect::<Result<Vec<_>>>().map(|all| all.into_iter().unzip())
}
