//! The parts of a gradient that leave the device together, by the launches that make them.

use std::ops::Range;

use super::dispatch::Entry;
use super::fixed::FixedPlan;
use super::tensor::{Section, Storage};

/// Slices of a gradient at most, and elements below which a slice is not worth a submission of its own.
const SLICES: usize = 8;
const LEAST: usize = 1 << 18;

/// Parts of buffers that leave the device together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slice {
    /// Launches that make it, after those of the slice before.
    pub(super) launches: Range<usize>,
    /// Elements of the flat gradient, in order.
    pub(super) parts: Vec<Range<usize>>,
}

impl Slice {
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(Range::len).sum()
    }
}

/// A gradient by the launches after which its parts are whole.
pub(super) fn slices(plan: &FixedPlan) -> Vec<Slice> {
    let launches = plan.launches().take_while(|entries| plan.entries()[entries.start].section != Section::Update).count();
    let mut made: Vec<(usize, Range<usize>)> = Vec::new();
    for (number, entries) in plan.launches().enumerate().take(launches) {
        for tensor in plan.entries()[entries].iter().flat_map(Entry::writes) {
            let info = plan.info(tensor);
            if let Storage::Gradient { offset } = info.storage {
                let part = offset..offset + info.len();
                // What several launches add to is whole after the last.
                made.retain(|(_, other)| *other != part);
                made.push((number, part));
            }
        }
    }
    made.sort_by_key(|(number, part)| (*number, part.start));
    let total: usize = made.iter().map(|(_, part)| part.len()).sum();
    let least = total.div_ceil(SLICES).max(LEAST);
    let mut slices: Vec<Slice> = Vec::new();
    let mut open = Slice { launches: 0..0, parts: vec![] };
    let mut made = made.into_iter().peekable();
    while let Some((number, part)) = made.next() {
        open.parts.push(part);
        let launch_ends = made.peek().is_none_or(|(next, _)| *next > number);
        if launch_ends && open.len() >= least && made.peek().is_some() {
            open.launches.end = number + 1;
            let next = Slice { launches: number + 1..number + 1, parts: vec![] };
            slices.push(std::mem::replace(&mut open, next));
        }
    }
    open.launches.end = launches;
    slices.push(open);
    for slice in &mut slices {
        slice.parts.sort_by_key(|part| part.start);
        slice.parts = slice.parts.drain(..).fold(vec![], |mut parts: Vec<Range<usize>>, part| {
            match parts.last_mut() {
                Some(last) if last.end == part.start => last.end = part.end,
                _ => parts.push(part),
            }
            parts
        });
    }
    slices
}

/// Bytes of the staging buffer of each slice; the record of the step goes with the last.
pub(super) fn staged(plan: &FixedPlan) -> Vec<u64> {
    let mut bytes: Vec<u64> = slices(plan).iter().map(|slice| slice.len() as u64 * 4).collect();
    let record = plan.find("records").map_or(0, |records| plan.shape(records)[1]);
    bytes.iter_mut().last().into_iter().for_each(|last| *last += record as u64 * 4);
    bytes
}
