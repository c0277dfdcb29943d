//! What a step costs on a card at least: its operations, and the bytes that pass each level of the card's memory.
//!
//! The caches are played through, launch by launch, on the buffers in which the tensors of a plan lie:
//! - The L2 cache holds the blocks that were touched last. What it drops goes to the Infinity Cache if it was written, and what that drops
//!   goes to GDDR6. Reads and writes both fill them, and a block that is only written is not fetched before.
//! - A launch walks through all that it touches at the same pace, from the first element to the last. What several workgroups read
//!   (`Dispatch::shared`) is walked through part by part, and each part again for each round of workgroups that the card holds at once.
//! - A step is preceded by the same step.
//!
//! Associativity, prefetching and what other programs do are left out, so that the bytes are a lower bound.

use std::collections::HashMap;
use std::ops::Range;

use serde::Serialize;

use super::dispatch::{Entry, Extent};
use super::lowering::{Lowered, Place};
use super::tensor::{Section, Tensor};
use crate::gpu::{Access, Binding, CardModel, LAUNCH};

/// Bytes that are held or dropped together: few enough that small tensors share little, and enough of them for a step of gigabytes.
const BLOCK: u64 = 16 << 10;

/// Waves of 64 lanes that a SIMD holds at once.
const WAVES: f64 = 8.0;

/// Bytes that a launch moves through the levels of a card's memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Bytes that it reads and writes, each once.
    pub touched: u64,
    /// Bytes between the L2 cache and the Infinity Cache.
    pub cache: u64,
    /// Bytes between the Infinity Cache and GDDR6.
    pub memory: u64,
}

impl std::ops::AddAssign for Traffic {
    fn add_assign(&mut self, more: Traffic) {
        self.touched += more.touched;
        self.cache += more.cache;
        self.memory += more.memory;
    }
}

/// Cost of one launch at least.
#[derive(Debug, Clone, Copy)]
pub struct LaunchCost {
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes that it moves.
    pub traffic: Traffic,
    /// Number of times in a step: once in each micro-step, or once.
    pub times: usize,
    /// Seconds without the cost of a launch: at the peak of the arithmetic, of GDDR6 or of the Infinity Cache, whichever takes longest.
    pub seconds: f64,
}

/// Cost of a step at least.
#[derive(Debug, Clone)]
pub struct Cost {
    /// Launches in the order of the plan.
    pub launches: Vec<LaunchCost>,
    /// Bytes that a step moves.
    pub traffic: Traffic,
    /// Bytes from and to GDDR6 by tensor, the most first.
    pub memory_of: Vec<(Tensor, u64)>,
    /// Seconds of a step, with the cost of its launches.
    pub seconds: f64,
}

impl Lowered {
    /// Cost of a step of `micro_steps` micro-steps on a card.
    pub fn cost(&self, card: &CardModel, micro_steps: usize) -> Cost {
        let times = |launch: &Range<usize>| self.plan.entries()[launch.start].section.times(micro_steps);
        let walks: Vec<(Vec<Walk>, usize)> =
            self.plan.launches().map(|launch| (self.walks(launch.clone(), card), times(&launch))).collect();
        let update = self.plan.launches().take_while(|launch| self.plan.entries()[launch.start].section < Section::Update).count();
        let mut hierarchy = Hierarchy::new(self, card);
        // A step to fill the caches. Of several micro-steps the last stands for all, as the first alone follows an update.
        let mut play = |part: &[(Vec<Walk>, usize)]| part.iter().for_each(|(walks, _)| _ = hierarchy.launch(walks, 0));
        if micro_steps > 1 {
            play(&walks[..update]);
        }
        play(&walks);
        if micro_steps > 1 {
            play(&walks[..update]);
        }
        let traffic: Vec<(Traffic, usize)> = walks.iter().map(|(walks, times)| (hierarchy.launch(walks, *times), *times)).collect();
        let cost = |(launch, (traffic, times)): (Range<usize>, (Traffic, usize))| {
            let flops = self.plan.entries()[launch].iter().map(|e| e.flops).sum();
            let bounds = [flops as f64 / card.peak(), traffic.memory as f64 / card.memory, traffic.cache as f64 / card.infinity.0];
            LaunchCost { flops, traffic, times, seconds: bounds.into_iter().fold(0.0, f64::max) }
        };
        let launches: Vec<LaunchCost> = self.plan.launches().zip(traffic).map(cost).collect();
        let mut traffic = Traffic::default();
        launches.iter().for_each(|launch| (0..launch.times).for_each(|_| traffic += launch.traffic));
        let seconds = launches.iter().map(|launch| launch.times as f64 * (launch.seconds + LAUNCH)).sum();
        let mut memory_of: Vec<(Tensor, u64)> = hierarchy.memory_of.into_iter().filter(|(_, bytes)| *bytes > 0).collect();
        memory_of.sort_by_key(|(tensor, bytes)| (std::cmp::Reverse(*bytes), *tensor));
        Cost { launches, traffic, memory_of, seconds }
    }

    /// What a launch walks through.
    fn walks(&self, launch: Range<usize>, card: &CardModel) -> Vec<Walk> {
        let mut walks: Vec<Walk> = Vec::new();
        for entry in &self.plan.entries()[launch] {
            for ((binding, tensor), extent) in entry.shader.bindings.iter().zip(&entry.tensors).zip(&entry.extents) {
                let walk = self.walk(entry, (binding, *tensor, extent), card);
                // What both entries of a launch touch, they touch together.
                match walks.iter_mut().find(|other| (other.tensor, other.first, other.bytes) == (walk.tensor, walk.first, walk.bytes)) {
                    Some(other) => {
                        (other.reads, other.writes) = (other.reads || walk.reads, other.writes || walk.writes);
                        (other.parts, other.rounds) = (other.parts.min(walk.parts), other.rounds.max(walk.rounds));
                    }
                    None => walks.push(walk),
                }
            }
        }
        walks
    }

    fn walk(&self, entry: &Entry, (binding, tensor, extent): (&Binding, Tensor, &Extent), card: &CardModel) -> Walk {
        let info = self.plan.info(tensor);
        let Place { buffer, offset, .. } = self.places[tensor.0 as usize];
        let held = card.simds * WAVES / f64::from(entry.shader.workgroup).div_euclid(64.0).max(1.0);
        Walk {
            tensor,
            buffer,
            first: offset + info.bytes_of(extent.elements.start),
            bytes: info.bytes_of(extent.elements.len()),
            parts: extent.shared.parts.max(1) as u64,
            rounds: ((extent.shared.groups as f64 / held).ceil() as u64).clamp(1, extent.shared.most.max(1) as u64),
            reads: binding.read,
            writes: binding.access == Access::Write,
        }
    }
}

/// A part of a buffer that a launch walks through.
#[derive(Debug)]
struct Walk {
    tensor: Tensor,
    buffer: usize,
    first: u64,
    bytes: u64,
    parts: u64,
    /// Times that it walks through each part.
    rounds: u64,
    reads: bool,
    writes: bool,
}

impl Walk {
    /// Blocks that it touches.
    fn blocks(&self) -> u64 {
        ((self.first + self.bytes).div_ceil(BLOCK) - self.first / BLOCK).max(1)
    }

    /// Block that it touches after so many others.
    fn block(&self, at: u64) -> u64 {
        let part = self.blocks().div_ceil(self.parts);
        let first = at / (part * self.rounds) * part;
        self.first / BLOCK + first + at % (part * self.rounds) % part.min(self.blocks() - first)
    }
}

/// The caches with what they hold.
struct Hierarchy {
    /// Number of the first block of each buffer.
    starts: Vec<usize>,
    l2: Level,
    infinity: Level,
    /// Bytes from and to GDDR6 by tensor, of the launches that count.
    memory_of: HashMap<Tensor, u64>,
}

impl Hierarchy {
    fn new(lowered: &Lowered, card: &CardModel) -> Self {
        let mut ends: Vec<u64> = Vec::new();
        for (tensor, _) in lowered.plan.tensors() {
            let place = lowered.places[tensor.0 as usize];
            ends.resize(ends.len().max(place.buffer + 1), 0);
            ends[place.buffer] = ends[place.buffer].max(place.offset + place.bytes);
        }
        let mut blocks = 0;
        let mut starts = Vec::new();
        for bytes in ends {
            starts.push(blocks);
            blocks += bytes.div_ceil(BLOCK) as usize + 1;
        }
        let [l2, infinity] = [card.l2.1, card.infinity.1].map(|bytes| Level::new((bytes / BLOCK) as usize, blocks));
        Hierarchy { starts, l2, infinity, memory_of: HashMap::new() }
    }

    /// Plays a launch; its bytes by tensor count `times` times.
    fn launch(&mut self, walks: &[Walk], times: usize) -> Traffic {
        let mut traffic = Traffic::default();
        let paces: Vec<u64> = walks.iter().map(|walk| walk.blocks() * walk.rounds).collect();
        let steps = paces.iter().copied().max().unwrap_or(0);
        for walk in walks {
            traffic.touched += walk.bytes * (u64::from(walk.reads) + u64::from(walk.writes));
        }
        for step in 0..steps {
            for (walk, pace) in walks.iter().zip(&paces) {
                for at in step * pace / steps..(step + 1) * pace / steps {
                    let block = walk.block(at);
                    let (from, to) = (walk.first.max(block * BLOCK), (walk.first + walk.bytes).min((block + 1) * BLOCK));
                    self.touch(self.starts[walk.buffer] + block as usize, (to - from.min(to)) as u32, walk, (&mut traffic, times));
                }
            }
        }
        traffic
    }

    fn touch(&mut self, block: usize, bytes: u32, walk: &Walk, (traffic, times): (&mut Traffic, usize)) {
        let mut memory = |tensor: Tensor, bytes: u32, traffic: &mut Traffic| {
            traffic.memory += u64::from(bytes);
            *self.memory_of.entry(tensor).or_default() += u64::from(bytes) * times as u64;
        };
        let written = if walk.writes { bytes } else { 0 };
        let (hit, dropped) = self.l2.touch(block, written, walk.tensor);
        // What is dropped is written before what takes its place is read.
        let write = dropped.map(|Dropped { block, written, by }| (block, written, by));
        let read = (!hit && walk.reads).then_some((block, 0, walk.tensor));
        for (block, written, by) in write.into_iter().chain(read) {
            traffic.cache += u64::from(if written > 0 { written } else { bytes });
            let (hit, dropped) = self.infinity.touch(block, written, by);
            if !hit && written == 0 {
                memory(by, bytes, traffic);
            }
            if let Some(Dropped { written, by, .. }) = dropped {
                memory(by, written, traffic);
            }
        }
    }
}

/// A block that was written and is held no longer.
struct Dropped {
    block: usize,
    written: u32,
    by: Tensor,
}

/// A cache that drops the block that was not touched for longest.
struct Level {
    capacity: usize,
    held: usize,
    /// By block; the last of them stands for both ends of the list.
    blocks: Vec<Held>,
}

#[derive(Clone, Copy)]
struct Held {
    newer: u32,
    older: u32,
    held: bool,
    /// Bytes that were written since it is held, and the tensor that they belong to.
    written: u32,
    by: Tensor,
}

impl Level {
    fn new(capacity: usize, blocks: usize) -> Self {
        let end = blocks as u32;
        Level { capacity, held: 0, blocks: vec![Held { newer: end, older: end, held: false, written: 0, by: Tensor(0) }; blocks + 1] }
    }

    fn unlink(&mut self, block: usize) {
        let Held { newer, older, .. } = self.blocks[block];
        self.blocks[newer as usize].older = older;
        self.blocks[older as usize].newer = newer;
    }

    /// Makes a block the newest, with so many bytes written. True if it was held already; and what was dropped for it, if that was written.
    fn touch(&mut self, block: usize, written: u32, by: Tensor) -> (bool, Option<Dropped>) {
        let end = self.blocks.len() - 1;
        let hit = self.blocks[block].held;
        let mut dropped = None;
        if hit {
            self.unlink(block);
        } else if self.held == self.capacity {
            let oldest = self.blocks[end].newer as usize;
            self.unlink(oldest);
            let Held { written, by, .. } = self.blocks[oldest];
            dropped = (written > 0).then_some(Dropped { block: oldest, written, by });
            self.blocks[oldest] = Held { held: false, written: 0, ..self.blocks[oldest] };
        } else {
            self.held += 1;
        }
        let newest = self.blocks[end].older;
        let before = self.blocks[block];
        self.blocks[block] = Held {
            newer: end as u32,
            older: newest,
            held: true,
            written: (before.written + written).min(BLOCK as u32),
            by: if written > 0 { by } else { before.by },
        };
        self.blocks[newest as usize].newer = block as u32;
        self.blocks[end].older = block as u32;
        (hit, dropped)
    }
}
