// Gradient of attention (Vaswani et al. 2017, eq. 1) by recomputation (Dao et al. 2022, appendix B.2; with dropout, B.4). Forward, with
// sums over the pairs that are seen (j ≤ i when CAUSAL): s_ij = q_i · k_j / √D, p_ij = exp(s_ij − lse_i), y_i = Σ_j p_ij keep_ij v_j.
//   dv_j = Σ_i p_ij keep_ij dy_i;  by p_ij: dp_ij = keep_ij dy_i · v_j
//   ∂p_ij/∂s_il = p_ij (δ_jl − p_il), so ds_ij = p_ij (dp_ij − Σ_l p_il dp_il), where Σ_l p_il keep_il dy_i · v_l = dy_i · y_i = delta_i:
//   ds_ij = p_ij (keep_ij dy_i · v_j − delta_i);  dq_i = Σ_j ds_ij k_j / √D;  dk_j = Σ_i ds_ij q_i / √D
// qkv dqkv: (B, T, 3, H, D), or with CROSS q dq: (B, T, H, D) and qkv dqkv: (B, T, 2, H, D); y dy: (B, T, H, D); lse: (B, H, T).
// Invocation i first gathers over keys as query i, then over queries as key i, so nothing is scattered. Rows of the other side come in
// tiles of WG through workgroup memory.
// Grid: ⌈T / WG⌉ workgroups for each (b, h). dqkv and dq are `=`.
// uses: common/attention_staged, common/grid, common/math, common/random, common/state

@group(0) @binding(3) var<storage, read> y: array<f32>;          // (B, T, H, D)
@group(0) @binding(4) var<storage, read> lse: array<f32>;        // (B, H, T)
@group(0) @binding(5) var<storage, read> dy: array<f32>;         // (B, T, H, D)
@group(0) @binding(6) var<storage, read_write> dqkv: array<f32>; // (B, T, 3, H, D)
@group(0) @binding(7) var<storage, read_write> dq: array<f32>;   // (B, T, H, D)

var<workgroup> left: array<f32, WG * D>;  // keys, then queries
var<workgroup> right: array<f32, WG * D>; // values, then dy
var<workgroup> lses: array<f32, WG>;
var<workgroup> deltas: array<f32, WG>;

fn delta_of(out: u32) -> f32 {
    var sum = 0.0;
    for (var c = 0u; c < D; c++) {
        sum = fma(dy[out + c], y[out + c], sum);
    }
    return sum;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let tiles = (p.length + WG - 1u) / WG;
    let g = flat_group(group, groups);
    let head = g / tiles;
    if (head >= p.batch * p.heads) {
        return;
    }
    let b = head / p.heads;
    let h = head % p.heads;
    let tile = g % tiles * WG;
    let i = tile + local;
    let safe = min(i, p.length - 1u);
    let scale = 1.0 / sqrt(f32(D));
    let own_out = out_of(b, safe, h);
    let own_lse = lse[head * p.length + safe];
    let own_delta = delta_of(own_out);
    var first: array<f32, D>;  // q_i, then k_i
    var second: array<f32, D>; // dy_i, then v_i
    var grad: array<f32, D>;   // dq_i, then dk_i
    var dv: array<f32, D>;
    for (var c = 0u; c < D; c++) {
        first[c] = query(b, safe, h, c);
        second[c] = dy[own_out + c];
    }
    let last = select(p.length, min(p.length, tile + WG), CAUSAL == 1u);
    for (var j0 = 0u; j0 < last; j0 += WG) {
        workgroupBarrier();
        for (var e = local; e < WG * D; e += WG) {
            let j = min(j0 + e / D, p.length - 1u);
            left[e] = qkv[row_of(b, j, 1u, h) + e % D];
            right[e] = qkv[row_of(b, j, 2u, h) + e % D];
        }
        workgroupBarrier();
        let end = min(j0 + WG, select(p.length, safe + 1u, CAUSAL == 1u));
        for (var j = j0; j < end; j++) {
            let at = (j - j0) * D;
            var s = 0.0;
            var dp = 0.0;
            for (var c = 0u; c < D; c++) {
                s = fma(first[c], left[at + c], s);
                dp = fma(second[c], right[at + c], dp);
            }
            if (DROPOUT == 1u) {
                dp *= keep(state.seed, p.stream, state.tick, (head * p.length + safe) * p.length + j, p.rate);
            }
            let ds = exp_accurate(s * scale - own_lse) * (dp - own_delta) * scale;
            for (var c = 0u; c < D; c++) {
                grad[c] = fma(ds, left[at + c], grad[c]);
            }
        }
    }
    for (var c = 0u; c < D; c++) {
        if (i < p.length) {
            if (CROSS == 1u) {
                dq[out_of(b, i, h) + c] = grad[c];
            } else {
                dqkv[row_of(b, i, 0u, h) + c] = grad[c];
            }
        }
        first[c] = qkv[row_of(b, safe, 1u, h) + c];
        second[c] = qkv[row_of(b, safe, 2u, h) + c];
        grad[c] = 0.0;
    }
    for (var i0 = select(0u, tile, CAUSAL == 1u); i0 < p.length; i0 += WG) {
        workgroupBarrier();
        for (var e = local; e < WG * D; e += WG) {
            let q = min(i0 + e / D, p.length - 1u);
            left[e] = query(b, q, h, e % D);
            right[e] = dy[out_of(b, q, h) + e % D];
        }
        let own_q = min(i0 + local, p.length - 1u);
        lses[local] = lse[head * p.length + own_q];
        deltas[local] = delta_of(out_of(b, own_q, h));
        workgroupBarrier();
        for (var q = max(i0, select(0u, safe, CAUSAL == 1u)); q < min(i0 + WG, p.length); q++) {
            let at = (q - i0) * D;
            var s = 0.0;
            var dp = 0.0;
            for (var c = 0u; c < D; c++) {
                s = fma(first[c], left[at + c], s);
                dp = fma(second[c], right[at + c], dp);
            }
            var kept = 1.0;
            if (DROPOUT == 1u) {
                kept = keep(state.seed, p.stream, state.tick, (head * p.length + q) * p.length + safe, p.rate);
            }
            let prob = exp_accurate(s * scale - lses[q - i0]);
            let ds = prob * (kept * dp - deltas[q - i0]) * scale;
            for (var c = 0u; c < D; c++) {
                grad[c] = fma(ds, left[at + c], grad[c]);
                dv[c] = fma(prob * kept, right[at + c], dv[c]);
            }
        }
    }
    if (i >= p.length) {
        return;
    }
    for (var c = 0u; c < D; c++) {
        dqkv[row_of(b, i, 1u, h) + c] = grad[c];
        dqkv[row_of(b, i, 2u, h) + c] = dv[c];
    }
}
