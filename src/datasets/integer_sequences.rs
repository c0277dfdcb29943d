//! Sequences of integers, generated on the fly: the n-th of a stream is the same on every machine.
//!
//! Three phases of families, each family a rule with random constants. A sample that leaves the range is drawn again. Families that grow by
//! factors would leave any range: theirs are also shorter ones, as long as the range allows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SampleStream;
use crate::random::Random;

/// A sequence of integers; each is the target of those before it.
pub type Sequence = Vec<u32>;

/// Lengths and values of the sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Largest number of integers that a model sees; the longest sequences have one more, the last target.
    pub context: usize,
    /// Smallest number of integers before the last one; lengths are drawn uniformly from here to `context`.
    pub shortest: usize,
    /// Number of different values; they are 0 to `values` − 1.
    pub values: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Sizes { context: 8, shortest: 8, values: 256 }
    }
}

/// Smallest length of a sequence that grows by factors.
const FEWEST: usize = 5;

/// Family of sequences: a rule with random constants.
#[derive(Clone, Copy)]
pub struct Family {
    /// Name in reports.
    pub name: &'static str,
    /// Curriculum phase, 1 to 3.
    pub phase: usize,
    draw: fn(&mut Draw<'_>) -> Vec<i64>,
}

impl std::fmt::Debug for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (phase {})", self.name, self.phase)
    }
}

/// Random constants of one sequence.
struct Draw<'r> {
    random: &'r mut Random,
    sizes: Sizes,
    /// Length of the sequence.
    length: usize,
}

impl Draw<'_> {
    /// Scales the constant `n`, which is chosen for 256 values and nine integers, to these sizes; `power` is the power of the length with
    /// which the sequence grows.
    fn scaled(&self, n: i64, power: i32) -> i64 {
        let (values, length) = ((self.sizes.values - 1) as f64 / 255.0, 8.0 / self.sizes.context as f64);
        ((n.abs() as f64 * values * length.powi(power)).round() as i64).max(1) * n.signum()
    }

    /// Draws a value between `low` and `high`, given for 256 values.
    fn value(&mut self, low: i64, high: i64) -> i64 {
        let (low, high) = (self.scaled(low, 0), self.scaled(high, 0));
        self.random.between(low, high)
    }

    /// Draws the difference of successive integers, given for 256 values.
    fn step(&mut self, low: i64, high: i64) -> i64 {
        let (low, high) = (self.scaled(low, 1), self.scaled(high, 1));
        self.random.between(low, high)
    }

    /// Draws the growth of that difference, given for 256 values.
    fn growth(&mut self, low: i64, high: i64) -> i64 {
        let (low, high) = (self.scaled(low, 2), self.scaled(high, 2));
        self.random.between(low, high)
    }

    /// Draws a constant of the rule itself, which does not depend on the sizes.
    fn constant(&mut self, low: i64, high: i64) -> i64 {
        self.random.between(low, high)
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        self.random.pick(choices)
    }

    /// Draws a length at which a sequence that grows by `factor` can stay in the range.
    fn shortened(&mut self, fewest: usize, factor: f64) -> usize {
        let most = (((self.sizes.values - 1) as f64).ln() / factor.ln()) as usize + 1;
        let most = most.clamp(fewest, self.length.max(fewest));
        self.random.between(fewest as i64, most as i64) as usize
    }

    /// Draws a shorter length for sequences of which nine integers stay in the range and more need not.
    fn shortened_past_nine(&mut self, factor: f64) -> usize {
        if self.length > 9 { self.shortened(9, factor) } else { self.length }
    }

    /// Sequence x₀ = `first`, x_{n+1} = `next(n, x)`, where x are the integers so far.
    fn unfold(&self, first: i64, next: impl Fn(usize, &[i64]) -> i64) -> Vec<i64> {
        unfold(self.length, first, next)
    }

    /// Sequence of sums: x₀ = `first`, x_{n+1} = x_n + step(n).
    fn stepped(&self, first: i64, step: impl Fn(i64) -> i64) -> Vec<i64> {
        self.unfold(first, |n, x| x[n - 1] + step(n as i64 - 1))
    }

    /// Sequence x_{n+1} = ⌊x_n · p / q⌋ with the factors p/q in turn; it is shorter if it would leave the range.
    fn multiplied(&mut self, factors: &[(i64, i64)]) -> Vec<i64> {
        let product: f64 = factors.iter().map(|(p, q)| *p as f64 / *q as f64).product();
        let growth = product.powf(1.0 / factors.len() as f64);
        let length = if growth > 1.0 { self.shortened(FEWEST, growth) } else { self.length };
        let top = growth.max(1.0).powi(length as i32 - 1);
        let high = ((self.sizes.values - 1) as f64 / top).max(1.0) as i64;
        // What shrinks from less is soon nothing but zeros.
        let first = self.constant(if growth > 1.0 { 1 } else { high.min(8) }, high);
        unfold(length, first, |n, x| {
            let (p, q) = factors[(n - 1) % factors.len()];
            last(x) * p / q
        })
    }

    /// Sequence in which each value is repeated as often as the pattern says, and grows by `step` each time.
    fn repeated(&self, first: i64, step: i64, pattern: &[usize]) -> Vec<i64> {
        let values = (0..).flat_map(|i: usize| std::iter::repeat_n(first + step * i as i64, pattern[i % pattern.len()]));
        values.take(self.length).collect()
    }

    /// Sequence of a family of phase 1.
    fn simple(&mut self, rule: usize) -> Vec<i64> {
        (FAMILIES[rule].draw)(self)
    }
}

/// A Fibonacci-like recurrence x_{n+1} = x_n + x_{n−1} + c, modulo m if m > 0.
fn fibonacci(length: usize, first: i64, second: i64, c: i64, m: i64) -> Vec<i64> {
    unfold(length, first, |n, x| {
        let sum = if n == 1 { second } else { x[n - 1] + x[n - 2] + c };
        if m > 0 { sum.rem_euclid(m) } else { sum }
    })
}

fn unfold(length: usize, first: i64, next: impl Fn(usize, &[i64]) -> i64) -> Vec<i64> {
    let mut x = vec![first];
    for n in 1..length {
        // Beyond this it has left every range.
        x.push(next(n, &x).clamp(-(1 << 40), 1 << 40));
    }
    x
}

fn last(x: &[i64]) -> i64 {
    x[x.len() - 1]
}

/// Sequence ⌊first · (p/q)ⁿ⌋, or the ceiling of that.
fn rounded_geometric(length: usize, first: i64, p: i64, q: i64, ceiling: bool) -> Vec<i64> {
    // (p/q)ⁿ exactly, as far as 128 bits hold it; beyond that the value has left the range or become 0.
    let power = |n: usize| Some((i128::from(p).checked_pow(n as u32)?, i128::from(q).checked_pow(n as u32)?));
    let value = |n: usize| {
        let Some((top, bottom)) = power(n) else { return if p > q { i64::MAX } else { i64::from(ceiling) } };
        let Some(top) = top.checked_mul(i128::from(first)) else { return i64::MAX };
        let rounded = top.div_euclid(bottom) + i128::from(ceiling && top.rem_euclid(bottom) != 0);
        i64::try_from(rounded).unwrap_or(i64::MAX)
    };
    (0..length).map(value).collect()
}

/// Rule that makes a sequence of another one.
type Applied = fn(&mut Draw<'_>, &[i64]) -> Vec<i64>;

/// Rules of phase 1 in a form that takes another sequence x: from x₀ … x_n they make the n-th integer.
const APPLIED: [Applied; 5] = [
    // Order 0: moved by a constant.
    |d, x| {
        let c = d.value(-80, 80);
        x.iter().map(|x| x + c).collect()
    },
    // The terms of an arithmetic sequence are added.
    |d, x| {
        let step = d.step(-12, 12);
        (0..).zip(x).map(|(n, x)| x + step * n).collect()
    },
    // x ↦ ⌊x · p / q⌋ + b.
    |d, x| {
        let ((p, q), b) = (d.pick(&[(1, 2), (1, 3), (2, 3), (3, 4), (3, 2)]), d.value(-20, 100));
        x.iter().map(|x| (x * p).div_euclid(q) + b).collect()
    },
    // Two constants are added in turn.
    |d, x| {
        let pair = [d.value(-40, 40), d.value(-40, 40)];
        x.iter().enumerate().map(|(n, x)| x + pair[n % 2]).collect()
    },
    // Each number and the one before it are added up.
    |d, x| {
        let c = d.constant(0, 2);
        (0..x.len()).map(|n| if n == 0 { x[0] } else { x[n] + x[n - 1] + c }).collect()
    },
];

/// All families, in the order of their phases.
pub static FAMILIES: [Family; 21] = [
    // Phase 1: recurrences of order 0, 1, 2.
    Family {
        name: "constant",
        phase: 1,
        draw: |d| {
            let first = d.value(0, 255);
            d.unfold(first, |_, x| last(x))
        },
    },
    Family {
        name: "arithmetic",
        phase: 1,
        draw: |d| {
            let (first, step) = (d.value(0, 255), d.step(-28, 28));
            d.stepped(first, |_| step)
        },
    },
    Family {
        name: "affine",
        phase: 1,
        draw: |d| {
            // x ← ⌊x · p / q⌋ + b. Factors above 3/2 leave the range within nine numbers.
            let ((p, q), b) = (d.pick(&[(1, 2), (1, 3), (2, 3), (3, 4), (3, 2)]), d.value(-20, 100));
            let first = d.value(0, 255);
            d.unfold(first, |_, x| (last(x) * p).div_euclid(q) + b)
        },
    },
    Family {
        name: "alternating",
        phase: 1,
        draw: |d| {
            let pair = [d.value(0, 255), d.value(0, 255)];
            d.unfold(pair[0], |n, _| pair[n % 2])
        },
    },
    Family {
        name: "fibonacci",
        phase: 1,
        draw: |d| {
            let (first, second, c) = (d.value(0, 19), d.value(0, 12), d.constant(0, 2));
            // It grows as φⁿ.
            let length = d.shortened_past_nine(1.618);
            fibonacci(length, first, second, c, 0)
        },
    },
    // Phase 2: the constants follow a recurrence themselves.
    Family {
        name: "alternating_steps",
        phase: 2,
        draw: |d| {
            let (first, steps) = (d.value(0, 255), [d.step(-24, 24), d.step(-24, 24)]);
            d.stepped(first, |n| steps[n as usize % 2])
        },
    },
    Family {
        name: "growing_steps",
        phase: 2,
        draw: |d| {
            let (first, step, growth) = (d.value(0, 200), d.step(0, 20), d.growth(1, 6));
            d.stepped(first, |n| step + n * growth)
        },
    },
    Family {
        name: "shrinking_steps",
        phase: 2,
        draw: |d| {
            let (first, step, shrink) = (d.value(0, 200), d.step(4, 40), d.growth(1, 5));
            d.stepped(first, |n| step - n * shrink)
        },
    },
    Family {
        name: "geometric",
        phase: 2,
        draw: |d| {
            let factor = d.pick(&[(2, 1), (3, 1), (3, 2), (1, 2), (1, 3)]);
            d.multiplied(&[factor])
        },
    },
    Family {
        name: "alternating_factors",
        phase: 2,
        draw: |d| {
            let (a, b) = d.pick(&[(2, 3), (3, 2), (1, 2), (2, 1), (1, 3), (3, 1)]);
            d.multiplied(&[(a, 1), (b, 1)])
        },
    },
    Family {
        name: "rational_factors",
        phase: 2,
        draw: |d| {
            let factors = d.pick(&[[(1, 2), (3, 2)], [(3, 2), (1, 2)], [(1, 2), (2, 1)], [(1, 3), (3, 1)], [(2, 3), (3, 2)]]);
            d.multiplied(&factors)
        },
    },
    Family {
        name: "two_step",
        phase: 2,
        draw: |d| {
            let (first, step) = (d.value(0, 255), d.step(-40, 40));
            d.repeated(first, step, &[2])
        },
    },
    Family {
        name: "three_step",
        phase: 2,
        draw: |d| {
            let (first, step) = (d.value(0, 255), d.step(-60, 60));
            d.repeated(first, step, &[3])
        },
    },
    Family {
        name: "mixed_periods",
        phase: 2,
        draw: |d| {
            let pattern = d.pick(&[[1, 2], [2, 1], [1, 3], [3, 1], [2, 3], [3, 2]]);
            let (first, step) = (d.value(0, 255), d.step(-30, 30));
            d.repeated(first, step, &pattern)
        },
    },
    // Phase 3: compositions, transformations, conditions.
    Family {
        name: "applied_recurrences",
        phase: 3,
        draw: |d| {
            // One rule of phase 1 to the numbers of another.
            let (inner, outer) = (d.constant(0, 4) as usize, d.constant(0, 4) as usize);
            let x = d.simple(inner);
            APPLIED[outer](d, &x)
        },
    },
    Family {
        name: "fibonacci_modulo",
        phase: 3,
        draw: |d| {
            let m = d.constant(3, 16);
            let (first, second) = (d.constant(0, m - 1), d.constant(0, m - 1));
            fibonacci(d.length, first, second, 0, m)
        },
    },
    Family {
        name: "every_third_doubled",
        phase: 3,
        draw: |d| {
            let (first, step, phase) = (d.value(0, 127), d.step(-14, 14), d.constant(0, 2));
            let mut x = d.stepped(first, |_| step);
            (0..).zip(&mut x).for_each(|(n, x)| *x *= if n % 3 == phase { 2 } else { 1 });
            x
        },
    },
    Family {
        name: "floor_ceiling_geometric",
        phase: 3,
        draw: |d| {
            let (p, q) = d.pick(&[(3, 2), (4, 3), (5, 4), (2, 3), (3, 4), (1, 2)]);
            let first = if p > q { d.value(1, 42) } else { d.value(30, 255) };
            let length = if p > q { d.shortened_past_nine(p as f64 / q as f64) } else { d.length };
            rounded_geometric(length, first, p, q, d.constant(0, 1) == 1)
        },
    },
    Family {
        name: "alternating_signs",
        phase: 3,
        draw: |d| {
            let (offset, first, step) = (d.value(64, 191), d.value(-20, 40), d.step(-10, 14));
            let mut x = d.stepped(first, |_| step);
            (0..).zip(&mut x).for_each(|(n, x)| *x = offset + if n % 2 == 0 { *x } else { -*x });
            x
        },
    },
    Family {
        name: "parity_rule",
        phase: 3,
        draw: |d| {
            let (add, first) = (d.pick(&[1, 3, 5, 7, 2, 4]), d.constant(0, 30));
            let length = d.shortened_past_nine(std::f64::consts::SQRT_2);
            unfold(length, first, |_, x| if last(x) % 2 == 0 { last(x) + add } else { 2 * last(x) })
        },
    },
    Family {
        name: "switching_rule",
        phase: 3,
        draw: |d| {
            // Which step is taken depends on the number before: a multiple of three, or not.
            let (a, b) = (d.step(-12, 20), d.step(-12, 20));
            let first = d.value(0, 255);
            d.unfold(first, |_, x| last(x) + if last(x) % 3 == 0 { a } else { b })
        },
    },
];

/// Ways in which the later phases of the curriculum enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Transition {
    /// Linear: each phase enters over half of the transition, the second before the third.
    #[default]
    Gradual,
    /// Abrupt: the second phase enters at half of the transition, the third at its end.
    Strict,
}

/// Share of each phase at an epoch.
pub fn shares(epoch: f64, transition_epochs: f64, transition: Transition) -> [f64; 3] {
    let progress = if transition_epochs > 0.0 { (epoch / transition_epochs).min(1.0) } else { 1.0 };
    let progress = if transition == Transition::Strict { (2.0 * progress).floor() / 2.0 } else { progress };
    let second = (2.0 * progress).min(1.0) / 2.0;
    let third = (2.0 * progress - 1.0).max(0.0) / 3.0;
    let (first, second) = (1.0 - second, second);
    [first * (1.0 - third), second * (1.0 - third), third]
}

impl Family {
    /// Draws one sequence, or none if it leaves the range.
    fn attempt(&self, sizes: Sizes, random: &mut Random) -> Option<Sequence> {
        let most = sizes.context + 1;
        let length = if sizes.shortest < sizes.context { random.between(sizes.shortest as i64 + 1, most as i64) as usize } else { most };
        let x = (self.draw)(&mut Draw { random, sizes, length });
        x.iter().all(|v| (0..sizes.values as i64).contains(v)).then(|| x.into_iter().take(length).map(|v| v as u32).collect())
    }
}

/// Name of the first family that has no sequences of these sizes, if there is one.
pub fn impossible(sizes: Sizes) -> Option<&'static str> {
    let never = |family: &&Family| {
        let mut random = Random::new(1, 0, 0);
        (0..10_000).all(|_| family.attempt(sizes, &mut random).is_none())
    };
    FAMILIES.iter().find(never).map(|family| family.name)
}

/// Draws a sequence of one family.
pub fn draw_family(family: &Family, sizes: Sizes, random: &mut Random) -> Sequence {
    loop {
        if let Some(sequence) = family.attempt(sizes, random) {
            return sequence;
        }
    }
}

/// Sample `item` of a split: the phase is drawn by the shares, and the family uniformly within the phase.
pub fn sample(sizes: Sizes, seed: u64, split: SampleStream, item: u64, shares: [f64; 3]) -> Sequence {
    let mut random = Random::new(seed, split as u32, item);
    let u = random.uniform();
    let phase = 1 + usize::from(u >= shares[0]) + usize::from(u >= shares[0] + shares[1]);
    let families = FAMILIES.iter().filter(|f| f.phase == phase);
    let family = families.clone().nth(random.between(0, families.count() as i64 - 1) as usize).unwrap_or(&FAMILIES[0]);
    draw_family(family, sizes, &mut random)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn family(name: &str) -> &'static Family {
        FAMILIES.iter().find(|f| f.name == name).unwrap()
    }

    /// True if the family can draw a sequence that starts so.
    fn draws(name: &str, start: &[u32]) -> bool {
        let mut random = Random::new(3, 0, 0);
        (0..3_000_000).any(|_| draw_family(family(name), Sizes::default(), &mut random).starts_with(start))
    }

    #[test]
    fn families_draw_the_examples_of_the_curriculum() {
        let examples: [(&str, &[u32]); 24] = [
            ("constant", &[1; 9]),
            ("arithmetic", &[2, 4, 6, 8, 10, 12, 14, 16, 18]),
            ("alternating", &[1, 0, 1, 0]),
            ("fibonacci", &[1, 1, 2, 3, 5, 8, 13, 21, 34]),
            ("affine", &[100, 60, 40, 30, 25, 22, 21, 20, 20]),
            ("alternating_steps", &[1, 3, 4, 6, 7, 9]),
            ("growing_steps", &[1, 2, 4, 7, 11]),
            ("shrinking_steps", &[1, 5, 8, 10, 11]),
            ("geometric", &[2, 4, 8, 16, 32, 64, 128]),
            ("geometric", &[8, 4, 2, 1, 0, 0, 0, 0, 0]),
            ("applied_recurrences", &[0, 1, 3, 5, 7, 9, 11, 13, 15]),
            ("alternating_factors", &[1, 2, 6, 12, 36]),
            ("rational_factors", &[8, 4, 6, 3]),
            ("two_step", &[1, 1, 2, 2, 3, 3]),
            ("three_step", &[1, 1, 1, 2, 2, 2]),
            ("mixed_periods", &[1, 2, 2, 3, 4, 4, 5, 6, 6]),
            ("fibonacci_modulo", &[1, 1, 2, 0, 2, 2, 1, 0, 1]),
            ("every_third_doubled", &[1, 2, 6, 4, 5, 12, 7, 8, 18]),
            ("floor_ceiling_geometric", &[8, 12, 18, 27, 40, 60, 91, 136, 205]),
            ("floor_ceiling_geometric", &[8, 12, 18, 27, 41, 61, 92, 137, 206]),
            ("alternating_signs", &[102, 95, 108, 89, 114]),
            ("parity_rule", &[1, 2, 3, 6, 7, 14, 15, 30, 31]),
            ("parity_rule", &[2, 3, 6, 7, 14]),
            ("switching_rule", &[3, 8, 9, 14, 15]),
        ];
        for (name, start) in examples {
            assert!(draws(name, start), "{name} never draws {start:?}");
        }
    }

    #[test]
    fn samples_are_pinned_and_streams_differ() {
        let (sizes, mixed) = (Sizes::default(), [1.0 / 3.0; 3]);
        assert_eq!(sample(sizes, 1, SampleStream::Train, 5, mixed), sample(sizes, 1, SampleStream::Train, 5, mixed));
        let of = |split| (0..200).map(|i| sample(sizes, 1, split, i, mixed)).collect::<HashSet<_>>();
        assert!(of(SampleStream::Train).intersection(&of(SampleStream::Validation)).count() < 60);
        assert_eq!(sample(sizes, 1, SampleStream::Train, 0, mixed), [6, 0, 6, 6, 4, 2, 6, 0, 6]);
    }

    /// Whatever the sizes: every family has sequences, of lengths and values that were asked for, and growing ones go on by their factor
    /// instead of wrapping around.
    #[test]
    fn sequences_have_the_sizes_of_the_run() {
        for (context, shortest, values) in [(8, 8, 256), (16, 4, 256), (16, 16, 1000), (5, 4, 64), (64, 32, 4096)] {
            let sizes = Sizes { context, shortest, values };
            assert_eq!(impossible(sizes), None, "{sizes:?}");
            for family in &FAMILIES {
                let mut random = Random::new(5, 0, 0);
                let drawn: Vec<Sequence> = (0..300).map(|_| draw_family(family, sizes, &mut random)).collect();
                let shortens =
                    ["geometric", "alternating_factors", "fibonacci", "floor_ceiling_geometric", "parity_rule", "applied_recurrences"];
                let fewest = if shortens.contains(&family.name) { FEWEST } else { shortest + 1 };
                for x in &drawn {
                    assert!((fewest.min(shortest + 1)..=context + 1).contains(&x.len()), "{} {sizes:?}: {x:?}", family.name);
                    assert!(x.iter().all(|v| (*v as usize) < values), "{} {sizes:?}: {x:?}", family.name);
                }
                let different = drawn.iter().collect::<HashSet<_>>().len();
                assert!(different >= 12, "{} {sizes:?}: {different} different sequences", family.name);
                if family.name == "geometric" {
                    let (mut two, mut three) = (false, false);
                    for x in drawn.iter().filter(|x| x[0] > 0 && x[1] > x[0]) {
                        two |= x.windows(2).all(|w| w[1] == 2 * w[0]);
                        three |= x.windows(2).all(|w| w[1] == 3 * w[0]);
                        assert!(x.windows(2).all(|w| w[1] == 2 * w[0] || w[1] == 3 * w[0] || w[1] == 3 * w[0] / 2), "{x:?}");
                    }
                    assert!(two && (three || values < 81), "{sizes:?}");
                }
            }
        }
    }

    /// Each rule of phase 1 is applied to each other: 25 pairs, told apart by what they draw.
    #[test]
    fn recurrences_are_applied_to_one_another() {
        for inner in 0..5 {
            for outer in APPLIED {
                let (mut random, sizes) = (Random::new(2, 0, 0), Sizes::default());
                let fine = (0..20_000).filter(|_| {
                    let mut d = Draw { random: &mut random, sizes, length: 9 };
                    let x = d.simple(inner);
                    let y = outer(&mut d, &x);
                    assert_eq!(x.len(), y.len());
                    y.iter().all(|v| (0..256).contains(v))
                });
                assert!(fine.count() > 20, "rule {inner}");
            }
        }
    }

    #[test]
    fn shares_move_on_straight_lines() {
        let close = |a: [f64; 3], b: [f64; 3]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
        let gradual = |epoch, epochs| shares(epoch, epochs, Transition::Gradual);
        assert!(close(gradual(0.0, 20.0), [1.0, 0.0, 0.0]));
        assert!(close(gradual(5.0, 20.0), [0.75, 0.25, 0.0]));
        assert!(close(gradual(10.0, 20.0), [0.5, 0.5, 0.0]));
        assert!(close(gradual(20.0, 20.0), [1.0 / 3.0; 3]));
        assert!(close(gradual(3.0, 0.0), [1.0 / 3.0; 3]));
        let strict = |epoch| shares(epoch, 20.0, Transition::Strict);
        assert!(close(strict(9.0), [1.0, 0.0, 0.0]) && close(strict(10.0), [0.5, 0.5, 0.0]) && close(strict(19.0), [0.5, 0.5, 0.0]));
        assert!(close(strict(20.0), [1.0 / 3.0; 3]));
    }

    #[test]
    fn conditions_decide_by_the_number_before() {
        let mut random = Random::new(9, 0, 0);
        for _ in 0..1000 {
            let x = draw_family(family("switching_rule"), Sizes::default(), &mut random);
            for kind in [true, false] {
                let steps: HashSet<i64> =
                    x.windows(2).filter(|w| (w[0] % 3 == 0) == kind).map(|w| i64::from(w[1]) - i64::from(w[0])).collect();
                assert!(steps.len() <= 1, "{x:?}");
            }
        }
    }
}
