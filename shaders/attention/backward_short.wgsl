// Gradient of attention for short sequences, on cards. It is attention/backward_rows, which has the derivation, with the T × T matrices of
// HEADS heads in workgroup memory. delta_i = dy_i · y_i is taken as Σ_j p_ij keep_ij dy_i · v_j, which is the same, so that y is not read.
//   p_ij = exp(q_i · k_j / √D − lse_i);  ds_ij = p_ij (keep_ij dy_i · v_j − delta_i)
//   dq_i = Σ_j ds_ij k_j / √D;  dk_j = Σ_i ds_ij q_i / √D;  dv_j = Σ_i p_ij keep_ij dy_i
// qkv and dqkv are (B, T, 3, H, D). With CROSS, q and dq are (B, T, H, D), and qkv and dqkv are (B, T, 2, H, D). dy is (B, T, H, D), and
// lse is (B, H, T).
// With ROPE, queries and keys are rotated by their position as they are loaded, and their gradients are rotated back before they are
// stored. The formula and the table are those of rope/rotate.
// The invocations of a workgroup share the elements of each stage: rows to load, pairs (i, j), rows of delta, and features of the
// gradients.
// One workgroup computes HEADS of the pairs (b, h). dqkv and dq are overwritten.
// uses: common/attention_short, common/grid, common/math, common/random, common/state
const WG: u32 = 64u;
// Features of the gradients that an invocation computes: with ROPE, the two that are rotated together.
const EACH: u32 = 1u + ROPE;

@group(0) @binding(4) var<storage, read> lse: array<f32>;        // (B, H, T)
@group(0) @binding(5) var<storage, read> dy: array<f32>;         // (B, T, H, D)
@group(0) @binding(6) var<storage, read_write> dqkv: array<f32>; // (B, T, 3, H, D)
@group(0) @binding(7) var<storage, read_write> dq: array<f32>;   // (B, T, H, D)

var<workgroup> dys: array<f32, HEADS * T * PITCH>;
var<workgroup> probs: array<f32, HEADS * T * T>; // p, then ds / √D
var<workgroup> dps: array<f32, HEADS * T * T>;   // keep · dy · v
var<workgroup> kept: array<f32, HEADS * T * T>;  // p · keep

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first = flat_group(group, groups) * HEADS;
    let all = p.batch * p.heads;
    for (var e = local; e < HEADS * T * D; e += WG) {
        let head = min(first + e / (T * D), all - 1u);
        let at = load(e, head);
        dys[at] = dy[out_of(head, e / D % T) + e % D];
    }
    workgroupBarrier();
    let scale = 1.0 / sqrt(f32(D));
    for (var e = local; e < HEADS * T * T; e += WG) {
        let head = min(first + e / (T * T), all - 1u);
        let i = e / T;
        let j = e / (T * T) * T + e % T;
        var s = 0.0;
        var dp = 0.0;
        for (var c = 0u; c < D; c++) {
            s = fma(queries[i * PITCH + c], keys[j * PITCH + c], s);
            dp = fma(dys[i * PITCH + c], values[j * PITCH + c], dp);
        }
        var prob = exp_accurate(s * scale - lse[head * T + i % T]);
        if (CAUSAL == 1u && e % T > i % T) {
            prob = 0.0;
        }
        var factor = 1.0;
        if (DROPOUT == 1u) {
            factor = keep(state.seed, p.stream, state.tick, (head * T + i % T) * T + e % T, p.rate);
        }
        probs[e] = prob;
        kept[e] = prob * factor;
        dps[e] = dp * factor;
    }
    workgroupBarrier();
    for (var row = local; row < HEADS * T; row += WG) {
        var delta = 0.0;
        for (var j = 0u; j < T; j++) {
            delta = fma(probs[row * T + j], dps[row * T + j], delta);
        }
        for (var j = 0u; j < T; j++) {
            probs[row * T + j] *= (dps[row * T + j] - delta) * scale;
        }
    }
    workgroupBarrier();
    for (var e = local; e < HEADS * T * (D / EACH); e += WG) {
        let row = e / (D / EACH);
        let start = row / T * T;
        let t = row % T;
        // Gradients of query, key and value, for one feature or for the two that are rotated together.
        var sums: array<vec3<f32>, EACH>;
        for (var i = 0u; i < EACH; i++) {
            for (var o = 0u; o < T; o++) {
                let other = (start + o) * PITCH + e % (D / EACH) + i * HALF;
                let weights = vec3<f32>(probs[row * T + o], probs[(start + o) * T + t], kept[(start + o) * T + t]);
                sums[i] = fma(weights, vec3<f32>(keys[other], queries[other], dys[other]), sums[i]);
            }
        }
        if (ROPE == 1u) {
            let angle = (t * HALF + e % HALF) * 2u;
            let cosine = vec3<f32>(vec2<f32>(table[angle]), 1.0);
            let sine = vec3<f32>(vec2<f32>(table[angle + 1u]), 0.0);
            let a = sums[0];
            let b = sums[EACH - 1u];
            sums[0] = a * cosine + b * sine;
            sums[EACH - 1u] = b * cosine - a * sine;
        }
        let head = first + row / T;
        if (head < all) {
            for (var i = 0u; i < EACH; i++) {
                let c = e % (D / EACH) + i * HALF;
                if (CROSS == 1u) {
                    dq[out_of(head, t) + c] = sums[i].x;
                } else {
                    dqkv[row_of(head, t, 0u) + c] = sums[i].x;
                }
                dqkv[row_of(head, t, 1u) + c] = sums[i].y;
                dqkv[row_of(head, t, 2u) + c] = sums[i].z;
            }
        }
    }
}
