// Causal convolution of each channel by itself, with what follows it (the short convolution of Mamba, Gu & Dao 2023, section 3.4):
//   y[b, t, c] = f(bias[c] + Σ_k w[c, k] x[b, t − K + 1 + k, first + c]), 0 before the sequence
// x: (batch, length, width), of which the channels from `first` on are taken; w: (channels, 1, K); bias: (channels); y: (batch, length, channels).
// Grid: one invocation an element of y. y is `=`.
// uses: common/grid, common/depthwise, common/activation, common/math
const WG: u32 = 64u;

@group(0) @binding(3) var<storage, read_write> y: array<f32>; // (batch, length, channels)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    if (i >= p.batch * p.length * p.channels) {
        return;
    }
    y[i] = activate(ACTIVATION, before_activation(i / p.channels, i % p.channels));
}
