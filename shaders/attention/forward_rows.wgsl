// Scaled dot-product attention by online softmax (Milakov & Gimelshein 2018; Dao et al. 2022). No T × T matrix is stored.
//   s_ij = q_i · k_j / √D (j ≤ i when CAUSAL), p_i = softmax_j s_i, y_i = Σ_j p_ij · keep_ij · v_j, lse_i = ln Σ_j exp s_ij
// qkv is (B, T, 3, H, D). With CROSS, q is (B, T, H, D) and qkv is (B, T, 2, H, D). y is (B, T, H, D), and lse is (B, H, T).
// Rows are read where they lie. A workgroup may have queries of several heads, so that short sequences fill it, too.
// One invocation computes one query, in ⌈B · H · T / WG⌉ workgroups. y and lse are overwritten.
// uses: common/features_4 | common/features_1, common/attention_rows, common/grid, common/math, common/random, common/state

@group(0) @binding(3) var<storage, read_write> y: array<Features>; // (B, T, H, D)
@group(0) @binding(4) var<storage, read_write> lse: array<f32>;     // (B, H, T)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = flat_group(group, groups) * WG + local;
    let head = row / p.length;
    if (head >= p.batch * p.heads) {
        return;
    }
    let i = row % p.length;
    let b = head / p.heads;
    let h = head % p.heads;
    let scale = 1.0 / sqrt(f32(D));
    var q: array<Features, V>;
    var o: array<Features, V>;
    for (var c = 0u; c < V; c++) {
        q[c] = query(b, i, h, c) * scale;
    }
    var best = -3.0e38;
    var total = 0.0;
    let end = select(p.length, i + 1u, CAUSAL == 1u);
    for (var j = 0u; j < end; j++) {
        let key = row_of(b, j, 1u, h);
        let value = row_of(b, j, 2u, h);
        var parts = Features();
        for (var c = 0u; c < V; c++) {
            parts = fma(q[c], qkv[key + c], parts);
        }
        let s = sum(parts);
        let top = max(best, s);
        let shrink = exp_accurate(best - top);
        let e = exp_accurate(s - top);
        best = top;
        total = fma(total, shrink, e);
        var weight = e;
        if (DROPOUT == 1u) {
            weight *= keep(state.seed, p.stream, state.tick, row * p.length + j, p.rate);
        }
        for (var c = 0u; c < V; c++) {
            o[c] = fma(Features(weight), qkv[value + c], o[c] * shrink);
        }
    }
    for (var c = 0u; c < V; c++) {
        y[out_of(b, i, h) + c] = o[c] / total;
    }
    lse[row] = best + log_accurate(total);
}
