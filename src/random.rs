//! Counter-based random numbers: a value is a function of (seed, stream, a, b), so nothing has to be saved to repeat it.
//!
//! Threefry-2x32 with 20 rounds (Salmon et al., SC 2011), the same as in `shaders/common/random.wgsl`.

/// Threefry-2x32-20 of a key and a counter.
pub fn threefry(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    const ROTATIONS: [[u32; 4]; 2] = [[13, 15, 26, 6], [17, 29, 16, 24]];
    let keys = [key[0], key[1], key[0] ^ key[1] ^ 0x1BD1_1BDA];
    let mut x = [counter[0].wrapping_add(keys[0]), counter[1].wrapping_add(keys[1])];
    for group in 0..5usize {
        for rotation in ROTATIONS[group % 2] {
            x[0] = x[0].wrapping_add(x[1]);
            x[1] = x[1].rotate_left(rotation) ^ x[0];
        }
        x[0] = x[0].wrapping_add(keys[(group + 1) % 3]);
        x[1] = x[1].wrapping_add(keys[(group + 2) % 3]).wrapping_add(group as u32 + 1);
    }
    x
}

/// Inverted dropout of one element: 0, or 1 / (1 − rate). Twin of `keep` in the shader.
pub fn keep(seed: u32, stream: u32, tick: u32, index: u32, rate: f32) -> f32 {
    let bits = threefry([seed, stream], [index, tick])[0];
    if (bits >> 8) as f32 >= rate * 16_777_216.0 { 1.0 / (1.0 - rate) } else { 0.0 }
}

/// Standard normal number of one element, by Box and Muller. Twin of `normal` in the shader.
pub fn normal_at(seed: u32, stream: u32, tick: u32, index: u32) -> f64 {
    let [a, b] = threefry([seed, stream], [index, tick]).map(|bits| f64::from(bits >> 8));
    (-2.0 * ((a + 1.0) / 16_777_216.0).ln()).sqrt() * (std::f64::consts::TAU * b / 16_777_216.0).cos()
}

/// The stream of each use, so that no two share numbers. Dropout and noise on the device take theirs from `Plan::stream`.
pub mod stream {
    /// Generated training samples.
    pub const TRAINING: u32 = 1;
    /// Generated validation samples: fresh ones at each validation.
    pub const VALIDATION: u32 = 2;
    /// Generated samples for the closing report and `engine eval`.
    pub const TEST: u32 = 3;
    /// Order of the samples of an epoch.
    pub const ORDER: u32 = 10;
    /// Split into training and validation.
    pub const SPLIT: u32 = 11;
    /// Linkages.
    pub const LINKAGES: u32 = 12;
    /// Initial weights.
    pub const WEIGHTS: u32 = 20;
    /// Gaussian Fourier features.
    pub const FREQUENCIES: u32 = 21;
    /// Anchors of the mmd term.
    pub const ANCHORS: u32 = 30;
    /// Batches of the cycle term.
    pub const CYCLE: u32 = 31;
    /// Made-up mechanisms.
    pub const MADE_UP_MECHANISMS: u32 = 32;
    /// Made-up images.
    pub const MADE_UP_IMAGES: u32 = 33;
    /// Made-up vectors.
    pub const MADE_UP_VECTORS: u32 = 35;
    /// Numbers drawn by `engine generate`, whose seed is not that of a run.
    pub const GENERATE: u32 = 30;
}

/// A sequence of random numbers that starts at (seed, stream, item).
#[derive(Debug, Clone)]
pub struct Random {
    key: [u32; 2],
    item: u32,
    drawn: u32,
}

impl Random {
    /// Numbers of item `item` in stream `stream`.
    pub fn new(seed: u64, stream: u32, item: u64) -> Self {
        // The high halves are folded into the key, so that each of 2^64 seeds and items has its own sequence.
        let high = threefry([(seed >> 32) as u32, (item >> 32) as u32], [seed as u32, stream]);
        Random { key: high, item: item as u32, drawn: 0 }
    }

    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        self.drawn += 1;
        threefry(self.key, [self.item, self.drawn])[0]
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn uniform(&mut self) -> f64 {
        self.drawn += 1;
        let [a, b] = threefry(self.key, [self.item, self.drawn]);
        (u64::from(a) << 21 ^ u64::from(b) >> 11) as f64 / 9_007_199_254_740_992.0
    }

    /// Uniform integer in `low..=high`.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low + (self.uniform() * (high - low + 1) as f64) as i64
    }

    /// Standard normal, by Box and Muller.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// One of the given values.
    pub fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.between(0, values.len() as i64 - 1) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the Random123 distribution (`kat_vectors`, threefry2x32 20).
    #[test]
    fn threefry_gives_the_known_answers() {
        assert_eq!(threefry([0, 0], [0, 0]), [0x6b20_0159, 0x99ba_4efe]);
        assert_eq!(threefry([u32::MAX; 2], [u32::MAX; 2]), [0x1cb9_96fc, 0xbb00_2be7]);
        assert_eq!(threefry([0x1319_8a2e, 0x0370_7344], [0x243f_6a88, 0x85a3_08d3]), [0xc492_3a9c, 0x483d_f7a0]);
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut random = Random::new(7, 1, 0);
        let normal: Vec<f64> = (0..20_000).map(|_| random.normal()).collect();
        let mean = normal.iter().sum::<f64>() / 20_000.0;
        let variance = normal.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.04, "{mean} {variance}");
        assert!((0..1000).all(|_| (3..=5).contains(&random.between(3, 5))));
    }
}
