// attention/forward_rows for sequences that fill the lanes of a processor. The formulas and the shapes are the same, D is a multiple of 4,
// and common/attention_lanes says how rows are handed round. The largest score so far moves once for WG keys.
// One invocation computes one query, in ⌈T / WG⌉ workgroups for each (b, h). y and lse are overwritten.
// uses: common/attention_lanes, common/attention_rows, common/features_4, common/grid, common/math, common/random, common/state

@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>; // (B, T, H, D)
@group(0) @binding(4) var<storage, read_write> lse: array<f32>;     // (B, H, T)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let place = place_of(flat_group(group, groups));
    let head = place.x;
    if (head >= p.batch * p.heads) {
        return;
    }
    let b = head / p.heads;
    let h = head % p.heads;
    let i = min(place.y + lane, p.length - 1u);
    let row = head * p.length + i;
    let scale = 1.0 / sqrt(f32(D));
    var q: array<vec4<f32>, V>;
    var o: array<vec4<f32>, V>;
    for (var c = 0u; c < V; c++) {
        q[c] = query(b, i, h, c) * scale;
    }
    var best = -3.0e38;
    var total = 0.0;
    let last = select(p.length - 1u, i, CAUSAL == 1u);
    let end = select(p.length, min(place.y + WG, p.length), CAUSAL == 1u);
    for (var start = 0u; start < end; start += WG) {
        let j = min(start + lane, p.length - 1u);
        let key = row_of(b, j, 1u, h);
        let value = row_of(b, j, 2u, h);
        var scores = mat4x4<f32>();
        for (var c = 0u; c < V; c++) {
            scores = add_dots(scores, q[c], qkv[key + c]);
        }
        scores = within(scores, start, 0u, last, -3.0e38);
        let top = max(best, largest(scores));
        let shrink = exp_accurate(best - top);
        best = top;
        let e = exps(scores, 1.0, all_of(top));
        total = fma(total, shrink, total_of(e));
        let weights = times(e, kept(row * p.length + start, 1u));
        for (var c = 0u; c < V; c++) {
            o[c] = add_rows(o[c] * shrink, weights, qkv[value + c]);
        }
    }
    if (place.y + lane >= p.length) {
        return;
    }
    for (var c = 0u; c < V; c++) {
        y[out_of(b, i, h) + c] = o[c] / total;
    }
    lse[row] = best + log_accurate(total);
}
