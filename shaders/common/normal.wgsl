// Standard normal number of element `index`, by Box and Muller. The Rust twin is random::normal_at. It needs common/random and common/math.
fn normal(seed: u32, stream: u32, tick: u32, index: u32) -> f32 {
    let bits = threefry(vec2<u32>(seed, stream), vec2<u32>(index, tick));
    // (0, 1], whose logarithm is finite.
    let radius = sqrt(-2.0 * log_accurate((f32(bits.x >> 8u) + 1.0) / 16777216.0));
    return radius * sin_cos(6.28318531 * (f32(bits.y >> 8u) / 16777216.0)).y;
}
