//! Associative recall: sequences that name a value for each of some keys, and then ask for one of them again (Arora et al. 2023, section 3,
//! one query). How far back it stands is how long a memory must be.

use super::{SampleStream, shuffle};
use crate::random::Random;

/// Sequence number `item` of a stream: `length` tokens with each of the keys once, followed by its value, at random places, and at the end
/// a key that is asked for; and the number of its value. Keys are the tokens 0 to keys − 1, values keys to 2 · keys − 1, and 2 · keys means
/// nothing. `length` is at least 2 · keys + 1.
pub fn sample(seed: u64, stream: SampleStream, item: u64, length: usize, keys: usize) -> (Vec<u32>, u32) {
    let mut random = Random::new(seed, stream as u32, item);
    let mut draw = || random.between(0, keys as i64 - 1) as u32;
    let values: Vec<u32> = (0..keys).map(|_| draw()).collect();
    let asked = draw();
    let mut places: Vec<usize> = (0..(length - 1) / 2).collect();
    shuffle(&mut places, random);
    let mut tokens = vec![2 * keys as u32; length];
    for ((key, value), place) in (0..).zip(&values).zip(places) {
        tokens[2 * place] = key;
        tokens[2 * place + 1] = keys as u32 + value;
    }
    tokens[length - 1] = asked;
    (tokens, values[asked as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_stands_behind_the_key_that_is_asked_for() {
        for (length, keys) in [(9, 4), (64, 8), (33, 16)] {
            for item in 0..40 {
                let (tokens, value) = sample(3, SampleStream::Train, item, length, keys);
                let asked = tokens[length - 1];
                let places: Vec<usize> = (0..length - 1).filter(|t| tokens[*t] == asked).collect();
                assert_eq!((tokens.len(), places.len()), (length, 1));
                assert_eq!(tokens[places[0] + 1], keys as u32 + value);
                assert_eq!(tokens[..length - 1].iter().filter(|t| **t < keys as u32).count(), keys);
                assert_ne!(tokens, sample(3, SampleStream::Test, item, length, keys).0);
            }
        }
    }
}
