// Gradient of attention (Vaswani et al. 2017, eq. 1) by recomputation (Dao et al. 2022, appendix B.2; with dropout, B.4). The forward pass
// was, with sums over the pairs that are seen (j ≤ i when CAUSAL):
//   s_ij = q_i · k_j / √D, p_ij = exp(s_ij − lse_i), y_i = Σ_j p_ij keep_ij v_j
// The gradient is derived as follows.
//   dv_j = Σ_i p_ij keep_ij dy_i;  by p_ij: dp_ij = keep_ij dy_i · v_j
//   ∂p_ij/∂s_il = p_ij (δ_jl − p_il), so ds_ij = p_ij (dp_ij − Σ_l p_il dp_il), where Σ_l p_il keep_il dy_i · v_l = dy_i · y_i = delta_i:
//   ds_ij = p_ij (keep_ij dy_i · v_j − delta_i);  dq_i = Σ_j ds_ij k_j / √D;  dk_j = Σ_i ds_ij q_i / √D
// qkv and dqkv are (B, T, 3, H, D). With CROSS, q and dq are (B, T, H, D), and qkv and dqkv are (B, T, 2, H, D). y and dy are (B, T, H, D),
// and lse is (B, H, T).
// Invocation i first gathers over keys as query i, then over queries as key i, so nothing is scattered. Rows are read where they lie. A
// workgroup may have rows of several heads, so that short sequences fill it, too.
// There are ⌈B · H · T / WG⌉ workgroups. dqkv and dq are overwritten.
// uses: common/features_4 | common/features_1, common/attention_rows, common/grid, common/math, common/random, common/state

@group(0) @binding(3) var<storage, read> y: array<Features>;          // (B, T, H, D)
@group(0) @binding(4) var<storage, read> lse: array<f32>;              // (B, H, T)
@group(0) @binding(5) var<storage, read> dy: array<Features>;         // (B, T, H, D)
@group(0) @binding(6) var<storage, read_write> dqkv: array<Features>; // (B, T, 3, H, D)
@group(0) @binding(7) var<storage, read_write> dq: array<Features>;   // (B, T, H, D)

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
    let own = out_of(b, i, h);
    let own_lse = lse[row];
    var first: array<Features, V>;  // q_i, then k_i
    var second: array<Features, V>; // dy_i, then v_i
    var grad: array<Features, V>;   // dq_i, then dk_i
    var dv: array<Features, V>;
    var own_parts = Features();
    for (var c = 0u; c < V; c++) {
        first[c] = query(b, i, h, c);
        second[c] = dy[own + c];
        own_parts = fma(second[c], y[own + c], own_parts);
    }
    let own_delta = sum(own_parts);
    let end = select(p.length, i + 1u, CAUSAL == 1u);
    for (var j = 0u; j < end; j++) {
        let key = row_of(b, j, 1u, h);
        let value = row_of(b, j, 2u, h);
        var scores = Features();
        var products = Features();
        for (var c = 0u; c < V; c++) {
            scores = fma(first[c], qkv[key + c], scores);
            products = fma(second[c], qkv[value + c], products);
        }
        var dp = sum(products);
        if (DROPOUT == 1u) {
            dp *= keep(state.seed, p.stream, state.tick, row * p.length + j, p.rate);
        }
        let ds = exp_accurate(sum(scores) * scale - own_lse) * (dp - own_delta) * scale;
        for (var c = 0u; c < V; c++) {
            grad[c] = fma(Features(ds), qkv[key + c], grad[c]);
        }
    }
    for (var c = 0u; c < V; c++) {
        if (CROSS == 1u) {
            dq[own + c] = grad[c];
        } else {
            dqkv[row_of(b, i, 0u, h) + c] = grad[c];
        }
        first[c] = qkv[row_of(b, i, 1u, h) + c];
        second[c] = qkv[row_of(b, i, 2u, h) + c];
        grad[c] = Features();
    }
    for (var t = select(0u, i, CAUSAL == 1u); t < p.length; t++) {
        let out = out_of(b, t, h);
        var scores = Features();
        var products = Features();
        var deltas = Features();
        for (var c = 0u; c < V; c++) {
            let d = dy[out + c];
            scores = fma(first[c], query(b, t, h, c), scores);
            products = fma(second[c], d, products);
            deltas = fma(d, y[out + c], deltas);
        }
        var kept = 1.0;
        if (DROPOUT == 1u) {
            kept = keep(state.seed, p.stream, state.tick, (head * p.length + t) * p.length + i, p.rate);
        }
        let prob = exp_accurate(sum(scores) * scale - lse[head * p.length + t]);
        let ds = prob * (kept * sum(products) - sum(deltas)) * scale;
        for (var c = 0u; c < V; c++) {
            grad[c] = fma(Features(ds), query(b, t, h, c), grad[c]);
            dv[c] = fma(Features(prob * kept), dy[out + c], dv[c]);
        }
    }
    for (var c = 0u; c < V; c++) {
        dqkv[row_of(b, i, 1u, h) + c] = grad[c];
        dqkv[row_of(b, i, 2u, h) + c] = dv[c];
    }
}
