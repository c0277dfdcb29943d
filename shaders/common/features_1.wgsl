// Access to one feature of a row at a time, where the number of features is no multiple of four.
const FEATURES: u32 = 1u;
alias Features = f32;
alias Pair = vec2<f32>;

fn sum(x: Features) -> f32 {
    return x;
}

fn first_of(x: Features) -> f32 {
    return x;
}

fn component(x: Features, k: u32) -> f32 {
    return x;
}

// x with component k replaced.
fn put(x: Features, k: u32, value: f32) -> Features {
    return value;
}
