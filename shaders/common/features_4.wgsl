// Access to four features of a row at a time.
const FEATURES: u32 = 4u;
alias Features = vec4<f32>;
alias Pair = mat2x4<f32>;

fn sum(x: Features) -> f32 {
    return (x.x + x.y) + (x.z + x.w);
}

fn first_of(x: Features) -> f32 {
    return x.x;
}

fn component(x: Features, k: u32) -> f32 {
    return x[k];
}

// x with component k replaced.
fn put(x: Features, k: u32, value: f32) -> Features {
    return select(x, Features(value), vec4<u32>(0u, 1u, 2u, 3u) == vec4<u32>(k));
}
