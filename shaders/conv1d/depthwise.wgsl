// Causal convolution of each channel by itself, with the activation that follows it (the short convolution of Mamba, Gu & Dao 2023,
// section 3.4).
//   y[b, t, c] = f(bias[c] + Σ_k w[c, k] x[b, t − K + 1 + k, first + c])
// Before the sequence x is 0. With CARRY, x before the sequence is the window of the last K − 1 inputs that the feed before has left
// (common/carry), if there was one. The window of these positions is left for the next.
// x is (batch, length, width), of which the channels from `first` on are taken. w is (channels, 1, K), bias is (channels), and y is (batch,
// length, channels). window is (half, batch, K − 1, channels), and sources is (batch, limit).
// One invocation computes one element of y. y is overwritten, and so is one half of the window.
// uses: common/grid, common/depthwise, common/activation, common/math, common/state, common/carry
const WG: u32 = 64u;
const CARRY: u32 = 0u;

@group(0) @binding(3) var<storage, read_write> y: array<f32>;      // (batch, length, channels)
@group(0) @binding(4) var<storage, read> state: State;
@group(0) @binding(5) var<storage, read> sources: array<u32>;      // (batch, limit)
@group(0) @binding(6) var<storage, read_write> window: array<f32>; // (half, batch, K − 1, channels)

// Input of channel c that lies `back` positions, from 1 to K − 1, before the first one of this feed.
fn earlier(b: u32, c: u32, back: u32) -> f32 {
    if (state.position < back) {
        return 0.0;
    }
    return window[((half_before() * p.batch + row_before(b)) * (K - 1u) + K - 1u - back) * p.channels + c];
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    if (i >= p.batch * p.length * p.channels) {
        return;
    }
    let row = i / p.channels;
    let c = i % p.channels;
    var start = bias[c];
    if (CARRY == 1u) {
        let b = row / p.length;
        let t = row % p.length;
        for (var k = 0u; k < K - 1u; k++) {
            if (t < K - 1u - k) {
                start = fma(w[c * K + k], earlier(b, c, K - 1u - k - t), start);
            }
        }
        if (t == p.length - 1u) {
            for (var k = 0u; k < K - 1u; k++) {
                // How many steps the entry lies back from the last position.
                let back = K - 2u - k;
                var value = 0.0;
                if (back <= t) {
                    value = x[(row - back) * p.width + p.first + c];
                } else {
                    value = earlier(b, c, back - t);
                }
                window[((state.tick % 2u * p.batch + b) * (K - 1u) + k) * p.channels + c] = value;
            }
        }
    }
    y[i] = activate(ACTIVATION, causal_sum(row, c, start));
}
