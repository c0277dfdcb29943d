//! How long a plan takes on a card, from its compiled kernels.
//!
//! A model of one step, with these assumptions:
//! - every lane of a wave executes every instruction of the blocks that it passes, loops as often as their bounds say;
//! - the vector unit of a SIMD starts an instruction for 32 lanes each cycle, so a wave of 64 takes two;
//! - two SIMDs share 128 bytes a cycle of workgroup memory, without bank conflicts, and broadcasts cost as much as other reads;
//! - what lanes load from buffers passes the L2 cache at its bandwidth; what passes the caches behind it is what the plan's model of them
//!   says (`plan::Cost`);
//! - waves are dealt evenly; those that a SIMD holds at once hide each other's waits, and further ones wait for them to end. A wave alone
//!   takes its instructions one after the other, and waits where it needs what it asked for less than a latency ago;
//! - bounds do not add up: the largest is the time, plus the cost of a launch.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;

use super::assembly::{Code, Latency, Mix};
use super::compiler::{Compiled, Compiler};
use crate::error::Result;
use crate::gpu::{CardModel, LAUNCH, Shader};
use crate::plan::{Entry, Lowered, Traffic, converted};

/// Latencies in cycles, rounded, for RDNA 2.
const LATENCY: Latency = Latency { memory: 500.0, lds: 64.0 };

/// Resource that limits the time of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Vector unit.
    Arithmetic,
    /// Scalar unit.
    Scalar,
    /// Bandwidth of workgroup memory (LDS).
    Lds,
    /// Bandwidth of the L2 cache.
    L2,
    /// Bandwidth of the Infinity Cache.
    InfinityCache,
    /// Bandwidth of GDDR6 memory.
    Memory,
    /// Latency that the waves on a SIMD do not hide for each other.
    Latency,
    /// Fixed cost of the launch itself.
    Launch,
}

/// A kernel as the card runs it, compiled with its constants.
#[derive(Debug, Clone)]
pub struct Variant {
    /// Name of the kernel, `family/pass`.
    pub name: String,
    /// Values of its constants.
    pub consts: String,
    /// Registers, memory and assembly by the compiler.
    pub compiled: Compiled,
    /// Instructions in one iteration of its hot loop.
    pub hot: Mix,
    code: Code,
}

/// Prediction for one launch of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct Predicted {
    /// Number of the launch in the plan.
    pub launch: usize,
    /// Names `family/pass` of the kernels of its entries.
    pub kernel: String,
    /// Name of the layer.
    pub label: String,
    /// Index of the compiled variant.
    #[serde(skip)]
    pub variant: usize,
    /// Predicted time in seconds, including the launch.
    pub seconds: f64,
    /// Resource that limits the time.
    pub bound: Bound,
    /// Number of its waves that a SIMD holds at once.
    pub waves: f64,
    /// Share of the launch in the time of the step.
    pub share: f64,
    /// Roofline time in seconds (`plan::LaunchCost`).
    pub roofline: f64,
    /// Bytes that it moves.
    pub traffic: Traffic,
    /// Number of times in a step: once in each micro-step, or once.
    pub times: usize,
    /// True if the loops of the source were not found in the assembly; the number of instructions then follows from the flops.
    pub by_flops: bool,
}

/// Prediction for a training step.
#[derive(Debug, Clone, Serialize)]
pub struct Prediction {
    /// Launches of the step.
    pub launches: Vec<Predicted>,
    /// Compiled kernels.
    #[serde(skip)]
    pub variants: Vec<Variant>,
    /// Predicted time of the step in seconds.
    pub seconds: f64,
    /// Sum of the roofline times in seconds, including the cost of the launches.
    pub roofline: f64,
    /// Bytes that a step moves.
    pub traffic: Traffic,
    /// Number of floating-point operations.
    pub flops: f64,
}

/// Predicts a step of `micro_steps` micro-steps.
///
/// # Errors
/// Errors of `Compiler::compile`.
pub fn predict(lowered: &Lowered, micro_steps: usize, card: &CardModel, compiler: &Compiler) -> Result<Prediction> {
    let plan = &lowered.plan;
    let cost = lowered.cost(card, micro_steps);
    let (mut variants, mut known): (Vec<Variant>, HashMap<*const Shader, usize>) = (vec![], HashMap::new());
    let (mut launches, mut flops) = (Vec::new(), 0.0);
    for (entries, least) in plan.launches().zip(&cost.launches) {
        let mut variant = |entries: Range<usize>| -> Result<usize> {
            let shader = converted(plan, entries.clone())?;
            let key = Arc::as_ptr(&shader);
            if let Some(variant) = known.get(&key) {
                return Ok(*variant);
            }
            let compiled = compiler.compile(&shader)?;
            let code = Code::new(&compiled.assembly);
            let entries = &plan.entries()[entries];
            let list = |e: &Entry| e.shader.consts.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
            let consts = entries.iter().map(list).collect::<Vec<_>>().join(" + ");
            let trips = if let [entry] = entries { trips(entry, &compiled, &code)? } else { None };
            let hot = code.hot(&trips.unwrap_or_default());
            variants.push(Variant { name: shader.name.clone(), consts, compiled, hot, code });
            known.insert(key, variants.len() - 1);
            Ok(variants.len() - 1)
        };
        // The instructions of each kernel are read off its own assembly, and the registers off that of the launch.
        let whole = variant(entries.clone())?;
        let own = entries.clone().map(|at| variant(at..at + 1)).collect::<Result<Vec<_>>>()?;
        let parts = plan.entries()[entries.clone()].iter().zip(own.iter().map(|v| &variants[*v])).collect::<Vec<_>>();
        let Timed { seconds, bound, waves, by_flops } = timed(&parts, &variants[whole].compiled, card, least.traffic)?;
        let times = least.times;
        flops += times as f64 * parts.iter().map(|(e, _)| e.flops as f64).sum::<f64>();
        let joined = |of: fn(&Entry) -> &str| parts.iter().map(|(e, _)| of(e)).collect::<Vec<_>>().join(" + ");
        launches.push(Predicted {
            launch: launches.len(),
            kernel: joined(|e| &e.shader.name),
            label: joined(|e| &e.label),
            variant: whole,
            seconds,
            bound,
            waves,
            // Known when all are.
            share: 0.0,
            roofline: least.seconds,
            traffic: least.traffic,
            times,
            by_flops,
        });
    }
    let step = |of: &dyn Fn(&Predicted) -> f64| launches.iter().map(|l| l.times as f64 * of(l)).sum::<f64>();
    let seconds = step(&|l| l.seconds);
    launches.iter_mut().for_each(|l| l.share = l.times as f64 * l.seconds / seconds);
    Ok(Prediction { launches, variants, seconds, roofline: cost.seconds, traffic: cost.traffic, flops })
}

/// Number of lanes in all waves of a launch.
fn lanes_of(entry: &Entry, compiled: &Compiled) -> f64 {
    let lanes = f64::from(compiled.wave.max(32));
    let waves_of_group = (f64::from(entry.shader.workgroup) / lanes).ceil();
    entry.grid.iter().map(|g| f64::from(*g)).product::<f64>() * waves_of_group * lanes
}

/// Number of iterations of each loop in the assembly; none if the loops of the source were not found in it.
fn trips(entry: &Entry, compiled: &Compiled, code: &Code) -> Result<Option<Vec<u64>>> {
    Ok(code.trips(&entry.shader.loops(&entry.immediates)?, entry.flops as f64 / 2.0 / lanes_of(entry, compiled)))
}

/// Predicted time of a launch, and what limits it.
struct Timed {
    seconds: f64,
    bound: Bound,
    waves: f64,
    by_flops: bool,
}

/// Predicts a launch of one kernel or two, compiled as `whole`, that moves these bytes.
fn timed(parts: &[(&Entry, &Variant)], whole: &Compiled, card: &CardModel, moved: Traffic) -> Result<Timed> {
    let lanes = f64::from(whole.wave.max(32));
    // Sums over all waves, and the longest chain of instructions.
    let (mut waves, mut vector, mut scalar, mut lds, mut l2, mut chain, mut longest) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0f64);
    let mut by_flops = false;
    for (entry, of) in parts {
        let own = lanes_of(entry, &of.compiled) / lanes;
        let trips = trips(entry, &of.compiled, &of.code)?;
        by_flops |= trips.is_none();
        let mix = trips.as_ref().map_or_else(
            || {
                // As many rounds of the hot loop as its multiplications make of the flops.
                let rounds = entry.flops as f64 / (own * lanes) / (2.0 * of.hot.fma).max(of.hot.vector / 4.0).max(1.0);
                let mut mix = Mix::default();
                mix.repeat(&of.hot, rounds.max(1.0));
                mix
            },
            |trips| of.code.executed(trips),
        );
        let cycles = mix.vector_cycles * lanes / 32.0;
        let waits = || cycles.max(mix.scalar) + mix.waits * LATENCY.memory;
        waves += own;
        vector += own * cycles;
        scalar += own * mix.scalar;
        lds += own * mix.lds_bytes * lanes;
        l2 += own * mix.memory_bytes * lanes;
        let one = trips.as_ref().map_or_else(waits, |trips| of.code.chain(trips, lanes, LATENCY));
        chain += own * one;
        longest = longest.max(one);
    }
    // The SIMD with the most waves, each of them of mean length.
    let most = (waves / card.simds).ceil().max(1.0);
    let held = (whole.waves as f64).clamp(1.0, most);
    // Lanes that have nothing to load ask for nothing.
    let l2 = l2.max(moved.touched as f64);
    let bounds = [
        (Bound::Arithmetic, most * vector / waves / card.clock),
        (Bound::Scalar, most * scalar / waves / card.clock),
        (Bound::Lds, most * lds / waves / 64.0 / card.clock),
        (Bound::L2, l2 / card.l2.0),
        (Bound::InfinityCache, moved.cache as f64 / card.infinity.0),
        (Bound::Memory, moved.memory as f64 / card.memory),
        (Bound::Latency, longest.max((most / held).ceil() * chain / waves) / card.clock),
    ];
    let (bound, work) = bounds.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((Bound::Launch, 0.0));
    Ok(Timed { seconds: work + LAUNCH, bound: if work < LAUNCH { Bound::Launch } else { bound }, waves: held, by_flops })
}
