// Gradient of the causal convolution of each channel by its input (conv1d/depthwise). The forward pass was:
//   y = f(pre), pre[u] = bias + Σ_k w[c, k] x[u − K + 1 + k, c]
// pre[u] has x[t] with w[k] where u = t + K − 1 − k. So each position gathers from itself and those after it, in a fixed order. pre is
// computed again, in the same order.
//   dx[b, t, first + c] = Σ_k w[c, k] dy[b, u, c] f'(pre[b, u, c]), 0 after the sequence
// x and dx are (batch, length, width), w is (channels, 1, K), bias is (channels), and dy is (batch, length, channels).
// One invocation computes one element, in the shape of dy. The channels of dx from `first` on are overwritten, and others are left as they
// are.
// uses: common/grid, common/depthwise, common/activation, common/math
const WG: u32 = 64u;

@group(0) @binding(3) var<storage, read> dy: array<f32>;       // (batch, length, channels)
@group(0) @binding(4) var<storage, read_write> dx: array<f32>; // (batch, length, width)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    if (i >= p.batch * p.length * p.channels) {
        return;
    }
    let row = i / p.channels;
    let c = i % p.channels;
    var sum = 0.0;
    for (var k = 0u; k < K; k++) {
        let ahead = K - 1u - k;
        if (row % p.length + ahead < p.length) {
            let g = dy[i + ahead * p.channels] * activation_derivative(ACTIVATION, before_activation(row + ahead, c));
            sum = fma(w[c * K + k], g, sum);
        }
    }
    dx[row * p.width + p.first + c] = sum;
}
