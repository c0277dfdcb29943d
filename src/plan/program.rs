//! A plan on a device: buffers, pipelines and bind groups made once, replayed every step.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::fixed::FixedPlan;
use super::lowering::{ImageRead, ImageSpec, Lowered, Place};
use super::memory::{LayoutOptions, Memory};
use super::tensor::{Flat, Section, Tensor};
use crate::error::{Error, Result};
use crate::gpu::{BindingKind, BoundsChecks, CARD, Gpu, LAUNCH, Pipeline, launched};

/// Seconds that a submission should take at most. Windows and Linux 7 end what takes 2 s, and the desktop waits for its card meanwhile.
const LONGEST: f64 = 0.25;

/// How many times slower than an RX 6600 at its limits a device is taken for until it has shown its pace.
const SLOWEST: f64 = 20.0;

/// Submissions that are under way together, so that the device need not wait for the host between them.
const UNDER_WAY: usize = 2;

/// Words of a constant tensor written at once.
const UPLOAD: usize = 4 << 20;

/// The buffers of a run.
#[derive(Debug)]
pub struct Arena {
    /// Device.
    pub gpu: Arc<Gpu>,
    buffers: Vec<wgpu::Buffer>,
    images: Vec<(ImageSpec, wgpu::Texture)>,
    flats: Vec<(Flat, usize)>,
    slices: Vec<usize>,
}

impl Arena {
    /// Allocates what `memory` lists.
    ///
    /// # Errors
    /// `TryAgain` when the device is out of memory, `Config` when a buffer exceeds its limit.
    pub fn new(gpu: Arc<Gpu>, memory: &Memory) -> Result<Arena> {
        let buffers = memory.buffers.iter().map(|b| gpu.buffer(b.role, &b.name, b.bytes)).collect::<Result<Vec<_>>>()?;
        let image = |spec: &ImageSpec| Ok((*spec, gpu.image(spec.texel, spec.rows)?));
        let images = memory.images.iter().map(image).collect::<Result<Vec<_>>>()?;
        let flats =
            Flat::ALL.into_iter().filter_map(|flat| Some((flat, memory.buffers.iter().position(|b| b.name == flat.name())?))).collect();
        Ok(Arena { gpu, buffers, images, flats, slices: memory.slices.clone() })
    }

    fn staging(&self) -> &wgpu::Buffer {
        &self.buffers[self.buffers.len() - 1]
    }

    pub(super) fn slices(&self) -> impl Iterator<Item = wgpu::Buffer> + '_ {
        self.slices.iter().map(|index| self.buffers[*index].clone())
    }

    pub(super) fn buffer(&self, index: usize) -> &wgpu::Buffer {
        &self.buffers[index]
    }

    pub(super) fn flat(&self, flat: Flat) -> Result<&wgpu::Buffer> {
        let found = self.flats.iter().find(|(f, _)| *f == flat);
        found.map(|(_, i)| &self.buffers[*i]).ok_or_else(|| Error::Internal(format!("no buffer {}", flat.name())))
    }

    /// Reads a flat buffer.
    ///
    /// # Errors
    /// `Lost` on device loss.
    pub fn read_flat(&self, flat: Flat) -> Result<Vec<f32>> {
        let buffer = self.flat(flat)?;
        Ok(bytemuck::pod_collect_to_vec(&self.gpu.read(self.staging(), buffer, 0, buffer.size())?))
    }

    /// Writes a flat buffer.
    ///
    /// # Errors
    /// `Internal` when the length differs.
    pub fn write_flat(&self, flat: Flat, values: &[f32]) -> Result<()> {
        let buffer = self.flat(flat)?;
        if buffer.size() != values.len() as u64 * 4 {
            return Err(Error::Internal(format!("{} values for {}", values.len(), flat.name())));
        }
        self.gpu.write(buffer, 0, bytemuck::cast_slice(values));
        Ok(())
    }

    /// Reads a whole buffer as it lies, guard words included.
    ///
    /// # Errors
    /// `Lost` on device loss.
    pub fn read_buffer(&self, index: usize) -> Result<Vec<u32>> {
        let buffer = &self.buffers[index];
        Ok(bytemuck::pod_collect_to_vec(&self.gpu.read(self.staging(), buffer, 0, buffer.size())?))
    }

    /// Overwrites a whole buffer.
    pub fn write_buffer(&self, index: usize, words: &[u32]) {
        self.gpu.write(&self.buffers[index], 0, bytemuck::cast_slice(words));
    }

    /// Size of a buffer in bytes.
    pub fn buffer_bytes(&self, index: usize) -> u64 {
        self.buffers[index].size()
    }
}

#[derive(Debug)]
struct Compiled {
    pipeline: Arc<Pipeline>,
    group: wgpu::BindGroup,
    immediates: Vec<u8>,
    grid: [u32; 3],
    /// Seconds that the RX 6600 takes for it at least.
    seconds: f64,
    images: Vec<ImageRead>,
}

/// Time of one launch, from timestamps at the edges of a pass of its own.
#[derive(Debug, Clone)]
pub struct Timing {
    /// Entries of the plan that it runs.
    pub entries: Range<usize>,
    /// Seconds, median over the repetitions.
    pub seconds: f64,
}

/// Number of these launches that one submission holds at this pace, at least one, and their seconds on the RX 6600.
fn part(launches: &[Compiled], pace: f64) -> (usize, f64) {
    let (mut end, mut seconds) = (0, 0.0);
    // Half of the longest, as launches take longer than at least, and not all by the same factor.
    while let Some(launch) = launches.get(end).filter(|next| end == 0 || (seconds + next.seconds) * pace <= LONGEST / 2.0) {
        seconds += launch.seconds;
        end += 1;
    }
    (end, seconds)
}

/// A plan ready to run.
#[derive(Debug)]
pub struct Program {
    /// Lowered plan that it replays.
    pub plan: FixedPlan,
    arena: Arc<Arena>,
    places: Vec<Place>,
    launches: Vec<Compiled>,
    /// Seconds that the device takes for one of the RX 6600's, by the slowest submission of the last step that had several.
    pace: Mutex<f64>,
}

impl Program {
    /// A plan in buffers of its own, and these.
    ///
    /// # Errors
    /// As `Memory::lay_out`, `Arena::new` and `new`.
    pub fn alone(plan: impl Into<FixedPlan>, gpu: &Arc<Gpu>) -> Result<(Program, Memory)> {
        let (memory, lowered) = Memory::of(plan, LayoutOptions::default())?;
        let arena = Arc::new(Arena::new(gpu.clone(), &memory)?);
        Ok((Program::new(lowered, arena)?, memory))
    }

    /// Compiles every kernel, binds every tensor and writes its constants.
    ///
    /// # Errors
    /// `Internal` when a kernel does not compile, `Lost` on device loss.
    pub fn new(lowered: Lowered, arena: Arc<Arena>) -> Result<Program> {
        Program::with(lowered, arena, BoundsChecks::Foreign)
    }

    /// The same with bounds checks in these kernels.
    ///
    /// # Errors
    /// As `new`.
    pub fn with(lowered: Lowered, arena: Arc<Arena>, checks: BoundsChecks) -> Result<Program> {
        let least = lowered.cost(&CARD, 1).launches;
        let Lowered { plan, places, launches } = lowered;
        let shaders: Vec<_> = launches.iter().map(|launch| &launch.shader).collect();
        let pipelines = arena.gpu.pipelines(&shaders, checks)?;
        let mut compiled = Vec::with_capacity(launches.len());
        for ((launch, pipeline), least) in launches.into_iter().zip(pipelines).zip(least) {
            let entries = &plan.entries()[launch.entries];
            let view = |read: &ImageRead| arena.images[read.image].1.create_view(&wgpu::TextureViewDescriptor::default());
            let views: Vec<_> = launch.images.iter().map(view).collect();
            let mut next_view = views.iter();
            let resource = |(t, binding): (&Tensor, &crate::gpu::Binding)| {
                let place = places[t.0 as usize];
                // A uniform array is bound to its vectors alone: such bindings have a small limit.
                let size = match binding.kind {
                    BindingKind::Image(_) => return next_view.next().map(wgpu::BindingResource::TextureView),
                    BindingKind::Uniform => plan.bytes(*t).next_multiple_of(16),
                    BindingKind::Storage => place.bytes,
                };
                let buffer = &arena.buffers[place.buffer];
                let size = std::num::NonZeroU64::new(size);
                Some(wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: place.offset, size }))
            };
            let resources = launch.tensors.iter().zip(&launch.shader.bindings).filter_map(resource).collect();
            let group = arena.gpu.bind(&pipeline, &launch.shader, resources);
            compiled.push(Compiled {
                pipeline,
                group,
                immediates: entries.iter().flat_map(|e| e.immediates.iter().copied()).collect(),
                // Two entries lie in one row.
                grid: if let [entry] = entries { entry.grid } else { [entries.iter().map(|e| e.grid[0]).sum(), 1, 1] },
                seconds: least.seconds + LAUNCH,
                images: launch.images,
            });
        }
        let program = Program { plan, arena, places, launches: compiled, pace: Mutex::new(SLOWEST) };
        for (tensor, fill) in program.plan.constants() {
            let len = program.plan.len(*tensor);
            for first in (0..len).step_by(UPLOAD) {
                program.upload(*tensor, first, &fill.words(first..(first + UPLOAD).min(len)))?;
            }
        }
        Ok(program)
    }

    /// Buffers that the program runs on.
    pub fn arena(&self) -> &Arc<Arena> {
        &self.arena
    }

    /// Place of a tensor.
    pub fn place(&self, tensor: Tensor) -> Place {
        self.places[tensor.0 as usize]
    }

    /// Queues a host write of a tensor's first elements; it takes effect before the next submission.
    pub fn write<T: bytemuck::Pod>(&self, tensor: Tensor, values: &[T]) {
        let place = self.place(tensor);
        self.arena.gpu.write(&self.arena.buffers[place.buffer], place.offset, bytemuck::cast_slice(values));
    }

    /// Queues a host write from element `first` on.
    pub fn write_at<T: bytemuck::Pod>(&self, tensor: Tensor, first: usize, values: &[T]) {
        let place = self.place(tensor);
        let offset = place.offset + first as u64 * 4;
        self.arena.gpu.write(&self.arena.buffers[place.buffer], offset, bytemuck::cast_slice(values));
    }

    /// Writes from element `first` on, and waits for it, so that a large upload in pieces needs memory for one.
    ///
    /// # Errors
    /// `Lost` on device loss.
    pub fn upload<T: bytemuck::Pod>(&self, tensor: Tensor, first: usize, values: &[T]) -> Result<()> {
        self.write_at(tensor, first, values);
        let index = self.arena.gpu.submit(self.arena.gpu.encoder())?;
        self.arena.gpu.wait(index)
    }

    /// Reads a tensor.
    ///
    /// # Errors
    /// `Lost` on device loss.
    pub fn read<T: bytemuck::Pod>(&self, tensor: Tensor) -> Result<Vec<T>> {
        let place = self.place(tensor);
        let bytes = self.plan.bytes(tensor);
        let buffer = &self.arena.buffers[place.buffer];
        Ok(bytemuck::pod_collect_to_vec(&self.arena.gpu.read(self.arena.staging(), buffer, place.offset, bytes)?))
    }

    /// Encodes a range in one pass, interrupted only where a tensor has to be copied to an image first.
    fn encode(&self, encoder: &mut wgpu::CommandEncoder, range: Range<usize>, end: Option<wgpu::ComputePassTimestampWrites<'_>>) {
        let missing = |read: &ImageRead| read.previous.is_none_or(|reader| reader < range.start);
        let mut start = range.start;
        while start < range.end {
            for read in self.launches[start].images.iter().filter(|read| missing(read)) {
                self.copy_to_image(encoder, read.tensor, read.image);
            }
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes: end.clone() });
            loop {
                let launch = &self.launches[start];
                pass.set_pipeline(&launch.pipeline.pipeline);
                pass.set_bind_group(0, &launch.group, &[]);
                if !launch.immediates.is_empty() {
                    pass.set_immediates(0, &launch.immediates);
                }
                pass.dispatch_workgroups(launch.grid[0], launch.grid[1], launch.grid[2]);
                start += 1;
                if start == range.end || self.launches[start].images.iter().any(missing) {
                    break;
                }
            }
        }
    }

    fn copy_to_image(&self, encoder: &mut wgpu::CommandEncoder, tensor: Tensor, image: usize) {
        let (spec, texture) = &self.arena.images[image];
        let place = self.place(tensor);
        let row = spec.texel.row();
        let texels = self.plan.len(tensor) as u32 / spec.texel.components;
        // Whole rows, then what is left of the last.
        for (y, width, height) in [(0, row, texels / row), (texels / row, texels % row, 1)] {
            if width == 0 || height == 0 {
                continue;
            }
            let bytes_per_row = spec.texel.row_bytes();
            let offset = place.offset + u64::from(y) * u64::from(bytes_per_row);
            let layout = wgpu::TexelCopyBufferLayout { offset, bytes_per_row: Some(bytes_per_row), rows_per_image: None };
            let buffer = &self.arena.buffers[place.buffer];
            let mut to = texture.as_image_copy();
            to.origin.y = y;
            let size = wgpu::Extent3d { width, height, depth_or_array_layers: 1 };
            encoder.copy_buffer_to_texture(wgpu::TexelCopyBufferInfo { buffer, layout }, to, size);
        }
    }

    /// Submits a range of dispatches: one command buffer with one pass, split where it would run long by what its launches cost and by
    /// the pace that the device has shown.
    ///
    /// # Errors
    /// `Lost` on device loss.
    pub fn submit(&self, range: Range<usize>) -> Result<wgpu::SubmissionIndex> {
        let gpu = &self.arena.gpu;
        let pace = *self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut under_way, mut slowest, mut idle) = (VecDeque::new(), 0.0f64, Instant::now());
        let mut start = range.start;
        loop {
            let (end, seconds) = part(&self.launches[start..range.end], pace);
            let end = start + end;
            let mut encoder = gpu.encoder();
            self.encode(&mut encoder, start..end, None);
            launched(end - start);
            let index = gpu.submit(encoder)?;
            if end == range.end {
                if slowest > 0.0 {
                    *self.pace.lock().unwrap_or_else(PoisonError::into_inner) = slowest;
                }
                return Ok(index);
            }
            under_way.push_back((index, seconds, Instant::now()));
            if under_way.len() == UNDER_WAY
                && let Some((index, seconds, submitted)) = under_way.pop_front()
            {
                gpu.wait(index)?;
                let now = Instant::now();
                slowest = slowest.max((now - idle.max(submitted)).as_secs_f64() / seconds);
                idle = now;
            }
            start = end;
        }
    }

    /// All dispatches.
    pub fn all(&self) -> Range<usize> {
        0..self.launches.len()
    }

    /// Dispatches of forward and backward.
    pub fn gradients(&self) -> Range<usize> {
        0..self.launches.len() - self.plan.range(Section::Update).len()
    }

    /// Submits a range and waits for it.
    ///
    /// # Errors
    /// `Lost` on device loss.
    pub fn run(&self, range: Range<usize>) -> Result<()> {
        let index = self.submit(range)?;
        self.arena.gpu.wait(index)
    }

    /// Times every launch alone, `rounds` times over the whole plan, and gives medians.
    ///
    /// # Errors
    /// `NoGpu` when the device has no timestamps, `Lost` on device loss.
    pub fn profile(&self, rounds: usize) -> Result<Vec<Timing>> {
        const CHUNK: usize = 1024;
        let gpu = &self.arena.gpu;
        if !gpu.has_timestamps() {
            return Err(Error::NoGpu(format!("{} writes no timestamps, so it cannot be profiled", gpu.describe())));
        }
        let mut samples = vec![Vec::with_capacity(rounds); self.launches.len()];
        let count = self.launches.len().min(CHUNK) as u32 * 2;
        let (queries, buffer) = (gpu.timestamps(count), gpu.timestamp_buffer(count));
        for _ in 0..rounds {
            for start in (0..self.launches.len()).step_by(CHUNK) {
                let end = (start + CHUNK).min(self.launches.len());
                let mut encoder = gpu.encoder();
                for entry in start..end {
                    let at = (entry - start) as u32 * 2;
                    let stamp = |first, last| wgpu::ComputePassTimestampWrites {
                        query_set: &queries,
                        beginning_of_pass_write_index: first,
                        end_of_pass_write_index: last,
                    };
                    // An empty pass takes the first time, so that copies to images count.
                    let timestamp_writes = Some(stamp(Some(at), None));
                    drop(encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes }));
                    self.encode(&mut encoder, entry..entry + 1, Some(stamp(None, Some(at + 1))));
                }
                encoder.resolve_query_set(&queries, 0..(end - start) as u32 * 2, &buffer, 0);
                gpu.submit(encoder)?;
                let bytes = gpu.read(self.arena.staging(), &buffer, 0, (end - start) as u64 * 16)?;
                let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&bytes);
                for (entry, pair) in ticks.chunks_exact(2).enumerate() {
                    samples[start + entry].push(pair[1].saturating_sub(pair[0]));
                }
            }
        }
        let period = gpu.timestamp_period() * 1e-9;
        Ok(samples
            .into_iter()
            .zip(self.plan.launches())
            .map(|(mut ticks, entries)| {
                ticks.sort_unstable();
                Timing { entries, seconds: ticks[ticks.len() / 2] as f64 * period }
            })
            .collect())
    }
}
