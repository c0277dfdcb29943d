// Gradients of the causal convolution of each channel by its weights and bias. The forward pass was y = f(pre) with
// pre = bias + Σ_k w[c, k] x[t − K + 1 + k, c] at every position. pre is computed again, and dpre = dy ⊙ f'(pre):
//   dw[c, k] = Σ_{b, t} dpre[b, t, c] x[b, t − K + 1 + k, first + c];  db[c] = Σ_{b, t} dpre[b, t, c]
// The rows (b, t) from `start` to `end` − 1 are summed. x is (batch, length, width), and dy is (batch, length, channels). w and dw are
// (channels, 1, K), and bias and db are (channels).
// A workgroup computes COLS channels. The WG / COLS invocations of a channel stride over the rows, and their sums are added in a fixed
// order. dw and db are added to (common/sum).
// uses: common/grid, common/columns, common/depthwise, common/activation, common/math, common/state, common/sum
alias Sum = f32;

@group(0) @binding(3) var<storage, read> dy: array<f32>;       // (batch, length, channels)
@group(0) @binding(4) var<storage, read_write> dw: array<f32>; // (channels, 1, K)
@group(0) @binding(5) var<storage, read_write> db: array<f32>; // (channels)
@group(0) @binding(6) var<storage, read> state: State;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let c = flat_group(group, groups) * COLS + local % COLS;
    let safe = min(c, p.channels - 1u);
    var taps: array<f32, K>;
    var shift = 0.0;
    for (var row = p.start + local / COLS; row < p.end; row += WG / COLS) {
        let g = dy[row * p.channels + safe] * activation_derivative(ACTIVATION, before_activation(row, safe));
        shift += g;
        for (var k = 0u; k < K; k++) {
            let back = K - 1u - k;
            if (row % p.length >= back) {
                taps[k] = fma(g, x[(row - back) * p.width + p.first + safe], taps[k]);
            }
        }
    }
    for (var k = 0u; k < K; k++) {
        var sum = column_sum(taps[k], local);
        if (local < COLS && c < p.channels) {
            if (accumulates()) {
                sum += dw[c * K + k];
            }
            dw[c * K + k] = sum;
        }
    }
    shift = column_sum(shift, local);
    if (local < COLS && c < p.channels) {
        if (accumulates()) {
            shift += db[c];
        }
        db[c] = shift;
    }
}
