// Matrix product of few outputs and long sums, such as the gradient of a narrow layer's weights. The formula, the shapes and the epilogue
// are those of common/matmul, for one product without a batch.
// WG / COLS invocations share an output. Each takes every STRIDE-th step of k, four at a time, so that their loads are under way together.
// Their sums are added in a fixed order.
// One workgroup computes COLS outputs, and outputs go along n fastest.
// uses: common/grid, common/matmul_options, common/matmul, common/activation, common/math, common/random, common/state, common/sum
const WG: u32 = 256u;
const COLS: u32 = 16u;
const STRIDE: u32 = WG / COLS;

@group(0) @binding(1) var<storage, read> a: array<f32>; // (M, K)
@group(0) @binding(2) var<storage, read> b: array<f32>; // (K, N)

var<workgroup> sums: array<vec2<f32>, WG>;

// What y[i] already holds of the sum of this step.
fn sum_before(i: u32) -> f32 {
    if (accumulates()) {
        return y[i];
    }
    return 0.0;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let output = flat_group(group, groups) * COLS + local % COLS;
    let safe = min(output, p.m * p.n - 1u);
    let m = safe / p.n;
    let n = safe % p.n;
    // The sums Σ A·B of the output, and Σ A of the row sum.
    var sum = vec2<f32>(0.0);
    for (var k = local / COLS; k < p.k; k += 4u * STRIDE) {
        for (var i = 0u; i < 4u; i++) {
            let at = min(k + i * STRIDE, p.k - 1u);
            let av = select(0.0, a[index_a(0u, m, at)], k + i * STRIDE < p.k);
            sum = fma(vec2<f32>(av), vec2<f32>(b[index_b(0u, at, n)], 1.0), sum);
        }
    }
    sums[local] = sum;
    for (var stride = WG / 2u; stride >= COLS; stride >>= 1u) {
        workgroupBarrier();
        if (local < stride) {
            sums[local] += sums[local + stride];
        }
    }
    if (local < COLS && output < p.m * p.n) {
        store(0u, m, n, sums[local].x + bias_of(n));
        if (ROW_SUM == 1u) {
            if (n == 0u) {
                store_row_sum(m, sums[local].y);
            }
        }
    }
}
