//! Sequences of nine integers in 0…255, generated on the fly: the n-th of a stream is the same on every machine.
//!
//! Three phases of families, each family a rule with random constants. A sample that leaves the range is drawn again; products in the
//! multiplicative families are taken modulo 256, as nine doublings of anything but 0 leave it.

use serde::{Deserialize, Serialize};

use super::Split;
use crate::random::Random;

/// Numbers of one sequence: eight inputs and the ninth, or each the target of those before it.
pub const LENGTH: usize = 9;
/// Numbers that a model sees at most.
pub const CONTEXT: usize = LENGTH - 1;

/// Different values.
pub const VALUES: usize = 256;

/// One sequence.
pub type Sequence = [u8; LENGTH];

/// A rule with random constants.
#[derive(Clone, Copy)]
pub struct Family {
    /// Name in reports.
    pub name: &'static str,
    /// Curriculum phase, 1 to 3.
    pub phase: usize,
    draw: fn(&mut Random) -> [i64; LENGTH],
}

impl std::fmt::Debug for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (phase {})", self.name, self.phase)
    }
}

/// The sequence with x₀ = `first` and x_{n+1} = `next(n, x)`, where x are the numbers so far.
fn unfold(first: i64, next: impl Fn(usize, &[i64]) -> i64) -> [i64; LENGTH] {
    let mut x = [first; LENGTH];
    for n in 1..LENGTH {
        x[n] = next(n, &x[..n]);
    }
    x
}

/// Steps from x₀: x_{n+1} = x_n + step(n).
fn stepped(first: i64, step: impl Fn(i64) -> i64) -> [i64; LENGTH] {
    unfold(first, |n, x| x[n - 1] + step(n as i64 - 1))
}

fn last(x: &[i64]) -> i64 {
    x[x.len() - 1]
}

fn arithmetic(r: &mut Random) -> (i64, i64) {
    (r.between(0, 255), r.between(-28, 28))
}

/// A Fibonacci-like recurrence x_{n+1} = x_n + x_{n−1} + c, modulo m if m > 0.
fn fibonacci(first: i64, second: i64, c: i64, m: i64) -> [i64; LENGTH] {
    unfold(first, |n, x| {
        let sum = if n == 1 { second } else { x[n - 1] + x[n - 2] + c };
        if m > 0 { sum.rem_euclid(m) } else { sum }
    })
}

/// Each value repeated as often as the pattern says, the value growing by `step` each time.
fn repeated(first: i64, step: i64, pattern: &[usize]) -> [i64; LENGTH] {
    let values = (0..).flat_map(|i: usize| std::iter::repeat_n(first + step * i as i64, pattern[i % pattern.len()]));
    let mut x = [0; LENGTH];
    x.iter_mut().zip(values).for_each(|(x, v)| *x = v);
    x
}

/// Floor (or ceiling) of first · (p/q)ⁿ.
fn rounded_geometric(first: i64, p: i64, q: i64, ceiling: bool) -> [i64; LENGTH] {
    let mut x = [0; LENGTH];
    for (n, x) in (0u32..).zip(&mut x) {
        let (top, bottom) = (first * p.pow(n), q.pow(n));
        *x = if ceiling { top.div_euclid(bottom) + i64::from(top.rem_euclid(bottom) != 0) } else { top.div_euclid(bottom) };
    }
    x
}

/// Every family, by phase.
pub const FAMILIES: [Family; 20] = [
    // Phase 1: recurrences of order 0, 1, 2.
    Family { name: "constant", phase: 1, draw: |r| [r.between(0, 255); LENGTH] },
    Family {
        name: "arithmetic",
        phase: 1,
        draw: |r| {
            let (first, step) = arithmetic(r);
            stepped(first, |_| step)
        },
    },
    Family {
        name: "affine",
        phase: 1,
        draw: |r| {
            // x ← ⌊x · p / q⌋ + b. Factors above 3/2 leave the range within nine numbers.
            let ((p, q), b) = (r.pick(&[(1, 2), (1, 3), (2, 3), (3, 4), (3, 2)]), r.between(-20, 100));
            unfold(r.between(0, 255), |_, x| (last(x) * p).div_euclid(q) + b)
        },
    },
    Family {
        name: "alternating",
        phase: 1,
        draw: |r| {
            let pair = [r.between(0, 255), r.between(0, 255)];
            unfold(pair[0], |n, _| pair[n % 2])
        },
    },
    Family { name: "fibonacci", phase: 1, draw: |r| fibonacci(r.between(0, 19), r.between(0, 12), r.between(0, 2), 0) },
    // Phase 2: the constants follow a recurrence themselves.
    Family {
        name: "alternating_steps",
        phase: 2,
        draw: |r| {
            let (first, steps) = (r.between(0, 255), [r.between(-24, 24), r.between(-24, 24)]);
            stepped(first, |n| steps[n as usize % 2])
        },
    },
    Family {
        name: "growing_steps",
        phase: 2,
        draw: |r| {
            let (first, step, growth) = (r.between(0, 200), r.between(0, 20), r.between(1, 6));
            stepped(first, |n| step + n * growth)
        },
    },
    Family {
        name: "shrinking_steps",
        phase: 2,
        draw: |r| {
            let (first, step, shrink) = (r.between(0, 200), r.between(4, 40), r.between(1, 5));
            stepped(first, |n| step - n * shrink)
        },
    },
    Family {
        name: "geometric",
        phase: 2,
        draw: |r| {
            let factor = r.pick(&[2, 3]);
            unfold(r.between(1, 255), |_, x| factor * last(x) % 256)
        },
    },
    Family {
        name: "alternating_factors",
        phase: 2,
        draw: |r| {
            let factors = r.pick(&[[2, 3], [3, 2], [1, 2], [2, 1], [1, 3], [3, 1]]);
            unfold(r.between(1, 255), |n, x| factors[(n - 1) % 2] * last(x) % 256)
        },
    },
    Family {
        name: "rational_factors",
        phase: 2,
        draw: |r| {
            let factors = r.pick(&[[(1, 2), (3, 2)], [(3, 2), (1, 2)], [(1, 2), (2, 1)], [(1, 3), (3, 1)], [(2, 3), (3, 2)]]);
            unfold(r.between(8, 255), |n, x| {
                let (p, q) = factors[(n - 1) % 2];
                last(x) * p / q
            })
        },
    },
    Family { name: "two_step", phase: 2, draw: |r| repeated(r.between(0, 255), r.between(-40, 40), &[2]) },
    Family { name: "three_step", phase: 2, draw: |r| repeated(r.between(0, 255), r.between(-60, 60), &[3]) },
    Family {
        name: "mixed_periods",
        phase: 2,
        draw: |r| {
            let pattern = r.pick(&[[1, 2], [2, 1], [1, 3], [3, 1], [2, 3], [3, 2]]);
            repeated(r.between(0, 255), r.between(-30, 30), &pattern)
        },
    },
    // Phase 3: compositions, transformations, conditions.
    Family {
        name: "fibonacci_modulo",
        phase: 3,
        draw: |r| {
            let m = r.between(3, 16);
            fibonacci(r.between(0, m - 1), r.between(0, m - 1), 0, m)
        },
    },
    Family {
        name: "every_third_doubled",
        phase: 3,
        draw: |r| {
            let (first, step, phase) = (r.between(0, 127), r.between(-14, 14), r.between(0, 2));
            let mut x = stepped(first, |_| step);
            (0..).zip(&mut x).for_each(|(n, x)| *x *= if n % 3 == phase { 2 } else { 1 });
            x
        },
    },
    Family {
        name: "floor_ceiling_geometric",
        phase: 3,
        draw: |r| {
            let (p, q) = r.pick(&[(3, 2), (4, 3), (5, 4), (2, 3), (3, 4), (1, 2)]);
            let first = if p > q { r.between(1, 42) } else { r.between(30, 255) };
            rounded_geometric(first, p, q, r.between(0, 1) == 1)
        },
    },
    Family {
        name: "alternating_signs",
        phase: 3,
        draw: |r| {
            let (offset, first, step) = (r.between(64, 191), r.between(-20, 40), r.between(-10, 14));
            let mut x = stepped(first, |_| step);
            (0..).zip(&mut x).for_each(|(n, x)| *x = offset + if n % 2 == 0 { *x } else { -*x });
            x
        },
    },
    Family {
        name: "parity_rule",
        phase: 3,
        draw: |r| {
            let add = r.pick(&[1, 3, 5, 7, 2, 4]);
            unfold(r.between(0, 30), |_, x| if last(x) % 2 == 0 { last(x) + add } else { 2 * last(x) })
        },
    },
    Family {
        name: "switching_rule",
        phase: 3,
        draw: |r| {
            // Which step is taken depends on the number before: a multiple of three, or not.
            let (a, b) = (r.between(-12, 20), r.between(-12, 20));
            unfold(r.between(0, 255), |_, x| last(x) + if last(x) % 3 == 0 { a } else { b })
        },
    },
];

/// How the later phases of the curriculum enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transition {
    /// One after the other, each over half of the transition, on a straight line.
    #[default]
    Gradual,
    /// At once: the second at half of the transition, the third at its end.
    Strict,
}

/// The share of each phase.
pub fn shares(epoch: f64, transition_epochs: f64, transition: Transition) -> [f64; 3] {
    let progress = if transition_epochs > 0.0 { (epoch / transition_epochs).min(1.0) } else { 1.0 };
    let progress = if transition == Transition::Strict { (2.0 * progress).floor() / 2.0 } else { progress };
    let second = (2.0 * progress).min(1.0) / 2.0;
    let third = (2.0 * progress - 1.0).max(0.0) / 3.0;
    let (first, second) = (1.0 - second, second);
    [first * (1.0 - third), second * (1.0 - third), third]
}

/// A sequence of one family.
pub fn draw_family(family: &Family, random: &mut Random) -> Sequence {
    loop {
        let x = (family.draw)(random);
        if x.iter().all(|v| (0..VALUES as i64).contains(v)) {
            return x.map(|v| v as u8);
        }
    }
}

/// Sample `item` of a split: phase by the shares, family evenly within the phase.
pub fn sample(seed: u64, split: Split, item: u64, shares: [f64; 3]) -> Sequence {
    let mut random = Random::new(seed, split as u32, item);
    let u = random.uniform();
    let phase = 1 + usize::from(u >= shares[0]) + usize::from(u >= shares[0] + shares[1]);
    let families = FAMILIES.iter().filter(|f| f.phase == phase);
    let family = families.clone().nth(random.between(0, families.count() as i64 - 1) as usize).unwrap_or(&FAMILIES[0]);
    draw_family(family, &mut random)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn family(name: &str) -> &'static Family {
        FAMILIES.iter().find(|f| f.name == name).unwrap()
    }

    /// Whether the family draws a sequence that starts so.
    fn draws(name: &str, start: &[u8]) -> bool {
        let mut random = Random::new(3, 0, 0);
        (0..3_000_000).any(|_| draw_family(family(name), &mut random).starts_with(start))
    }

    #[test]
    fn families_draw_the_examples_of_the_curriculum() {
        let examples: [(&str, &[u8]); 22] = [
            ("constant", &[1; 9]),
            ("arithmetic", &[2, 4, 6, 8, 10, 12, 14, 16, 18]),
            ("alternating", &[1, 0, 1, 0]),
            ("fibonacci", &[1, 1, 2, 3, 5, 8, 13, 21, 34]),
            ("affine", &[100, 60, 40, 30, 25, 22, 21, 20, 20]),
            ("alternating_steps", &[1, 3, 4, 6, 7, 9]),
            ("growing_steps", &[1, 2, 4, 7, 11]),
            ("shrinking_steps", &[1, 5, 8, 10, 11]),
            ("geometric", &[2, 4, 8, 16, 32, 64, 128]),
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
        let mixed = [1.0 / 3.0; 3];
        assert_eq!(sample(1, Split::Train, 5, mixed), sample(1, Split::Train, 5, mixed));
        let of = |split| (0..200).map(|i| sample(1, split, i, mixed)).collect::<HashSet<_>>();
        assert!(of(Split::Train).intersection(&of(Split::Validation)).count() < 60);
        assert_eq!(sample(1, Split::Train, 0, mixed), [104, 62, 72, 164, 92, 102, 224, 122, 132]);
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
            let x = draw_family(family("switching_rule"), &mut random).map(i64::from);
            for kind in [true, false] {
                let steps: HashSet<i64> = x.windows(2).filter(|w| (w[0] % 3 == 0) == kind).map(|w| w[1] - w[0]).collect();
                assert!(steps.len() <= 1, "{x:?}");
            }
        }
    }
}
