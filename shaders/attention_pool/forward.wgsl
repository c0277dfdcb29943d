// Attention of one query over the positions of its sequence. The result stands beside a second vector b.
//   s_t = q · k_t / √H;  a = softmax(s);  w = Σ_t a_t x_t;  y = [b; w]
// q is (rows, H), k is (rows, T, H), x is (rows, T, C), b is (rows, C), a is (rows, T), and y is (rows, 2, C).
// LANES invocations share a row. a and y are overwritten.
// uses: common/grid, common/reduce, common/math
const T: u32 = 5u;

struct Params { rows: u32, features: u32, cols: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> q: array<f32>;       // (rows, H)
@group(0) @binding(1) var<storage, read> k: array<f32>;       // (rows, T, H)
@group(0) @binding(2) var<storage, read> x: array<f32>;       // (rows, T, C)
@group(0) @binding(3) var<storage, read> b: array<f32>;       // (rows, C)
@group(0) @binding(4) var<storage, read_write> a: array<f32>; // (rows, T)
@group(0) @binding(5) var<storage, read_write> y: array<f32>; // (rows, 2, C)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = flat_group(group, groups) * (WG / LANES) + local / LANES;
    let lane = local % LANES;
    let safe = min(row, p.rows - 1u);
    var scores: array<f32, T>;
    var best = -3.0e38;
    for (var t = 0u; t < T; t++) {
        var sum = 0.0;
        for (var c = lane; c < p.features; c += LANES) {
            sum = fma(q[safe * p.features + c], k[(safe * T + t) * p.features + c], sum);
        }
        scores[t] = row_sum(sum, local) / sqrt(f32(p.features));
        best = max(best, scores[t]);
    }
    var total = 0.0;
    for (var t = 0u; t < T; t++) {
        scores[t] = exp_accurate(scores[t] - best);
        total += scores[t];
    }
    if (row >= p.rows) {
        return;
    }
    for (var t = 0u; t < T; t++) {
        scores[t] /= total;
        if (lane == 0u) {
            a[row * T + t] = scores[t];
        }
    }
    for (var c = lane; c < p.cols; c += LANES) {
        var sum = 0.0;
        for (var t = 0u; t < T; t++) {
            sum = fma(scores[t], x[(row * T + t) * p.cols + c], sum);
        }
        y[row * 2u * p.cols + c] = b[row * p.cols + c];
        y[(row * 2u + 1u) * p.cols + c] = sum;
    }
}
