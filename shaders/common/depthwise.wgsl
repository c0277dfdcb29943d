// What the kernels of a causal convolution of each channel by itself share.
const K: u32 = 4u;
const ACTIVATION: u32 = 5u;

struct Params { batch: u32, length: u32, channels: u32, width: u32, first: u32, start: u32, end: u32, limit: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;    // (batch, length, width)
@group(0) @binding(1) var<storage, read> w: array<f32>;    // (channels, 1, K)
@group(0) @binding(2) var<storage, read> bias: array<f32>; // (channels)

// `start` + Σ_k w[c, k] x[t − K + 1 + k, first + c] of row (b, t), from positions of the sequence alone.
fn causal_sum(row: u32, c: u32, start: f32) -> f32 {
    var sum = start;
    for (var k = 0u; k < K; k++) {
        // Steps back from position t.
        let back = K - 1u - k;
        if (row % p.length >= back) {
            sum = fma(w[c * K + k], x[(row - back) * p.width + p.first + c], sum);
        }
    }
    return sum;
}

// What the activation is of: bias[c] and the sum, 0 before the sequence.
fn before_activation(row: u32, c: u32) -> f32 {
    return causal_sum(row, c, bias[c]);
}
