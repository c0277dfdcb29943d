//! The sum of the gradients of several processes. A gradient leaves the device in slices, each as soon as the backward pass has made it: while one slice is
//! copied to the host, added to those of the other ranks and sent back, the device goes on with the next.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::program::Program;
use super::slices::{Slice, slices};
use super::tensor::{Flat, Tensor};
use crate::error::{Error, Result};
use crate::fault;
use crate::ranks::{Ranks, Sums};

/// Words of a record that the ranks add up: the number that means are taken over and the sums of the columns. Between them lies what the update writes.
const OWN: Range<usize> = 1..4;

/// What the exchange of a run's gradients takes and keeps.
#[derive(Debug)]
pub struct Exchange {
    /// The processes.
    pub ranks: Ranks,
    records: Tensor,
    /// Words of a record.
    record: usize,
    slices: Vec<(Slice, wgpu::Buffer)>,
    words: Vec<f32>,
    sums: Sums,
    /// Time of the host from the backward pass to the update: for the device, for copies and for the sums.
    pub waited: Duration,
    /// Time of the sums among the ranks alone, in which they also wait for one another.
    pub summed: Duration,
}

impl Exchange {
    /// For a training step whose records are rows of a tensor, in buffers that were laid out for it.
    ///
    /// # Errors
    /// `Internal` where they were not.
    pub fn new(program: &Program, records: Tensor, ranks: Ranks) -> Result<Exchange> {
        let record = program.plan.shape(records)[1];
        let slices: Vec<_> = slices(&program.plan).into_iter().zip(program.arena().slices()).collect();
        if slices.last().is_none_or(|(slice, _)| slice.launches.end != program.gradients().end) {
            return Err(Error::Internal("a gradient to be exchanged without its staging buffers".into()));
        }
        let (words, sums) = (Vec::new(), Sums::default());
        Ok(Exchange { ranks, records, record, slices, words, sums, waited: Duration::ZERO, summed: Duration::ZERO })
    }

    /// Which launches and elements make its slices: the same on all ranks, or they would add up different things.
    pub fn layout(&self) -> String {
        format!("{:?}", self.slices.iter().map(|(slice, _)| slice).collect::<Vec<_>>())
    }

    /// Runs forward and backward of a micro-step that is this rank's last of the step, or nothing where it has none; adds up the gradients and the record
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
        let mut submitted = Vec::with_capacity(self.slices.len());
        if takes_part {
            for (number, (slice, staging)) in self.slices.iter().enumerate() {
                program.submit(slice.launches.clone())?;
                let mut encoder = gpu.encoder();
                let mut at = 0;
                for part in &slice.parts {
                    let bytes = part.len() as u64 * 4;
                    encoder.copy_buffer_to_buffer(gradients, part.start as u64 * 4, staging, at, bytes);
                    at += bytes;
                }
                if number + 1 == self.slices.len() {
                    encoder.copy_buffer_to_buffer(records, record_at, staging, at, record as u64 * 4);
                }
                submitted.push(gpu.submit(encoder)?);
            }
        }
        let last = self.slices.len() - 1;
        for (number, (slice, staging)) in self.slices.iter().enumerate() {
            let start = Instant::now();
            let elements = slice.len();
            self.words.clear();
            match submitted.get(number) {
                Some(index) => gpu.read_staged(staging, staging.size(), index.clone(), |bytes| {
                    self.words.extend(bytes.chunks_exact(4).map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])));
                })?,
                None => self.words.resize(staging.size() as usize / 4, 0.0),
            }
            if fault::fails("nan") {
                self.words[0] = f32::NAN;
            }
            let read = Instant::now();
            self.ranks.sum(&mut self.words, of, &mut self.sums);
            self.summed += read.elapsed();
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
            self.waited += start.elapsed();
        }
        program.submit(program.gradients().end..program.all().end)
    }
}
