//! The one choke point to wgpu: nothing else in the crate creates buffers, pipelines or submissions.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::adapter::{AdapterSummary, time_limit};
use super::card::VIDEO_MEMORY;
use super::forms::{inserts_by_stack, prefers_images};
use super::ledger::{Ledger, Role};
use super::shader::{Access, BindingKind, Shader};
use super::target::{SOFTWARE_LOOP_ITERATIONS, SOFTWARE_PAIR_FLOPS, Target, Texel};
use super::tuning::Tuning;
use super::{usage, video_memory};
use crate::error::{Error, Result};
use crate::fault;

/// A compiled kernel with its layout.
#[derive(Debug)]
pub struct Pipeline {
    /// wgpu pipeline.
    pub pipeline: wgpu::ComputePipeline,
    /// Layout of group 0.
    pub layout: wgpu::BindGroupLayout,
}

/// An open device.
#[derive(Debug)]
pub struct Gpu {
    /// Name, driver and kind.
    pub summary: AdapterSummary,
    /// Properties that plans depend on.
    pub target: Target,
    /// Why ways to launch kernels that were measured before are left aside, if they are.
    pub untuned: Option<String>,
    /// True if it can read arrays from images.
    pub reads_images: bool,
    pci: String,
    device: wgpu::Device,
    queue: wgpu::Queue,
    fault: Arc<OnceLock<Error>>,
    pipelines: Arc<Mutex<Pipelines>>,
    ledger: Mutex<Ledger>,
}

/// Compiled kernels by what names them.
type Pipelines = HashMap<(usize, bool), Arc<Pipeline>>;

/// Devices that are open. Who opens one of them again gets it with the kernels that were compiled for it, and a ledger of its own.
#[derive(Debug, Clone, Default)]
pub struct Devices {
    open: Arc<Mutex<Vec<Open>>>,
    plain: bool,
}

/// A device with what it was asked for by.
#[derive(Debug)]
struct Open {
    gpu: Gpu,
    asked: Vec<Option<String>>,
}

impl Devices {
    /// The same devices, which read no arrays from images: kernels then do not depend on the sizes of tensors.
    pub fn plain(&self) -> Devices {
        Devices { open: self.open.clone(), plain: true }
    }

    /// As `Gpu::open`.
    ///
    /// # Errors
    /// As `Gpu::open`.
    pub fn open(&self, wanted: Option<&str>) -> Result<Gpu> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // One that was lost is opened anew.
        open.retain(|one| one.gpu.check().is_ok());
        let asked = wanted.map(str::to_string);
        if let Some(one) = open.iter().find(|one| one.asked.contains(&asked)) {
            return Ok(one.gpu.again(self.plain));
        }
        let (summary, adapter) = choose(wanted)?;
        if let Some(one) = open.iter_mut().find(|one| one.gpu.summary.index == summary.index) {
            one.asked.push(asked);
            return Ok(one.gpu.again(self.plain));
        }
        let gpu = Gpu::of(summary, adapter)?;
        let again = gpu.again(self.plain);
        open.push(Open { gpu, asked: vec![asked] });
        Ok(again)
    }
}

/// After so long without an answer a card counts as hung: a submission takes a quarter of a second, and systems reset a card after some.
const HUNG: std::time::Duration = std::time::Duration::from_secs(300);

/// More compiled kernels than this are kept only while something uses them: software drivers hold a megabyte for each.
const MAX_PIPELINES: usize = 256;

const NEEDED: wgpu::Features = wgpu::Features::IMMEDIATES;
const WANTED: wgpu::Features = wgpu::Features::TIMESTAMP_QUERY
    .union(wgpu::Features::SUBGROUP)
    .union(wgpu::Features::SHADER_F16)
    // Images of single 16-bit floats that kernels read.
    .union(wgpu::Features::TEXTURE_ADAPTER_SPECIFIC_FORMAT_FEATURES);

/// Keeps what was compiled; what nothing uses goes once there is much of it.
fn keep<K: Eq + std::hash::Hash, V>(kept: &mut HashMap<K, Arc<V>>, key: K, value: Arc<V>) {
    if kept.len() >= MAX_PIPELINES {
        kept.retain(|_, value| Arc::strong_count(value) > 1);
    }
    kept.insert(key, value);
}

/// Which kernels keep wgpu's bounds checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoundsChecks {
    /// Checks of kernels of one's own (`add_source`) alone: all others were compared with and without.
    Foreign,
    /// All of them.
    All,
}

impl BoundsChecks {
    fn of(self, shader: &Shader) -> bool {
        self == BoundsChecks::All || shader.foreign
    }
}

/// Names a compiled kernel: shaders are cached for the life of the process, so by the address.
fn key(shader: &Arc<Shader>, checks: BoundsChecks) -> (usize, bool) {
    (Arc::as_ptr(shader) as usize, checks.of(shader))
}

/// Name that wgpu gives it.
fn texture_format(texel: Texel) -> wgpu::TextureFormat {
    match (texel.components, texel.half) {
        (4, false) => wgpu::TextureFormat::Rgba32Float,
        (4, true) => wgpu::TextureFormat::Rgba16Float,
        (_, false) => wgpu::TextureFormat::R32Float,
        (_, true) => wgpu::TextureFormat::R16Float,
    }
}

/// True if kernels on an adapter may read images of every kind.
fn reads_images(adapter: &wgpu::Adapter) -> bool {
    let flags = |texel| adapter.get_texture_format_features(texture_format(texel)).flags;
    adapter.features().contains(wgpu::Features::TEXTURE_ADAPTER_SPECIFIC_FORMAT_FEATURES)
        && Texel::ALL.into_iter().all(|texel| flags(texel).contains(wgpu::TextureFormatFeatureFlags::STORAGE_READ_ONLY))
}

fn instance() -> wgpu::Instance {
    wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12,
        // The validation layers of the Vulkan SDK are for developing wgpu itself; wgpu's own checks are always on.
        flags: wgpu::InstanceFlags::empty().with_env(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    })
}

fn enumerate() -> Vec<(AdapterSummary, wgpu::Adapter)> {
    let mut adapters = pollster::block_on(instance().enumerate_adapters(wgpu::Backends::all()));
    adapters.sort_by_key(|a| {
        let kind = match a.get_info().device_type {
            wgpu::DeviceType::DiscreteGpu => 0,
            wgpu::DeviceType::IntegratedGpu => 1,
            wgpu::DeviceType::VirtualGpu => 2,
            wgpu::DeviceType::Other => 3,
            wgpu::DeviceType::Cpu => 4,
        };
        // Of a card that answers through both, its Vulkan driver, which compiles SPIR-V itself.
        (kind, a.get_info().backend == wgpu::Backend::Dx12)
    });
    adapters
        .into_iter()
        .enumerate()
        .map(|(index, adapter)| {
            let (info, limits) = (adapter.get_info(), adapter.limits());
            let missing = NEEDED - adapter.features();
            let unusable = if !missing.is_empty() {
                Some(format!("it lacks {missing:?}"))
            } else if limits.max_immediate_size < 64 {
                Some(format!("its immediates hold {} bytes, 64 are needed", limits.max_immediate_size))
            } else {
                None
            };
            let kind = match info.device_type {
                wgpu::DeviceType::DiscreteGpu => "discrete",
                wgpu::DeviceType::IntegratedGpu => "integrated",
                wgpu::DeviceType::VirtualGpu => "virtual",
                wgpu::DeviceType::Other => "other",
                wgpu::DeviceType::Cpu => "software",
            };
            let summary = AdapterSummary {
                index,
                name: info.name,
                backend: format!("{:?}", info.backend),
                kind: kind.into(),
                driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
                max_binding: limits.max_storage_buffer_binding_size,
                workgroup_memory: limits.max_compute_workgroup_storage_size,
                subgroup: (info.subgroup_min_size, info.subgroup_max_size),
                unusable,
                time_limit: time_limit(&info.device_pci_bus_id, kind),
            };
            (summary, adapter)
        })
        .collect()
}

/// Every adapter of this machine, real ones first.
pub fn adapters() -> Vec<AdapterSummary> {
    enumerate().into_iter().map(|(summary, _)| summary).collect()
}

fn no_driver() -> Error {
    let how = if cfg!(target_os = "linux") {
        "Install a Vulkan driver: `apt install mesa-vulkan-drivers` (AMD, Intel and the software adapter lavapipe), or your \
         distribution's package of the same name; NVIDIA cards use the vendor's driver. If one is installed, check that \
         VK_ICD_FILENAMES and VK_DRIVER_FILES do not hide it"
    } else if cfg!(target_os = "windows") {
        "Install the card vendor's current driver (it brings Vulkan and DirectX 12)"
    } else {
        "macOS brings Metal with it; a virtual machine may hide it"
    };
    Error::NoGpu(format!(
        "no GPU adapter found: no Vulkan, Metal or DirectX 12 driver answered. {how}. `engine devices` lists what is found"
    ))
}

fn choose(wanted: Option<&str>) -> Result<(AdapterSummary, wgpu::Adapter)> {
    let all = enumerate();
    if all.is_empty() {
        return Err(no_driver());
    }
    let names = all.iter().map(|(s, _)| format!("  {} {}", s.index, s.name)).collect::<Vec<_>>().join("\n");
    let found = match wanted {
        None => all.into_iter().find(|(s, _)| s.unusable.is_none()),
        Some(text) => all.into_iter().find(|(s, _)| match text.parse::<usize>() {
            Ok(index) => s.index == index,
            Err(_) => s.name.to_lowercase().contains(&text.to_lowercase()),
        }),
    };
    let (summary, adapter) = found.ok_or_else(|| match wanted {
        Some(text) => Error::Config(format!("--device {text}: no such adapter. There are\n{names}")),
        None => Error::NoGpu(format!("no adapter can run the kernels (see `engine devices`). There are\n{names}")),
    })?;
    match &summary.unusable {
        Some(why) => Err(Error::NoGpu(format!(
            "adapter {} ({}) cannot run the kernels: {why}. Update its driver, or choose another with --device",
            summary.index, summary.name
        ))),
        None => Ok((summary, adapter)),
    }
}

fn classify(error: &wgpu::Error) -> Error {
    match error {
        wgpu::Error::OutOfMemory { .. } => Error::TryAgain(
            "the device is out of memory: other programs hold part of it. Close them, lower train.batch, or give --budget".into(),
        ),
        other => Error::Internal(format!("wgpu: {other}")),
    }
}

impl Gpu {
    /// Opens an adapter by number or part of its name; without one, the first usable, real cards before software.
    ///
    /// # Errors
    /// `NoGpu` when there is none or it lacks a feature, `Config` when `wanted` matches none.
    pub fn open(wanted: Option<&str>) -> Result<Gpu> {
        let (summary, adapter) = choose(wanted)?;
        Gpu::of(summary, adapter)
    }

    fn of(summary: AdapterSummary, adapter: wgpu::Adapter) -> Result<Gpu> {
        let features = NEEDED | (WANTED & adapter.features());
        let limits = adapter.limits();
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("engine"),
            required_features: features,
            required_limits: limits.clone(),
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        }))
        .map_err(|e| Error::NoGpu(format!("adapter {} ({}) does not open: {e}", summary.index, summary.name)))?;

        let fault = Arc::new(OnceLock::new());
        let lost = fault.clone();
        device.set_device_lost_callback(move |reason, message| {
            let _ = lost.set(Error::Lost(format!(
                "the device was lost ({reason:?}: {message}): the driver reset it or it was removed. Checkpoints are intact: a run goes on with --resume"
            )));
        });
        let uncaptured = fault.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let _ = uncaptured.set(classify(&error));
        }));
        let same = summary.subgroup.0 == summary.subgroup.1 && features.contains(wgpu::Features::SUBGROUP);
        let software = summary.kind == "software";
        let target = Target {
            software,
            subgroup: if same { summary.subgroup.0 } else { 0 },
            max_groups: limits.max_compute_workgroups_per_dimension,
            max_binding: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
            uniform_bytes: 0,
            image_rows: 0,
            slow_loads: false,
            loop_iterations: if software { SOFTWARE_LOOP_ITERATIONS } else { u64::MAX },
            workgroup_memory: limits.max_compute_workgroup_storage_size,
            workgroup_invocations: limits.max_compute_invocations_per_workgroup,
            storage_buffers: limits.max_storage_buffers_per_shader_stage,
            uniform_buffers: limits.max_uniform_buffers_per_shader_stage,
            immediate_bytes: limits.max_immediate_size,
            half: features.contains(wgpu::Features::SHADER_F16),
            pair_flops: if software { SOFTWARE_PAIR_FLOPS } else { u64::MAX },
            tuned: None,
        };
        let pci = adapter.get_info().device_pci_bus_id;
        let reads_images = reads_images(&adapter);
        let (pipelines, ledger) = Default::default();
        Ok(Gpu { summary, target, untuned: None, reads_images, pci, device, queue, fault, pipelines, ledger }.with_what_was_measured())
    }

    /// The same device with an empty ledger, and with what is known by now of the ways to launch its kernels.
    fn again(&self, plain: bool) -> Gpu {
        Gpu {
            summary: self.summary.clone(),
            target: self.target,
            untuned: None,
            reads_images: self.reads_images && !plain,
            pci: self.pci.clone(),
            device: self.device.clone(),
            queue: self.queue.clone(),
            fault: self.fault.clone(),
            pipelines: self.pipelines.clone(),
            ledger: Mutex::default(),
        }
        .with_what_was_measured()
    }

    fn with_what_was_measured(mut self) -> Gpu {
        let kept = Tuning::kept(&self.summary);
        self.untuned = kept.as_ref().err().cloned();
        self.target = self.tuned(kept.unwrap_or_default());
        self
    }

    /// Its target with these ways to launch kernels.
    pub fn tuned(&self, tuning: Tuning) -> Target {
        let images = self.target.software && self.reads_images && tuning.images().unwrap_or_else(|| prefers_images(&self.summary.driver));
        let limits = self.device.limits();
        Target {
            uniform_bytes: if images { limits.max_uniform_buffer_binding_size.min(65_536) } else { 0 },
            image_rows: if images { limits.max_texture_dimension_2d } else { 0 },
            slow_loads: images && self.target.vector() == 8 && inserts_by_stack(&self.summary.driver),
            tuned: tuning.leaked(),
            ..self.target
        }
    }

    /// One line that names the device, and says so when it is software.
    pub fn describe(&self) -> String {
        let s = &self.summary;
        let note = if self.target.software { ", software: kernels run on the processor" } else { "" };
        format!("{} ({}, {}{note})", s.name, s.backend, s.driver)
    }

    /// The latched fault, as an error.
    fn check(&self) -> Result<()> {
        match self.fault.get() {
            None => Ok(()),
            Some(Error::TryAgain(m)) => Err(Error::TryAgain(m.clone())),
            Some(Error::Lost(m)) => Err(Error::Lost(m.clone())),
            Some(other) => Err(Error::Internal(other.to_string())),
        }
    }

    /// What limits the budget, where that is other programs, as an addition to its number.
    pub fn budget_note(&self) -> &'static str {
        if self.budget() < VIDEO_MEMORY { ", which other programs and the desktop leave free" } else { "" }
    }

    /// Bytes that a run may allocate unless it is told otherwise: 8 GiB, or what is free where that is known and less.
    pub fn budget(&self) -> u64 {
        VIDEO_MEMORY.min(self.free_memory().unwrap_or(u64::MAX))
    }

    /// Bytes of video memory that no program holds, where the driver tells: Linux with amdgpu, and cards through Vulkan.
    pub fn free_memory(&self) -> Option<u64> {
        let by_vulkan = || if self.target.software { None } else { video_memory::by_vulkan(&self.device) };
        video_memory::by_amdgpu(&self.pci).or_else(by_vulkan)
    }

    /// True if the device writes timestamps.
    pub fn has_timestamps(&self) -> bool {
        self.device.features().contains(wgpu::Features::TIMESTAMP_QUERY)
    }

    /// Allocates a zeroed buffer and enters it in the ledger.
    ///
    /// # Errors
    /// `TryAgain` when the device is out of memory, `Config` when one buffer exceeds the device's limit.
    pub fn buffer(&self, role: Role, name: &str, bytes: u64) -> Result<wgpu::Buffer> {
        use wgpu::BufferUsages as U;
        if bytes > self.target.max_binding && role != Role::Staging {
            return Err(Error::Config(format!(
                "{name} needs {bytes} bytes in one buffer; {} allows {}. Lower train.batch or the model's size",
                self.summary.name, self.target.max_binding
            )));
        }
        let usage = match role {
            Role::Staging => U::MAP_READ | U::COPY_DST,
            _ => U::STORAGE | U::UNIFORM | U::COPY_SRC | U::COPY_DST,
        };
        fault::device("alloc")?;
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer =
            self.device.create_buffer(&wgpu::BufferDescriptor { label: Some(name), size: bytes, usage, mapped_at_creation: false });
        if let Some(error) = pollster::block_on(scope.pop()) {
            return Err(classify(&error));
        }
        self.check()?;
        self.ledger.lock().expect("no panic while held").add(role, bytes);
        Ok(buffer)
    }

    /// Bytes allocated so far, by role.
    pub fn ledger(&self) -> Ledger {
        self.ledger.lock().expect("no panic while held").clone()
    }

    /// Memory that wgpu's own allocator says it handed out: (label, bytes). Empty where the backend has no report.
    pub fn allocator_report(&self) -> Vec<(String, u64)> {
        let report = self.device.generate_allocator_report();
        report.into_iter().flat_map(|r| r.allocations).map(|a| (a.name, a.size)).collect()
    }

    /// Compiles kernels, each once, on all of the processor's cores: drivers take up to seconds for one. Results are bit-equal with bounds
    /// checks and without (tested). On DirectX one core compiles, as objects of its compiler are for one thread
    /// (<https://github.com/microsoft/DirectXShaderCompiler/issues/2418>).
    ///
    /// # Errors
    /// `Internal`, naming the kernel, when the driver rejects one.
    pub fn pipelines(&self, shaders: &[&Arc<Shader>], checks: BoundsChecks) -> Result<Vec<Arc<Pipeline>>> {
        let mut missing: Vec<&Arc<Shader>> = Vec::new();
        for shader in shaders {
            usage::kernel(key(shader, checks));
            if self.compiled(shader, checks).is_none() && !missing.iter().any(|s| Arc::ptr_eq(s, shader)) {
                missing.push(shader);
            }
        }
        let next = AtomicUsize::new(0);
        let work = || {
            let mut made = Vec::new();
            while let Some(shader) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                made.push(self.pipeline(shader, checks));
                if made.last().is_some_and(Result::is_err) {
                    next.store(missing.len(), Ordering::Relaxed);
                }
            }
            made
        };
        let cores = if self.summary.backend == "Dx12" { 1 } else { std::thread::available_parallelism().map_or(1, usize::from) };
        let workers = cores.min(missing.len());
        let made: Vec<_> = std::thread::scope(|scope| {
            let others: Vec<_> = (1..workers).map(|_| scope.spawn(work)).collect();
            let mut made = work();
            made.extend(others.into_iter().flat_map(|other| other.join().expect("compiling does not panic")));
            made
        });
        // Held until each has its own: what nothing uses may be dropped.
        let _held = made.into_iter().collect::<Result<Vec<_>>>()?;
        shaders.iter().map(|shader| self.pipeline(shader, checks)).collect()
    }

    /// A kernel that is compiled already.
    fn compiled(&self, shader: &Arc<Shader>, checks: BoundsChecks) -> Option<Arc<Pipeline>> {
        self.pipelines.lock().expect("no panic while held").get(&key(shader, checks)).cloned()
    }

    /// Compiles a kernel, once.
    fn pipeline(&self, shader: &Arc<Shader>, checks: BoundsChecks) -> Result<Arc<Pipeline>> {
        if let Some(found) = self.compiled(shader, checks) {
            return Ok(found);
        }
        let label = Some(shader.name.as_str());
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let descriptor =
            wgpu::ShaderModuleDescriptor { label, source: wgpu::ShaderSource::Naga(std::borrow::Cow::Owned(shader.module.clone())) };
        // Loop bounding stays off either way: it keeps drivers from unrolling, and with that moves the last bit of sums of products,
        // because which product of a·b + c·d a driver fuses depends on the unrolling.
        let checked = checks.of(shader);
        let runtime = wgpu::ShaderRuntimeChecks { bounds_checks: checked, ..wgpu::ShaderRuntimeChecks::unchecked() };
        // SAFETY: without bounds checks the shaders are ours. kernels-tests run every kernel with and without bounds checks and demand the
        // same bits and untouched guard words, so no access is out of bounds; every loop counts up or down to a bound.
        let module = unsafe { self.device.create_shader_module_trusted(descriptor, runtime) };
        let buffer = |ty| wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None };
        let entries: Vec<_> = shader
            .bindings
            .iter()
            .map(|b| wgpu::BindGroupLayoutEntry {
                binding: b.index,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: match b.kind {
                    BindingKind::Uniform => buffer(wgpu::BufferBindingType::Uniform),
                    BindingKind::Storage => buffer(wgpu::BufferBindingType::Storage { read_only: b.access == Access::Read }),
                    BindingKind::Image(texel) => wgpu::BindingType::StorageTexture {
                        access: wgpu::StorageTextureAccess::ReadOnly,
                        format: texture_format(texel),
                        view_dimension: wgpu::TextureViewDimension::D2,
                    },
                },
                count: None,
            })
            .collect();
        let layout = self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: shader.params_bytes,
        });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // Kernels write workgroup memory before they read it; the tests' bit-equality would show otherwise.
                zero_initialize_workgroup_memory: checked,
                ..Default::default()
            },
            cache: None,
        });
        let errors = [pollster::block_on(internal.pop()), pollster::block_on(scope.pop())];
        if let Some(error) = errors.into_iter().flatten().next() {
            return Err(Error::Internal(format!("kernel {} does not compile on {}: {error}", shader.name, self.summary.name)));
        }
        self.check()?;
        let pipeline = Arc::new(Pipeline { pipeline, layout });
        keep(&mut self.pipelines.lock().expect("no panic while held"), key(shader, checks), pipeline.clone());
        Ok(pipeline)
    }

    /// Allocates an image with rows of 4,096 numbers and enters it in the ledger.
    ///
    /// # Errors
    /// `TryAgain` when the device is out of memory.
    pub fn image(&self, texel: Texel, rows: u32) -> Result<wgpu::Texture> {
        fault::device("alloc")?;
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let image = self.device.create_texture(&wgpu::TextureDescriptor {
            label: Some("image"),
            size: wgpu::Extent3d { width: texel.pitch(), height: rows, depth_or_array_layers: 1 },
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format: texture_format(texel),
            usage: wgpu::TextureUsages::STORAGE_BINDING | wgpu::TextureUsages::COPY_DST,
            view_formats: &[],
        });
        if let Some(error) = pollster::block_on(scope.pop()) {
            return Err(classify(&error));
        }
        self.check()?;
        self.ledger.lock().expect("no panic while held").add(Role::Staging, u64::from(rows) * texel.pitch_bytes());
        Ok(image)
    }

    /// Binds resources in the order of the shader's bindings.
    pub fn bind(&self, pipeline: &Pipeline, shader: &Shader, resources: Vec<wgpu::BindingResource<'_>>) -> wgpu::BindGroup {
        let pairs = shader.bindings.iter().zip(resources);
        let entries: Vec<_> = pairs.map(|(b, resource)| wgpu::BindGroupEntry { binding: b.index, resource }).collect();
        self.device.create_bind_group(&wgpu::BindGroupDescriptor { label: Some(&shader.name), layout: &pipeline.layout, entries: &entries })
    }

    /// A new command encoder.
    pub fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("engine") })
    }

    /// A set of `count` timestamps.
    pub fn timestamps(&self, count: u32) -> wgpu::QuerySet {
        self.device.create_query_set(&wgpu::QuerySetDescriptor { label: Some("timestamps"), ty: wgpu::QueryType::Timestamp, count })
    }

    /// Nanoseconds of one timestamp tick.
    pub fn timestamp_period(&self) -> f64 {
        f64::from(self.queue.get_timestamp_period())
    }

    /// Buffer that timestamps resolve into; not part of a run, so not in the ledger.
    pub fn timestamp_buffer(&self, count: u32) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("timestamps"),
            size: u64::from(count) * 8,
            usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        })
    }

    /// Queues a host write; it takes effect before the next submission.
    pub fn write(&self, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) {
        self.queue.write_buffer(buffer, offset, bytes);
    }

    /// Submits work.
    ///
    /// # Errors
    /// `Lost` on device loss, `TryAgain` on memory shortage.
    pub fn submit(&self, encoder: wgpu::CommandEncoder) -> Result<wgpu::SubmissionIndex> {
        self.check()?;
        fault::device("submit")?;
        if fault::fails("lost") {
            self.lose();
        }
        let index = self.guard(|| self.queue.submit([encoder.finish()]))?;
        self.check()?;
        Ok(index)
    }

    /// Waits for one submission: for a card no longer than `HUNG`.
    ///
    /// # Errors
    /// `Lost` on device loss, `TryAgain` when the card does not answer.
    pub fn wait(&self, index: wgpu::SubmissionIndex) -> Result<()> {
        self.check()?;
        let timeout = (!self.target.software).then_some(HUNG);
        let result = self.guard(|| self.device.poll(wgpu::PollType::Wait { submission_index: Some(index), timeout }))?;
        self.check()?;
        match result {
            Ok(_) if !fault::fails("hang") => Ok(()),
            Ok(_) | Err(wgpu::PollError::Timeout) => {
                // Whoever frees a device that hangs waits for it.
                std::mem::forget((self.device.clone(), self.queue.clone()));
                Err(Error::TryAgain(format!(
                    "{} has not answered for {} minutes: its driver hangs. Checkpoints are intact: restart the driver or the machine, and go on with --resume",
                    self.summary.name,
                    HUNG.as_secs() / 60
                )))
            }
            Err(e) => Err(Error::TryAgain(format!("waiting for the device failed: {e}"))),
        }
    }

    /// wgpu panics where a device is lost; here that becomes an error.
    fn guard<T>(&self, call: impl FnOnce() -> T) -> Result<T> {
        std::panic::catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            self.check().err().unwrap_or_else(|| Error::Lost(format!("the device stopped answering: {text}")))
        })
    }

    /// Copies `bytes` of `buffer` from `offset` to the host, through `staging`, in pieces of its size.
    ///
    /// # Errors
    /// `Lost` on device loss.
    pub fn read(&self, staging: &wgpu::Buffer, buffer: &wgpu::Buffer, offset: u64, bytes: u64) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(bytes as usize);
        while (out.len() as u64) < bytes {
            let piece = (bytes - out.len() as u64).min(staging.size());
            let mut encoder = self.encoder();
            encoder.copy_buffer_to_buffer(buffer, offset + out.len() as u64, staging, 0, piece);
            let index = self.submit(encoder)?;
            self.read_staged(staging, piece, index, |bytes| out.extend_from_slice(bytes))?;
        }
        Ok(out)
    }

    /// Hands over the first bytes of a staging buffer once a submission is done.
    ///
    /// # Errors
    /// `Lost` on device loss.
    pub fn read_staged(&self, staging: &wgpu::Buffer, bytes: u64, index: wgpu::SubmissionIndex, mut take: impl FnMut(&[u8])) -> Result<()> {
        let slice = staging.slice(..bytes);
        slice.map_async(wgpu::MapMode::Read, |_| {});
        self.wait(index)?;
        fault::device("map")?;
        match slice.get_mapped_range() {
            Ok(view) => take(&view),
            Err(e) => return Err(Error::TryAgain(format!("reading back from the device failed: {e}"))),
        }
        staging.unmap();
        Ok(())
    }

    /// Destroys the device, as a driver reset would; for tests of what follows. Work in flight ends first: a software driver's threads
    /// would go on with memory that is no longer there.
    pub fn lose(&self) {
        let _ = self.guard(|| self.device.poll(wgpu::PollType::wait_indefinitely()));
        self.device.destroy();
        let _ = self.guard(|| self.device.poll(wgpu::PollType::Poll));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vulkan_can_be_asked_for_its_memory() {
        // Software drivers answer too, though no budget is made of it.
        if let Ok(gpu) = Gpu::open(None)
            && let Some(left) = video_memory::by_vulkan(&gpu.device)
        {
            assert!((1 << 20..1 << 50).contains(&left), "{left}");
        }
    }

    #[test]
    fn what_nothing_uses_is_not_kept_for_ever() {
        let mut kept = HashMap::new();
        let used: Vec<Arc<usize>> = (0..2 * MAX_PIPELINES).map(Arc::new).collect();
        for (key, value) in used.iter().enumerate() {
            keep(&mut kept, key, value.clone());
        }
        assert_eq!(kept.len(), used.len());
        drop(used);
        for key in 0..10 * MAX_PIPELINES {
            keep(&mut kept, 2 * MAX_PIPELINES + key, Arc::new(key));
            assert!(key == 0 || kept.len() <= MAX_PIPELINES);
        }
    }
}
