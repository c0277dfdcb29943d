//! Recomputation: what the backward pass needs of the forward pass is made again there, instead of being kept from one to the other (Chen
//! et al. 2016, "Training deep nets with sublinear memory cost"). The same launches on the same numbers give the same bits; dropout draws
//! the same masks.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::dispatch::Entry;
use super::fixed::FixedPlan;
use super::recording::Plan;
use super::tensor::{Section, Tensor};
use crate::error::Result;

/// Extent to which a forward pass is computed twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recompute {
    /// Nothing: all that the backward pass needs is kept.
    #[default]
    None,
    /// Launches that take little arithmetic: normalisations, activations, dropout, short attention.
    Light,
    /// Everything between a few tensors that are kept, chosen where the forward pass is narrow.
    Full,
}

impl Recompute {
    /// All of them, by the time that they cost.
    pub const ALL: [Recompute; 3] = [Recompute::None, Recompute::Light, Recompute::Full];

    /// True if nothing is.
    pub fn is_none(&self) -> bool {
        *self == Recompute::None
    }
}

/// Floating-point operations for each byte that a launch touches, below which it costs little to make its results again.
const LIGHT: u64 = 8;

/// The forward pass as far as it can be made again.
struct Forward<'a> {
    plan: &'a FixedPlan,
    /// The launch that makes a tensor, where it may run a second time: it alone writes the tensor, and nothing that lasts.
    maker: HashMap<Tensor, usize>,
    /// Pooled tensors of the forward pass that the backward pass reads.
    saved: HashSet<Tensor>,
}

impl<'a> Forward<'a> {
    fn new(plan: &'a FixedPlan) -> Self {
        let (forward, backward) = (plan.range(Section::Forward), plan.range(Section::Backward));
        let pooled = |t: &Tensor| plan.info(*t).pooled() && !plan.read_back.contains(t);
        let mut writers: HashMap<Tensor, usize> = HashMap::new();
        plan.entries().iter().flat_map(Entry::writes).for_each(|t| *writers.entry(t).or_default() += 1);
        let mut maker = HashMap::new();
        for (index, entry) in plan.entries()[forward.clone()].iter().enumerate() {
            if entry.writes().all(|t| pooled(&t) && writers[&t] == 1) {
                maker.extend(entry.writes().map(|t| (t, index)));
            }
        }
        let written: HashSet<Tensor> = plan.entries()[forward].iter().flat_map(Entry::writes).collect();
        let saved = plan.entries()[backward].iter().flat_map(|e| e.tensors.iter().copied()).filter(|t| pooled(t) && written.contains(t));
        let saved = saved.collect();
        Forward { plan, maker, saved }
    }

    fn entries(&self) -> &'a [Entry] {
        &self.plan.entries()[self.plan.range(Section::Forward)]
    }

    fn bytes<'t>(&self, tensors: impl IntoIterator<Item = &'t Tensor>) -> u64 {
        tensors.into_iter().map(|t| self.plan.bytes(*t)).sum()
    }

    /// Tensors that cheap launches make from what is there in any case, or is smaller than they are.
    fn light(&self) -> HashSet<Tensor> {
        let (mut again, mut kept) = (HashSet::new(), self.saved.clone());
        for entry in self.entries() {
            let made: Vec<Tensor> = entry.writes().filter(|t| self.saved.contains(t)).collect();
            if made.is_empty()
                || entry.flops >= LIGHT * self.plan.moved(std::slice::from_ref(entry)).values().sum::<u64>()
                || !entry.writes().all(|t| self.maker.contains_key(&t))
            {
                continue;
            }
            let pooled = |t: &Tensor| self.plan.info(*t).pooled();
            let needed: HashSet<Tensor> = entry.reads().filter(|t| pooled(t) && !kept.contains(t) && !again.contains(t)).collect();
            if self.bytes(&needed) < self.bytes(&made) {
                kept.retain(|t| !made.contains(t));
                kept.extend(needed);
                again.extend(made);
            }
        }
        again
    }

    /// All tensors before the last cut but those that cross a cut.
    fn full(&self) -> HashSet<Tensor> {
        let entries = self.entries();
        // Tensors by the first place where they are and the last where they are needed.
        let mut spans: HashMap<Tensor, (usize, usize)> = HashMap::new();
        for (index, entry) in entries.iter().enumerate() {
            for tensor in &entry.tensors {
                spans.entry(*tensor).or_insert((index, index)).1 = index;
            }
        }
        spans.retain(|t, _| self.plan.info(*t).pooled());
        // Bytes that cross a cut before each launch, and bytes that are saved of the launches before it.
        let (mut crossing, mut saved) = (vec![0; entries.len() + 1], vec![0; entries.len() + 1]);
        for (tensor, (first, last)) in &spans {
            let bytes = self.plan.bytes(*tensor);
            crossing[first + 1..=*last].iter_mut().for_each(|c| *c += bytes);
            if self.saved.contains(tensor) {
                saved[first + 1..].iter_mut().for_each(|s| *s += bytes);
            }
        }
        let cuts = cuts(&crossing, &saved);
        let Some(end) = cuts.last().copied() else { return HashSet::new() };
        let crosses = |(first, last): &(usize, usize)| cuts.iter().any(|c| (first + 1..=*last).contains(c));
        spans.iter().filter(|(t, span)| span.0 < end && !crosses(span) && self.maker.contains_key(t)).map(|(t, _)| *t).collect()
    }
}

/// Cuts of a row of launches, so that what crosses the cuts and what is saved of the largest piece between two of them is least together:
/// for each size that a piece may have, the cheapest cuts by dynamic programming.
fn cuts(crossing: &[u64], saved: &[u64]) -> Vec<usize> {
    let end = crossing.len() - 1;
    let total = saved[end];
    let mut best = (total, vec![]);
    for most in (1..=32).map(|share| total * share / 32) {
        // Cheapest way to have a cut before each launch, and the cut before that one.
        let mut cost: Vec<Option<(u64, usize)>> = vec![None; end + 1];
        cost[0] = Some((0, 0));
        for at in 1..=end {
            let own = if at == end { 0 } else { crossing[at] };
            let ways = (0..at).filter(|from| saved[at] - saved[*from] <= most);
            cost[at] = ways.filter_map(|from| Some((cost[from]?.0 + own, from))).min();
        }
        let Some((cut, _)) = cost[end] else { continue };
        if cut + most < best.0 {
            let mut path = vec![];
            let mut at = end;
            while let Some((_, from)) = cost[at].filter(|_| at > 0) {
                path.push(from);
                at = from;
            }
            path.retain(|cut| *cut > 0);
            path.reverse();
            best = (cut + most, path);
        }
    }
    best.1
}

impl Plan {
    /// Makes results of the forward pass again where the backward pass first needs them, instead of keeping them.
    ///
    /// # Errors
    /// `Internal` when a name is taken.
    pub(super) fn recompute(&mut self, what: Recompute) -> Result<()> {
        if what.is_none() {
            return Ok(());
        }
        let forward = Forward::new(self);
        let again = if what == Recompute::Light { forward.light() } else { forward.full() };
        let maker = forward.maker;
        let backward = self.range(Section::Backward);
        let old = self.entries().to_vec();
        let mut made: HashMap<Tensor, Tensor> = HashMap::new();
        let mut entries = old[..backward.start].to_vec();
        for launch in self.launches().filter(|launch| launch.start >= backward.start).collect::<Vec<_>>() {
            // Launches that have to run again for this one, in the order of the forward pass.
            let mut launches = BTreeSet::new();
            let mut needed: Vec<Tensor> = old[launch.clone()].iter().flat_map(|e| e.tensors.iter().copied()).collect();
            while let Some(tensor) = needed.pop() {
                if again.contains(&tensor) && !made.contains_key(&tensor) && launches.insert(maker[&tensor]) {
                    needed.extend(old[maker[&tensor]].reads());
                }
            }
            for again in launches {
                let mut copy = Entry { section: Section::Backward, early: false, ..old[again].clone() };
                for tensor in copy.writes().collect::<Vec<_>>() {
                    let twin = self.twin(tensor)?;
                    made.insert(tensor, twin);
                }
                renamed(&mut copy, &made);
                entries.push(copy);
            }
            for entry in &old[launch] {
                let mut entry = entry.clone();
                renamed(&mut entry, &made);
                entries.push(entry);
            }
        }
        self.replace(entries);
        Ok(())
    }
}

fn renamed(entry: &mut Entry, made: &HashMap<Tensor, Tensor>) {
    entry.tensors.iter_mut().for_each(|t| *t = made.get(t).copied().unwrap_or(*t));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_lie_where_little_crosses() {
        // Three blocks of four launches that save 10 each; 2 cross between blocks and 20 within.
        let crossing: Vec<u64> = (0..=12).map(|c| if c % 4 == 0 { 2 } else { 20 }).collect();
        let saved: Vec<u64> = (0..=12).map(|c| 10 * c).collect();
        assert_eq!(cuts(&crossing, &saved), [4, 8]);
        // Where everything crosses, nothing is gained.
        assert_eq!(cuts(&[120; 13], &saved), [0; 0]);
    }
}
