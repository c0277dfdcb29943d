//! The assembly of RDNA cards: blocks, loops, and what the instructions cost.

use crate::gpu::Loop;

/// Number of instructions in a piece of code, by the unit that executes them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Mix {
    /// Instructions of the vector unit.
    pub vector: f64,
    /// Fused multiply-adds among the vector instructions.
    pub fma: f64,
    /// Cycles that the vector unit takes for 32 lanes: four for each root, reciprocal, exponential and 32-bit integer product, else one.
    pub vector_cycles: f64,
    /// Instructions of the scalar unit, including branches.
    pub scalar: f64,
    /// Accesses to workgroup memory (LDS).
    pub lds: f64,
    /// Bytes of a lane that those accesses move.
    pub lds_bytes: f64,
    /// Accesses to buffers.
    pub memory: f64,
    /// Bytes of a lane that those accesses move.
    pub memory_bytes: f64,
    /// Waits for buffers, workgroup memory and scalar loads.
    pub waits: f64,
}

/// Effect of an instruction on the time of its wave.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Op {
    /// Occupies the vector unit for this number of cycles for 32 lanes, or another unit for a cycle.
    Busy { vector: f64, other: f64 },
    /// Requests data from buffers, or from workgroup memory and scalar memory.
    Ask { memory: bool },
    /// Waits until at most this number of requests are outstanding.
    Wait { memory: Option<usize>, lds: Option<usize> },
}

/// Latencies of memory in cycles.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latency {
    /// Latency of buffers.
    pub memory: f64,
    /// Latency of workgroup memory and scalar loads.
    pub lds: f64,
}

/// Clock of a wave that has its SIMD for itself.
struct Clock {
    /// Cycles of the vector unit for an instruction of all lanes of the wave.
    issue: f64,
    latency: Latency,
    now: f64,
    /// Times at which outstanding requests are answered, from buffers and from workgroup memory.
    coming: [Vec<f64>; 2],
}

impl Clock {
    fn pass(&mut self, op: Op) {
        match op {
            Op::Busy { vector, other } => self.now += vector * self.issue + other,
            Op::Ask { memory } => {
                let latency = if memory { self.latency.memory } else { self.latency.lds };
                self.coming[usize::from(!memory)].push(self.now + latency);
                self.now += 1.0;
            }
            Op::Wait { memory, lds } => {
                for (which, left) in [memory, lds].into_iter().enumerate() {
                    let Some(left) = left else { continue };
                    let list = &mut self.coming[which];
                    let done = list.len().saturating_sub(left);
                    let until = list.drain(..done).fold(0.0, f64::max);
                    self.now = self.now.max(until);
                }
            }
        }
    }
}

impl Mix {
    /// Counts of a single instruction.
    fn of(mnemonic: &str) -> Mix {
        let mut mix = Mix::default();
        // What a lane moves with one access.
        let bytes = || match mnemonic {
            m if m.contains("b128") || m.contains("dwordx4") || m.contains("2_b64") || m.contains("2st64_b64") => 16.0,
            m if m.contains("b96") || m.contains("dwordx3") => 12.0,
            m if m.contains("b64") || m.contains("dwordx2") || m.contains("2_b32") || m.contains("2st64_b32") => 8.0,
            m if m.contains("short") || m.contains("b16") || m.contains("u16") => 2.0,
            _ => 4.0,
        };
        if mnemonic.starts_with("s_waitcnt") {
            mix.waits = 1.0;
        } else if mnemonic.starts_with("s_") {
            mix.scalar = 1.0;
        } else if mnemonic.starts_with("ds_") {
            (mix.lds, mix.lds_bytes) = (1.0, bytes());
        } else if ["buffer_", "global_", "image_", "flat_", "scratch_"].iter().any(|kind| mnemonic.starts_with(kind)) {
            (mix.memory, mix.memory_bytes) = (1.0, bytes());
        } else if let Some(operation) = mnemonic.strip_prefix("v_") {
            mix.vector = 1.0;
            let slow =
                ["rcp", "rsq", "sqrt", "exp", "log", "sin", "cos", "mul_lo_u32", "mul_hi_u32", "mul_lo_i32", "mul_hi_i32", "mad_u64"];
            mix.vector_cycles = if slow.iter().any(|name| operation.starts_with(name)) { 4.0 } else { 1.0 };
            let operation = operation.strip_prefix("pk_").unwrap_or(operation);
            mix.fma = f64::from(u8::from(["fma", "fmac", "mad_f", "mac_f"].iter().any(|name| operation.starts_with(name))));
        }
        mix
    }

    /// Adds `times` repetitions of another mix.
    pub(super) fn repeat(&mut self, other: &Mix, times: f64) {
        let sums = [
            (&mut self.vector, other.vector),
            (&mut self.fma, other.fma),
            (&mut self.vector_cycles, other.vector_cycles),
            (&mut self.scalar, other.scalar),
            (&mut self.lds, other.lds),
            (&mut self.lds_bytes, other.lds_bytes),
            (&mut self.memory, other.memory),
            (&mut self.memory_bytes, other.memory_bytes),
            (&mut self.waits, other.waits),
        ];
        sums.into_iter().for_each(|(sum, value)| *sum += times * value);
    }

    /// Share of fused multiply-adds in the vector instructions.
    pub fn fma_share(&self) -> f64 {
        if self.vector > 0.0 { self.fma / self.vector } else { 0.0 }
    }
}

/// A loop in the assembly, with its first and last block and the loops inside.
#[derive(Debug, Clone, PartialEq)]
struct Range {
    first: usize,
    last: usize,
    inner: Vec<Range>,
}

impl Range {
    /// Number of loops: this one and those inside.
    fn count(&self) -> usize {
        1 + self.inner.iter().map(Range::count).sum::<usize>()
    }
}

/// Effect of an instruction on the time of its wave.
fn op(mnemonic: &str, operands: &str, mix: &Mix) -> Op {
    let count = |counter: &str| operands.split_once(&format!("{counter}("))?.1.split(')').next()?.parse().ok();
    if mnemonic == "s_waitcnt" {
        return Op::Wait { memory: count("vmcnt"), lds: count("lgkmcnt") };
    }
    let stores = mnemonic.contains("store") || mnemonic.contains("write");
    if !stores && (mix.memory > 0.0 || mix.lds > 0.0 || mnemonic.starts_with("s_load") || mnemonic.starts_with("s_buffer_load")) {
        return Op::Ask { memory: mix.memory > 0.0 };
    }
    Op::Busy { vector: mix.vector_cycles, other: if mix.vector > 0.0 { 0.0 } else { 1.0 } }
}

/// Code of a kernel: its blocks and loops.
#[derive(Debug, Clone, PartialEq)]
pub struct Code {
    blocks: Vec<Mix>,
    ops: Vec<Vec<Op>>,
    loops: Vec<Range>,
}

impl Code {
    /// Parses the assembly that RADV prints.
    pub fn new(assembly: &str) -> Code {
        let (mut numbers, mut blocks, mut back) = (Vec::<usize>::new(), Vec::<Mix>::new(), Vec::new());
        let mut ops: Vec<Vec<Op>> = Vec::new();
        for line in assembly.lines() {
            let text = line.split(';').next().unwrap_or("").trim();
            if let Some(number) = text.strip_prefix("BB").and_then(|rest| rest.strip_suffix(':')?.parse().ok()) {
                numbers.push(number);
                blocks.push(Mix::default());
                ops.push(vec![]);
                continue;
            }
            let (mnemonic, operands) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
            let Some(block) = blocks.last_mut().filter(|_| !mnemonic.is_empty()) else { continue };
            let mix = Mix::of(mnemonic);
            block.repeat(&mix, 1.0);
            ops.iter_mut().last().iter_mut().for_each(|list| list.push(op(mnemonic, operands, &mix)));
            let target = operands.trim().strip_prefix("BB").and_then(|n| n.parse::<usize>().ok()).filter(|_| mnemonic.contains("branch"));
            if let Some(first) = target.and_then(|target| numbers.iter().position(|n| *n == target)) {
                back.push((first, blocks.len() - 1));
            }
        }
        // Of several branches back to one block, the last one closes the loop.
        back.sort_by_key(|(first, last)| (*first, std::cmp::Reverse(*last)));
        back.dedup_by_key(|(first, _)| *first);
        Code { blocks, ops, loops: nest(&back) }
    }

    /// Number of iterations of each loop, outer ones first, given the loops of the source; `None` if source and assembly cannot be matched.
    /// If there are several matches, the one whose fused multiply-adds are nearest to `fma` for each lane is taken, if `fma` is not 0.
    pub fn trips(&self, source: &[Loop], fma: f64) -> Option<Vec<u64>> {
        let off = |trips: &Vec<u64>| {
            let times = self.times(trips);
            let executed = self.sum(0..self.blocks.len(), |block| times[block]).fma;
            // Within five percent of each other, the likelier match is the better one.
            if fma > 0.0 && executed > 0.0 { ((executed / fma).ln().abs() / 0.05).round() } else { 0.0 }
        };
        let better = |a: &(u64, Vec<u64>), b: &(u64, Vec<u64>)| off(&a.1).total_cmp(&off(&b.1)).then(a.0.cmp(&b.0));
        matched(&self.loops, source).into_iter().min_by(better).map(|(_, trips)| trips)
    }

    /// Number of times that a wave executes each block.
    fn times(&self, trips: &[u64]) -> Vec<f64> {
        fn multiply(loops: &[Range], trips: &mut impl Iterator<Item = u64>, times: &mut [f64]) {
            for one in loops {
                let n = trips.next().unwrap_or(1).max(1) as f64;
                times[one.first..=one.last].iter_mut().for_each(|t| *t *= n);
                multiply(&one.inner, trips, times);
            }
        }
        let mut times = vec![1.0; self.blocks.len()];
        multiply(&self.loops, &mut trips.iter().copied(), &mut times);
        times
    }

    fn sum(&self, blocks: std::ops::Range<usize>, times: impl Fn(usize) -> f64) -> Mix {
        let mut mix = Mix::default();
        blocks.for_each(|block| mix.repeat(&self.blocks[block], times(block)));
        mix
    }

    /// Instructions in one iteration of the hot loop: the innermost loop that occupies the vector unit longest, or all code if there is no
    /// loop.
    pub fn hot(&self, trips: &[u64]) -> Mix {
        fn innermost<'r>(loops: &'r [Range], found: &mut Vec<&'r Range>) {
            for one in loops {
                if one.inner.is_empty() { found.push(one) } else { innermost(&one.inner, found) }
            }
        }
        let mut found = vec![];
        innermost(&self.loops, &mut found);
        let times = self.times(trips);
        let busy = |one: &&Range| self.sum(one.first..one.last + 1, |block| times[block]).vector_cycles;
        let hot = found.into_iter().max_by(|a, b| busy(a).total_cmp(&busy(b)));
        self.sum(hot.map_or(0..self.blocks.len(), |one| one.first..one.last + 1), |_| 1.0)
    }

    /// Cycles from the first to the last instruction of a wave of this number of lanes that has a SIMD for itself.
    pub fn chain(&self, trips: &[u64], lanes: f64, latency: Latency) -> f64 {
        fn walk(code: &Code, clock: &mut Clock, from: usize, to: usize, loops: &[Range], trips: &[u64]) {
            let (mut block, mut at) = (from, 0);
            for one in loops {
                (block..one.first).flat_map(|b| &code.ops[b]).for_each(|op| clock.pass(*op));
                let (n, inside) = (trips[at].max(1) as f64, &trips[at + 1..at + one.count()]);
                // The first round, and one that finds what the round before has asked for.
                walk(code, clock, one.first, one.last + 1, &one.inner, inside);
                if n > 1.0 {
                    let start = clock.now;
                    walk(code, clock, one.first, one.last + 1, &one.inner, inside);
                    let rest = (n - 2.0) * (clock.now - start);
                    clock.now += rest;
                    clock.coming.iter_mut().flatten().for_each(|time| *time += rest);
                }
                (block, at) = (one.last + 1, at + one.count());
            }
            (block..to).flat_map(|b| &code.ops[b]).for_each(|op| clock.pass(*op));
        }
        let mut clock = Clock { issue: lanes / 32.0, latency, now: 0.0, coming: [vec![], vec![]] };
        walk(self, &mut clock, 0, self.ops.len(), &self.loops, trips);
        clock.now
    }

    /// Instructions that a wave executes. Blocks outside of loops count once, so this is an upper bound if branches skip some.
    pub fn executed(&self, trips: &[u64]) -> Mix {
        let times = self.times(trips);
        self.sum(0..self.blocks.len(), |block| times[block])
    }
}

/// Builds a tree of loops from ranges sorted by their start, longer ones first.
fn nest(ranges: &[(usize, usize)]) -> Vec<Range> {
    let mut out = Vec::new();
    let mut rest = ranges;
    while let Some(((first, last), after)) = rest.split_first() {
        let inside = after.iter().take_while(|(start, _)| start <= last).count();
        out.push(Range { first: *first, last: *last, inner: nest(&after[..inside]) });
        rest = &after[inside..];
    }
    out
}

/// Largest number of matches that are followed, the most probable ones.
const MATCHES: usize = 64;

/// Matches of the loops of the assembly with those of the source: the cost of each match, and the iterations of the loops, outer ones
/// first; the cheapest match comes first. A source loop with a fixed number of iterations may be unrolled, so that its inner loops take its
/// place; short loops are more probably unrolled than long ones.
fn matched(code: &[Range], source: &[Loop]) -> Vec<(u64, Vec<u64>)> {
    let list: Vec<&Loop> = source.iter().collect();
    match_lists(code, &list)
}

fn match_lists(code: &[Range], source: &[&Loop]) -> Vec<(u64, Vec<u64>)> {
    let Some((one, rest)) = source.split_first() else { return if code.is_empty() { vec![(0, vec![])] } else { vec![] } };
    let mut found = Vec::new();
    if one.fixed || one.trips <= 1 {
        let lifted: Vec<&Loop> = one.inner.iter().chain(rest.iter().copied()).collect();
        found.extend(match_lists(code, &lifted).into_iter().map(|(cost, trips)| (cost + one.trips, trips)));
    }
    if let Some((first, others)) = code.split_first() {
        let unlikely = if one.fixed && one.trips <= 4 { 16 } else { 0 };
        let inside = matched(&first.inner, &one.inner);
        let after = if inside.is_empty() { vec![] } else { match_lists(others, rest) };
        for (inner_cost, inner) in &inside {
            let whole = |(cost, more): &(u64, Vec<u64>)| (cost + inner_cost + unlikely, [&[one.trips], &inner[..], more].concat());
            found.extend(after.iter().map(whole));
        }
    }
    found.sort();
    found.dedup();
    found.truncate(MATCHES);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "BB0:\n\ts_mov_b32 s0, 1 ; 80\n\tv_mov_b32 v0, v1 ; 80\nBB1:\n\tbuffer_load_dwordx4 v[0:3], off ; e0\n\ts_waitcnt vmcnt(0) ; bf\nBB2:\n\
                        \tds_read_b128 v[4:7], v8 ; d8\n\ts_waitcnt lgkmcnt(0) ; bf\n\tv_fmac_f32_e32 v1, v2, v3 ; 56\n\tv_rcp_f32_e32 v1, v2 ; 7e\n\
                        \ts_cbranch_scc1 BB2 ; bf\nBB3:\n\ts_cbranch_scc1 BB1 ; bf\nBB4:\n\ts_endpgm ; bf\n";

    fn repeat(trips: u64, fixed: bool, inner: Vec<Loop>) -> Loop {
        Loop { trips, fixed, inner }
    }

    #[test]
    fn loops_are_found_and_counted() {
        let code = Code::new(TEXT);
        assert_eq!(code.loops, vec![Range { first: 1, last: 3, inner: vec![Range { first: 2, last: 2, inner: vec![] }] }]);
        let source = [repeat(10, false, vec![repeat(4, true, vec![]), repeat(16, true, vec![])])];
        let trips = code.trips(&source, 0.0).unwrap();
        let hot = code.hot(&trips);
        assert_eq!((hot.vector, hot.fma, hot.vector_cycles, hot.lds_bytes, hot.waits), (2.0, 1.0, 5.0, 16.0, 1.0));
        // The loop of four was unrolled.
        let all = code.executed(&trips);
        assert_eq!((all.vector, all.memory_bytes, all.waits, all.lds), (1.0 + 160.0 * 2.0, 160.0, 10.0 + 160.0, 160.0));
        // 3 cycles before; ten rounds of a load with its latency, and of sixteen inner ones: a read with its latency, 5 · 2 cycles, a
        // branch; and ends.
        let chain = code.chain(&trips, 64.0, Latency { memory: 500.0, lds: 64.0 });
        assert_eq!(chain, 3.0 + 10.0 * (500.0 + 16.0 * (64.0 + 10.0 + 1.0) + 1.0) + 1.0);
        assert_eq!(code.trips(&[repeat(10, false, vec![])], 0.0), None, "an inner loop that the source has not");
        assert_eq!(Code::new("BB0:\n\ts_endpgm\n").trips(&[repeat(8, true, vec![])], 0.0), Some(vec![]));
        // Which of the two loops inside is the one in the assembly, the number of multiplications tells.
        let either = [repeat(10, false, vec![repeat(30, true, vec![]), repeat(16, true, vec![])])];
        assert_eq!(code.trips(&either, 300.0), Some(vec![10, 30]));
        assert_eq!(code.trips(&either, 160.0), Some(vec![10, 16]));
    }
}
