//! Two entries in one launch. Nothing in the backward pass waits for the gradient of a weight, so it is computed beside something that does
//! not wait for it either: mostly the gradient of the same layer's input. A step has fewer launches then, and its small products fill the
//! card together.

use super::dispatch::{Entry, Variant};
use super::lowering::shared;
use super::recording::Plan;
use super::tensor::{Section, Storage, Tensor};
use crate::error::Result;
use crate::gpu::{CARD, LAUNCH, Shader};

/// Entries that a gradient may be put off by, in wait of one that it fits; what it reads stays alive as long.
const PUT_OFF: usize = 2;

impl Plan {
    /// Pairs the entries of the backward pass that compute gradients of weights with others, where the target gains from it. Every entry
    /// computes what it did, on the same numbers.
    pub(super) fn pair(&mut self) {
        let backward = self.range(Section::Backward);
        // Gradients among the forward pass are the first.
        let first = self.entries().iter().position(|entry| entry.section == Section::Backward).unwrap_or(backward.start);
        let mut entries = self.entries()[..first].to_vec();
        // Gradients of weights that nobody waits for, and how many entries they were put off by.
        let mut waiting: Vec<(Entry, usize)> = Vec::new();
        for (at, entry) in self.entries().iter().enumerate().take(backward.end).skip(first) {
            // What runs among the forward pass stays there.
            while at == backward.start && !waiting.is_empty() {
                self.release(&mut waiting, 0, &mut entries);
            }
            let late = |(other, age): &(Entry, usize)| *age == PUT_OFF || self.depend(other, entry);
            while let Some(at) = waiting.iter().position(late) {
                self.release(&mut waiting, at, &mut entries);
            }
            if entry.section == Section::Backward && entry.writes().all(|t| !self.info(t).pooled()) {
                waiting.push((entry.clone(), 0));
                continue;
            }
            waiting.iter_mut().for_each(|(_, age)| *age += 1);
            self.beside(entry.clone(), &mut waiting, &mut entries);
        }
        while !waiting.is_empty() {
            self.release(&mut waiting, 0, &mut entries);
        }
        entries.extend_from_slice(&self.entries()[backward.end..]);
        self.replace(entries);
    }

    /// Records one of those that wait, beside another of them if one fits. They do not depend on each other, or the second would have
    /// released the first.
    fn release(&self, waiting: &mut Vec<(Entry, usize)>, at: usize, entries: &mut Vec<Entry>) {
        let entry = waiting.remove(at).0;
        self.beside(entry, waiting, entries);
    }

    /// Records an entry, and beside it the first of those that wait that fits.
    fn beside(&self, entry: Entry, waiting: &mut Vec<(Entry, usize)>, entries: &mut Vec<Entry>) {
        let found = waiting.iter().enumerate().find_map(|(at, (other, _))| Some((at, self.fit(&entry, other)?)));
        match found {
            Some((at, pair)) => {
                waiting.remove(at);
                entries.extend(pair);
            }
            None => entries.push(entry),
        }
    }

    /// True if one of two entries writes what the other uses.
    pub(super) fn depend(&self, a: &Entry, b: &Entry) -> bool {
        let uses = |entry: &Entry, written: Tensor| entry.tensors.iter().any(|t| self.overlap(*t, written));
        a.writes().any(|t| uses(b, t)) || b.writes().any(|t| uses(a, t))
    }

    fn overlap(&self, a: Tensor, b: Tensor) -> bool {
        let numbers = |t: Tensor| match self.info(t).storage {
            Storage::Gradient { offset } => Some(offset..offset + self.len(t)),
            _ => None,
        };
        a == b || numbers(a).zip(numbers(b)).is_some_and(|(a, b)| a.start < b.end && b.start < a.end)
    }

    /// Two entries with workgroups of one size, if they fit into one launch on the target: in the variants of their kernels that take least
    /// longer, which may be as much as the launch that is saved.
    fn fit(&self, a: &Entry, b: &Entry) -> Option<[Entry; 2]> {
        // As they are, or in other ways.
        let ways_of_b = || std::iter::once(None).chain(b.variants.iter().map(Some));
        let both = std::iter::once(None).chain(a.variants.iter().map(Some)).flat_map(|x| ways_of_b().map(move |y| (x, y)));
        let size = |e: &Entry, variant: Option<&Variant>| {
            let consts = variant.into_iter().flat_map(|variant| &variant.consts);
            consts.into_iter().find(|(name, _)| *name == "WG").map_or(e.shader.workgroup, |(_, size)| *size)
        };
        let cycles = |variant: Option<&Variant>| variant.map_or(0, |variant| variant.cycles);
        let alike = both.filter(|(x, y)| size(a, *x) == size(b, *y)).map(|(x, y)| (cycles(x) + cycles(y), x, y));
        let (longer, of_a, of_b) = alike.min_by_key(|(longer, ..)| *longer)?;
        if longer as f64 > LAUNCH * CARD.clock || a.flops + b.flops > self.target.pair_flops {
            return None;
        }
        let (a, b) = (self.varied(a, of_a).ok()?, Entry { paired: true, ..self.varied(b, of_b).ok()? });
        if a.grid[1] > 1 || b.grid[1] > 1 || a.grid[0] + b.grid[0] > self.target.max_groups {
            return None;
        }
        let same = shared((&a.shader, &a.tensors), (&b.shader, &b.tensors)).collect();
        let joined = a.shader.beside(&b.shader, a.grid[0], same).ok()?;
        self.has_room(&joined, &a.label).is_ok().then_some([a, b])
    }

    /// An entry as it is, or with another variant of its kernel.
    fn varied(&self, entry: &Entry, variant: Option<&Variant>) -> Result<Entry> {
        let Some(variant) = variant else { return Ok(entry.clone()) };
        let shader = Shader::load(&entry.shader.name, &variant.over(&entry.shader.consts))?;
        self.within_limits(&shader, &entry.label, &entry.immediates)?;
        let grid = self.workgroups(variant.grid, &shader)?;
        Ok(Entry { shader, grid, ..entry.clone() })
    }
}
