//! Initial weights.

use crate::plan::{Init, Parameter, flat_len};
use crate::random::{Random, stream};

/// Initial values of a flat parameter buffer. Each tensor draws from (seed, hash of its name), so that adding one changes no other; the
/// layers of a stack named `transformer…` start identical, as PyTorch's `TransformerEncoder` copies its first.
pub fn initial_weights(parameters: &[Parameter], seed: u64) -> Vec<f32> {
    let mut flat = vec![0.0; flat_len(parameters)];
    for parameter in parameters {
        let name: String = match parameter.name.split_once(".layers.") {
            Some((stack, rest)) if stack.starts_with("transformer") => {
                format!("{stack}.layers.{}", rest.trim_start_matches(|c: char| c.is_ascii_digit()))
            }
            _ => parameter.name.clone(),
        };
        // FNV-1a.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3));
        let mut random = Random::new(seed, stream::WEIGHTS, hash);
        for value in &mut flat[parameter.offset..parameter.offset + parameter.len()] {
            *value = match parameter.init {
                Init::Zeros => 0.0,
                Init::Ones => 1.0,
                Init::Uniform(bound) => (2.0 * random.uniform() - 1.0) * bound,
                Init::Normal(std) => random.normal() * std,
                Init::LogOfUniform(least, most) => (least + random.uniform() * (most - least)).ln(),
                Init::SoftplusLogUniform(least, most, floor) => {
                    let d = (random.uniform() * (most.ln() - least.ln()) + least.ln()).exp().max(floor);
                    // The inverse of softplus: d + ln(1 − e^(−d)).
                    d + (-(-d).exp_m1()).ln()
                }
            } as f32;
        }
    }
    flat
}
