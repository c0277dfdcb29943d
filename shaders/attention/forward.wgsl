// Scaled dot-product attention by online softmax (Milakov & Gimelshein 2018; Dao et al. 2022): no T × T matrix is stored.
//   s_ij = q_i · k_j / √D (j ≤ i when CAUSAL), p_i = softmax_j s_i, y_i = Σ_j p_ij · keep_ij · v_j, lse_i = ln Σ_j exp s_ij
// qkv: (B, T, 3, H, D), or with CROSS q: (B, T, H, D) and qkv: (B, T, 2, H, D); y: (B, T, H, D); lse: (B, H, T). One invocation a query; keys and values come in tiles of WG through workgroup
// memory. Grid: ⌈T / WG⌉ workgroups for each (b, h). All outputs are `=`.
// uses: common/attention_staged, common/grid, common/math, common/random, common/state

@group(0) @binding(3) var<storage, read_write> y: array<f32>;   // (B, T, H, D)
@group(0) @binding(4) var<storage, read_write> lse: array<f32>; // (B, H, T)

var<workgroup> keys: array<f32, WG * D>;
var<workgroup> values: array<f32, WG * D>;

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
    let i = g % tiles * WG + local;
    let safe = min(i, p.length - 1u);
    let scale = 1.0 / sqrt(f32(D));
    var q: array<f32, D>;
    var o: array<f32, D>;
    for (var c = 0u; c < D; c++) {
        q[c] = query(b, safe, h, c) * scale;
    }
    var best = -3.0e38;
    var total = 0.0;
    let last = select(p.length, min(p.length, (g % tiles + 1u) * WG), CAUSAL == 1u);
    for (var j0 = 0u; j0 < last; j0 += WG) {
        workgroupBarrier();
        for (var e = local; e < WG * D; e += WG) {
            let j = min(j0 + e / D, p.length - 1u);
            keys[e] = qkv[row_of(b, j, 1u, h) + e % D];
            values[e] = qkv[row_of(b, j, 2u, h) + e % D];
        }
        workgroupBarrier();
        let end = min(j0 + WG, select(p.length, safe + 1u, CAUSAL == 1u));
        for (var j = j0; j < end; j++) {
            let at = (j - j0) * D;
            var s = 0.0;
            for (var c = 0u; c < D; c++) {
                s = fma(q[c], keys[at + c], s);
            }
            let top = max(best, s);
            let shrink = exp_accurate(best - top);
            let e = exp_accurate(s - top);
            best = top;
            total = fma(total, shrink, e);
            var weight = e;
            if (DROPOUT == 1u) {
                weight *= keep(state.seed, p.stream, state.tick, (head * p.length + safe) * p.length + j, p.rate);
            }
            for (var c = 0u; c < D; c++) {
                o[c] = fma(weight, values[at + c], o[c] * shrink);
            }
        }
    }
    if (i >= p.length) {
        return;
    }
    for (var c = 0u; c < D; c++) {
        y[out_of(b, i, h) + c] = o[c] / total;
    }
    lse[head * p.length + i] = best + log_accurate(total);
}
