// Random numbers by Threefry-2x32, 20 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). They are a function
// of (key, counter) alone, so that the backward pass draws the forward pass's numbers again.
fn threefry_round(x: vec2<u32>, r: u32) -> vec2<u32> {
    let sum = x.x + x.y;
    return vec2<u32>(sum, ((x.y << r) | (x.y >> (32u - r))) ^ sum);
}

fn threefry(key: vec2<u32>, counter: vec2<u32>) -> vec2<u32> {
    let third = key.x ^ key.y ^ 0x1BD11BDAu;
    var x = counter + key;
    x = threefry_round(threefry_round(threefry_round(threefry_round(x, 13u), 15u), 26u), 6u);
    x += vec2<u32>(key.y, third + 1u);
    x = threefry_round(threefry_round(threefry_round(threefry_round(x, 17u), 29u), 16u), 24u);
    x += vec2<u32>(third, key.x + 2u);
    x = threefry_round(threefry_round(threefry_round(threefry_round(x, 13u), 15u), 26u), 6u);
    x += vec2<u32>(key.x, key.y + 3u);
    x = threefry_round(threefry_round(threefry_round(threefry_round(x, 17u), 29u), 16u), 24u);
    x += vec2<u32>(key.y, third + 4u);
    x = threefry_round(threefry_round(threefry_round(threefry_round(x, 13u), 15u), 26u), 6u);
    return x + vec2<u32>(third, key.x + 5u);
}

// Inverted dropout of element `index`: 0 with probability rate, else 1 / (1 - rate).
fn keep(seed: u32, stream: u32, tick: u32, index: u32, rate: f32) -> f32 {
    let bits = threefry(vec2<u32>(seed, stream), vec2<u32>(index, tick)).x;
    return select(0.0, 1.0 / (1.0 - rate), f32(bits >> 8u) >= rate * 16777216.0);
}
