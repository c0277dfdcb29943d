//! Associative recall: sequences that name a value for each of some keys, and then ask for one of them again (Arora et al. 2023, section 3, one query). How
//! far back it stands is how long a memory must be.

use super::shuffle;
use crate::random::Random;

/// Stream of the random numbers of this data set.
const STREAM: u32 = 13;

/// Sequences of tokens with the value that each asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecallData {
    /// Tokens, shape (samples, length): keys are 0 to keys − 1, values keys to 2 · keys − 1, and 2 · keys means nothing.
    pub tokens: Vec<i32>,
    /// Number of the value that is asked for, from 0 to keys − 1.
    pub labels: Vec<i32>,
}

/// Makes sequences of `length` tokens: each of the keys once, followed by its value, at random places, and at the end a key that is asked for. `length` is at least
/// 2 · keys + 1.
pub fn samples(seed: u64, count: usize, length: usize, keys: usize) -> RecallData {
    let mut data = RecallData { tokens: Vec::with_capacity(count * length), labels: Vec::with_capacity(count) };
    for sample in 0..count {
        let mut random = Random::new(seed, STREAM, sample as u64);
        let mut places: Vec<usize> = (0..(length - 1) / 2).collect();
        shuffle(&mut places, Random::new(seed, STREAM + 1, sample as u64));
        let mut tokens = vec![2 * keys as i32; length];
        let values: Vec<i32> = (0..keys).map(|_| random.between(0, keys as i64 - 1) as i32).collect();
        for (key, (value, place)) in values.iter().zip(&places).enumerate() {
            tokens[2 * place] = key as i32;
            tokens[2 * place + 1] = keys as i32 + value;
        }
        let asked = random.between(0, keys as i64 - 1);
        tokens[length - 1] = asked as i32;
        data.tokens.extend(tokens);
        data.labels.push(values[asked as usize]);
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_stands_behind_the_key_that_is_asked_for() {
        for (length, keys) in [(9, 4), (64, 8), (33, 16)] {
            let data = samples(3, 40, length, keys);
            assert_eq!((data.tokens.len(), data.labels.len()), (40 * length, 40));
            for (tokens, label) in data.tokens.chunks(length).zip(&data.labels) {
                let asked = tokens[length - 1];
                let places: Vec<usize> = (0..length - 1).filter(|t| tokens[*t] == asked).collect();
                assert_eq!(places.len(), 1);
                assert_eq!(tokens[places[0] + 1], keys as i32 + label);
                let keys_there = tokens[..length - 1].iter().filter(|t| **t < keys as i32).count();
                assert_eq!(keys_there, keys);
            }
            assert_ne!(data, samples(4, 40, length, keys));
        }
    }
}
