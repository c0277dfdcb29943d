//! A training step of a run at its own batch and sizes, dispatch by dispatch against f64. What a small batch cannot show is a sum that is
//! cut off when it grows long, so every sum over the batch is looked at: products (a sample of their elements), the gradients of
//! normalisations, tables and positions, losses, the gradient norm and the metrics.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::reference::{Values, evaluate, is_backward, matmul};
use crate::config::Precision;
use crate::error::Result;
use crate::gpu::{Access, Gpu};
use crate::kernels::State;
use crate::plan::{Entry, FixedPlan, Program, Tensor};
use crate::problem::Loaded;
use crate::random::Random;
use crate::registry::Config;

/// A step against f64.
#[derive(Debug, Clone)]
pub struct BatchOutcome {
    /// Samples of the batch.
    pub batch: usize,
    /// Different dispatches of a step, and how many of them were compared.
    pub dispatches: (usize, usize),
    /// Largest Σ (device − f64)² / Σ f64² of a result, and where it was.
    pub worst: (f64, String),
}

/// Allowed share of squares. What rounding leaves of plain sums over 100,000 rows is 1e-9; a sum that is cut off differs by 1e-3 and more.
pub const ALLOWED: f64 = 1e-8;
/// Elements of a product that are compared.
const SAMPLES: usize = 48;
/// Elements up to which the reference of any other kernel runs whole.
const WHOLE: usize = 6_000_000;

/// Words of the tensors of an entry.
type Words = HashMap<Tensor, Vec<u32>>;
/// Elements of a result with their f64 values, and the least that counts as their size: (index, value, size).
type Expected = (Tensor, Vec<(usize, f64, f64)>);

/// Share of the sum of its terms' magnitudes that counts as the size of a sum at least: of terms that cancel, rounding alone is left.
const CANCELLED: f64 = 1e-3;

/// Runs one step on random samples at the run's own batch, and compares.
///
/// # Errors
/// With what the device or the plan cannot do.
pub fn check_batch(gpu: &Arc<Gpu>, config: &Config) -> Result<BatchOutcome> {
    let mut config = config.clone();
    config.train.precision = Precision::F32;
    let mut problem = Loaded::made_up(&config, 4 * config.train.batch)?;
    let session = problem.training(gpu)?;
    let (program, io) = session.step()?;
    let plan = &program.plan;
    let batch = problem.batches(0)?.remove(0);
    let mut state =
        State { seed: 1, tick: 5, scale: 1.0, rows: batch.rows as u32, count: io.feed.count(&batch) as u32, ..State::default() };
    config.optimizer.fill(&mut state, config.optimizer.learning_rate);
    state.drawn = f32::from(u8::from(batch.drawn));
    session.write(program, &io.feed, &batch, state)?;
    let mut outcome = BatchOutcome { batch: config.train.batch, dispatches: (0, 0), worst: (0.0, String::new()) };
    let mut seen = HashSet::new();
    let mut random = Random::new(1, 2, 3);
    for (index, launch) in plan.launches().enumerate() {
        let mut compared = Vec::new();
        for entry in &plan.entries()[launch] {
            let new = seen.insert((Arc::as_ptr(&entry.shader), entry.immediates.clone()));
            outcome.dispatches.0 += usize::from(new);
            if new && can_compare(plan, entry) {
                outcome.dispatches.1 += 1;
                compared.push((entry, read(program, entry)?));
            }
        }
        program.run(index..index + 1)?;
        let mut results = Vec::new();
        for (entry, before) in &compared {
            let of_entry = expected(plan, entry, before, state, &mut random)?;
            results.extend(of_entry.into_iter().map(|(tensor, picks)| (*entry, tensor, picks)));
        }
        for (entry, tensor, picks) in results {
            let after: Vec<f32> = program.read(tensor)?;
            let (mut error, mut norm) = (0.0, 0.0);
            for (i, want, least) in &picks {
                error += (f64::from(after[*i]) - want).powi(2);
                norm += want.abs().max(*least).powi(2);
            }
            let share = error / norm.max(1e-30 * picks.len() as f64);
            // A NaN is the worst.
            if share.is_nan() || share > outcome.worst.0 {
                outcome.worst = (share, format!("{} of {} at {}", plan.info(tensor).name, entry.shader.name, entry.label));
            }
        }
    }
    Ok(outcome)
}

fn can_compare(plan: &FixedPlan, entry: &Entry) -> bool {
    let name = entry.shader.name.as_str();
    let elements: usize = entry.tensors.iter().map(|t| plan.len(*t)).sum();
    name.starts_with("matmul/") || name == "grad_norm/partial" || sums(name) || (elements <= WHOLE && !is_backward(entry))
}

/// Passes that sum over the batch and whose gradient has no reference but the tape.
fn sums(name: &str) -> bool {
    ["layer_norm/backward_params", "embedding/backward_table", "embedding/backward_positions", "tokens/backward_params"].contains(&name)
}

fn read(program: &Program, entry: &Entry) -> Result<Words> {
    entry.tensors.iter().map(|t| Ok((*t, program.read(*t)?))).collect()
}

fn expected(plan: &FixedPlan, entry: &Entry, before: &Words, state: State, random: &mut Random) -> Result<Vec<Expected>> {
    let name = entry.shader.name.as_str();
    if name.starts_with("matmul/") {
        return Ok(product(entry, before, state, random));
    }
    if sums(name) {
        return Ok(sum(entry, before));
    }
    let mut values: Values<f64> = Values { floats: HashMap::new(), ints: before.clone(), state, set: HashSet::new() };
    for (tensor, words) in before {
        values.floats.insert(*tensor, words.iter().map(|w| f64::from(f32::from_bits(*w))).collect());
    }
    evaluate(plan, entry, &mut values)?;
    let whole = |t: Tensor| (t, values.floats[&t].iter().enumerate().map(|(i, v)| (i, *v, 0.0)).collect());
    // A gradient that comes with its loss has no reference but the tape.
    Ok(entry.writes().filter(|t| values.set.contains(t)).map(whole).collect())
}

fn float(words: &[u32], i: usize) -> f64 {
    f64::from(f32::from_bits(words[i]))
}

/// What is added to in the first micro-step.
fn so_far(e: &Entry, words: &[u32], i: usize) -> f64 {
    if e.constant("OVERWRITE") > 0 { 0.0 } else { float(words, i) }
}

fn product(e: &Entry, before: &Words, state: State, random: &mut Random) -> Vec<Expected> {
    let words = |name: &str| e.tensor(name).map(|t| &before[&t]);
    let (Some(a), Some(b), Some(y)) = (words("a"), words("b"), e.tensor("y")) else { return vec![] };
    let [m, n, k, batch] = ["m", "n", "k", "batch"].map(|name| e.size(name));
    let [a_at, b_at] = ["a_at", "b_at"].map(|name| e.size(name));
    let y_at = matmul::first_of_y(e);
    let left = |g: usize, i: usize, s: usize| float(a, a_at + g * m * k + if e.constant("TRANS_A") == 1 { s * m + i } else { i * k + s });
    let right = |g: usize, s: usize, j: usize| float(b, b_at + g * k * n + if e.constant("TRANS_B") == 1 { j * k + s } else { s * n + j });
    let (mut kept, mut results) = (vec![], vec![]);
    for _ in 0..SAMPLES {
        let [g, i, j] = [batch, m, n].map(|size| random.between(0, size as i64 - 1) as usize);
        let sum = (0..k).map(|s| left(g, i, s) * right(g, s, j)).sum::<f64>();
        let at = (g * m + i) * n + j;
        let given = |name: &str, i: usize| words(name).map(|w| float(w, if name == "bias" { i } else { y_at + i }));
        let (pre, v) = matmul::epilogue(e, state, sum, j, at, &given);
        kept.push((y_at + at, pre, 0.0));
        results.push((y_at + at, v, 0.0));
    }
    let mut out = vec![(y, results)];
    out.extend(e.tensor("pre").map(|t| (t, kept)));
    if let Some(tensor) = e.tensor("row_sum") {
        let rows: Vec<usize> = (0..SAMPLES).map(|_| random.between(0, (batch * m) as i64 - 1) as usize).collect();
        let total = |i: usize| {
            let terms = || (0..k).map(|s| left(i / m, i % m, s));
            (i, so_far(e, &before[&tensor], i) + terms().sum::<f64>(), CANCELLED * terms().map(f64::abs).sum::<f64>())
        };
        out.push((tensor, rows.into_iter().map(total).collect()));
    }
    out
}

fn sum(e: &Entry, before: &Words) -> Vec<Expected> {
    let words = |name: &str| e.tensor(name).map(|t| before[&t].as_slice()).unwrap_or_default();
    let [first, end, cols, n, length] = ["first", "end", "cols", "n", "length"].map(|name| e.size(name));
    let written = e.shader.bindings.iter().zip(&e.tensors).filter(|(b, _)| b.access == Access::Write);
    let dy = words("dy");
    let result = |name: &str, tensor: Tensor| {
        let mut values: Vec<f64> = (0..before[&tensor].len()).map(|i| so_far(e, &before[&tensor], i)).collect();
        for row in first..end {
            match name {
                "dtable" => (0..cols).for_each(|c| values[words("ids")[row] as usize * cols + c] += float(dy, row * cols + c)),
                "dw" => (0..cols).for_each(|c| {
                    let (x, stats) = (words("x"), words("stats"));
                    let pivot = if e.constant("CENTER") == 1 { float(x, row * cols) } else { 0.0 };
                    let hat = (float(x, row * cols + c) - pivot - float(stats, row * 2)) * float(stats, row * 2 + 1);
                    values[c] += float(dy, row * cols + c) * hat;
                }),
                "db" => (0..cols).for_each(|c| values[c] += float(dy, row * cols + c)),
                "dpositions" if length > 0 => {
                    (0..(length - 1) * cols).for_each(|i| values[i] += float(dy, row * length * cols + cols + i));
                }
                "dpositions" => (0..n).for_each(|i| values[i] += float(dy, row * n + i)),
                _ => (0..cols).for_each(|c| values[c] += float(dy, row * length * cols + 2 * cols + c)),
            }
        }
        (tensor, values.into_iter().enumerate().map(|(i, v)| (i, v, 0.0)).collect())
    };
    written.map(|(b, t)| result(&b.name, *t)).collect()
}
