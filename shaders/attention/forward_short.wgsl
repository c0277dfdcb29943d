// Scaled dot-product attention for short sequences, on cards. It is attention/forward_rows with the T × T scores of HEADS heads in
// workgroup memory, so that no invocation holds a row.
//   s_ij = q_i · k_j / √D (j ≤ i when CAUSAL), p_i = softmax_j s_i, y_i = Σ_j p_ij · keep_ij · v_j, lse_i = ln Σ_j exp s_ij
// qkv is (B, T, 3, H, D). With CROSS, q is (B, T, H, D) and qkv is (B, T, 2, H, D). y is (B, T, H, D), and lse is (B, H, T).
// With ROPE, queries and keys are rotated by their position as they are loaded. The formula and the table are those of rope/rotate.
// The invocations of a workgroup share the elements of each stage: rows to load, pairs (i, j), rows of the softmax, and features of y.
// One workgroup computes HEADS of the pairs (b, h). All outputs are overwritten.
// uses: common/attention_short, common/grid, common/math, common/random, common/state
const WG: u32 = 64u;

@group(0) @binding(4) var<storage, read_write> y: array<f32>;   // (B, T, H, D)
@group(0) @binding(5) var<storage, read_write> lse: array<f32>; // (B, H, T)

var<workgroup> weights: array<f32, HEADS * T * T>; // scores, then p · keep

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first = flat_group(group, groups) * HEADS;
    let all = p.batch * p.heads;
    for (var e = local; e < HEADS * T * D; e += WG) {
        load(e, min(first + e / (T * D), all - 1u));
    }
    workgroupBarrier();
    let scale = 1.0 / sqrt(f32(D));
    for (var e = local; e < HEADS * T * T; e += WG) {
        let i = e / T * PITCH;
        let j = (e / (T * T) * T + e % T) * PITCH;
        var s = 0.0;
        for (var c = 0u; c < D; c++) {
            s = fma(queries[i + c] * scale, keys[j + c], s);
        }
        weights[e] = s;
    }
    workgroupBarrier();
    for (var row = local; row < HEADS * T; row += WG) {
        let head = first + row / T;
        let i = row % T;
        let end = select(T, i + 1u, CAUSAL == 1u);
        var best = -3.0e38;
        for (var j = 0u; j < end; j++) {
            best = max(best, weights[row * T + j]);
        }
        var total = 0.0;
        for (var j = 0u; j < end; j++) {
            total += exp_accurate(weights[row * T + j] - best);
        }
        for (var j = 0u; j < T; j++) {
            var weight = 0.0;
            if (j < end) {
                weight = exp_accurate(weights[row * T + j] - best) / total;
                if (DROPOUT == 1u) {
                    weight *= keep(state.seed, p.stream, state.tick, (head * T + i) * T + j, p.rate);
                }
            }
            weights[row * T + j] = weight;
        }
        if (head < all) {
            lse[head * T + i] = best + log_accurate(total);
        }
    }
    workgroupBarrier();
    for (var e = local; e < HEADS * T * D; e += WG) {
        let row = e / D;
        let head = first + row / T;
        var sum = 0.0;
        for (var j = 0u; j < T; j++) {
            sum = fma(weights[row * T + j], values[(row / T * T + j) * PITCH + e % D], sum);
        }
        if (head < all) {
            y[out_of(head, row % T) + e % D] = sum;
        }
    }
}
