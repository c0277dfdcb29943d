//! Data sets. Host only.

pub mod integer_sequences;
pub mod linkages;
pub mod npz;
pub mod vectors;

use crate::random::Random;

/// Stream of random numbers of each use, so that no two share any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Split {
    /// Training samples.
    Train = 1,
    /// Validation samples: fresh ones at each validation.
    Validation = 2,
    /// Samples for `engine eval`.
    Test = 3,
}

/// Stream of the order of an epoch.
const ORDER: u32 = 10;

/// Order in which the `n` items of an epoch are visited: a permutation drawn from (seed, epoch), by Fisher and Yates.
pub fn epoch_order(seed: u64, epoch: u64, n: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    let mut random = Random::new(seed, ORDER, epoch);
    for i in (1..n).rev() {
        order.swap(i, random.between(0, i as i64) as usize);
    }
    order
}
