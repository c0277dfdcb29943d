//! The sum of the gradients of several processes. A gradient leaves the device in slices, each as soon as the backward pass has made it:
//! while one slice is copied to the host, added to those of the other ranks and sent back, the device goes on with the next.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::program::Program;
use super::slices::{Slice, slices};
use super::tensor::{Flat, Tensor};
use crate::error::{Error, Result};
use crate::fault;
use crate::ranks::{Ranks, Sums};

/// Words of a record that the update of each rank writes. The ranks add up the others: the number that means are taken over and the sums of
/// the columns.
const OWN: Range<usize> = 1..3;

/// Word of a record that is the same on every rank with a micro-batch, and that the others need: the scale of the loss. Rank 0 always has
/// one.
const SCALE: usize = 3;

/// Time that the host spent on a slice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Until the device had made it and it was in the memory of the host.
    pub ready: Duration,
    /// In the sum among the ranks, in which they also wait for one another.
    pub summed: Duration,
    /// Until its sum was on the way back to the device.
    pub returned: Duration,
}

/// A slice of the gradient on its way.
#[derive(Debug)]
pub struct Part {
    slice: Slice,
    staging: wgpu::Buffer,
    /// Time that it took, over all steps since the exchange was made or `forget` was called.
    pub spent: Spent,
}

impl Part {
    /// Launches of the step after which it leaves the device.
    pub fn after(&self) -> usize {
        self.slice.launches.end
    }

    /// Bytes that leave the device.
    pub fn bytes(&self) -> u64 {
        self.staging.size()
    }
}

/// State of the exchange of a run's gradients.
#[derive(Debug)]
pub struct Exchange {
    /// The processes.
    pub ranks: Ranks,
    records: Tensor,
    /// Words of a record.
    record: usize,
    /// In the order in which they leave.
    pub parts: Vec<Part>,
    words: Vec<f32>,
    sums: Sums,
}

impl Exchange {
    /// For a training step whose records are rows of a tensor, in buffers that were laid out for it.
    ///
    /// # Errors
    /// `Internal` where they were not.
    pub fn new(program: &Program, records: Tensor, ranks: Ranks) -> Result<Exchange> {
        let record = program.plan.shape(records)[1];
        let part = |(slice, staging)| Part { slice, staging, spent: Spent::default() };
        let parts: Vec<Part> = slices(&program.plan).into_iter().zip(program.arena().slices()).map(part).collect();
        if parts.last().is_none_or(|part| part.after() != program.gradients().end) {
            return Err(Error::Internal("a gradient to be exchanged without its staging buffers".into()));
        }
        Ok(Exchange { ranks, records, record, parts, words: Vec::new(), sums: Sums::default() })
    }

    /// Time of all slices.
    pub fn spent(&self) -> Spent {
        self.parts.iter().fold(Spent::default(), |sum, Part { spent, .. }| Spent {
            ready: sum.ready + spent.ready,
            summed: sum.summed + spent.summed,
            returned: sum.returned + spent.returned,
        })
    }

    /// Begins to measure anew.
    pub fn forget(&mut self) {
        self.parts.iter_mut().for_each(|part| part.spent = Spent::default());
    }

    /// Which launches and elements make its slices: the same on all ranks, or they would add up different things.
    pub fn layout(&self) -> String {
        format!("{:?}", self.parts.iter().map(|part| &part.slice).collect::<Vec<_>>())
    }

    /// Runs forward and backward of a micro-step that is this rank's last of the step, or nothing where it has none; adds up the gradients
    /// and the record
    /// `slot` of the first `of` ranks; and queues what is left of the step.
    ///
    /// # Errors
    /// `TryAgain` on device loss.
    pub fn step(&mut self, program: &Program, slot: usize, takes_part: bool, of: usize) -> Result<wgpu::SubmissionIndex> {
        let arena = program.arena();
        let gpu = &arena.gpu;
        let gradients = arena.flat(Flat::Gradients)?;
        let place = program.place(self.records);
        let (records, record) = (arena.buffer(place.buffer), self.record);
        let record_at = place.offset + (slot * record) as u64 * 4;
        let mut submitted = Vec::with_capacity(self.parts.len());
        if takes_part {
            for (number, Part { slice, staging, .. }) in self.parts.iter().enumerate() {
                program.submit(slice.launches.clone())?;
                let mut encoder = gpu.encoder();
                let mut at = 0;
                for part in &slice.parts {
                    let bytes = part.len() as u64 * 4;
                    encoder.copy_buffer_to_buffer(gradients, part.start as u64 * 4, staging, at, bytes);
                    at += bytes;
                }
                if number + 1 == self.parts.len() {
                    encoder.copy_buffer_to_buffer(records, record_at, staging, at, record as u64 * 4);
                }
                submitted.push(gpu.submit(encoder)?);
            }
        }
        let last = self.parts.len() - 1;
        for (number, Part { slice, staging, spent }) in self.parts.iter_mut().enumerate() {
            let start = Instant::now();
            let elements = slice.len();
            self.words.clear();
            match submitted.get(number) {
                Some(index) => gpu.read_staged(staging, staging.size(), index.clone(), |bytes| {
                    self.words.extend(bytes.chunks_exact(4).map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])));
                })?,
                None => self.words.resize(staging.size() as usize / 4, 0.0),
            }
            if number == last && !self.ranks.leads() {
                self.words[elements + SCALE] = 0.0;
            }
            if fault::fails("nan") {
                self.words[0] = f32::NAN;
            }
            let read = Instant::now();
            self.ranks.sum(&mut self.words, of, &mut self.sums);
            let summed = Instant::now();
            if fault::fails("flip") {
                self.words[0] = f32::from_bits(self.words[0].to_bits() ^ 1 << 22);
            }
            let words: &[u8] = bytemuck::cast_slice(&self.words);
            let mut at = 0;
            for part in &slice.parts {
                gpu.write(gradients, part.start as u64 * 4, &words[at..at + part.len() * 4]);
                at += part.len() * 4;
            }
            if number == last {
                let word = |range: Range<usize>| &words[(elements + range.start) * 4..(elements + range.end) * 4];
                for range in [0..OWN.start, OWN.end..record] {
                    gpu.write(records, record_at + range.start as u64 * 4, word(range));
                }
            }
            spent.ready += read - start;
            spent.summed += summed - read;
            spent.returned += summed.elapsed();
        }
        program.submit(program.gradients().end..program.all().end)
    }
}
