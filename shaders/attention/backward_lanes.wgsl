// Gradient of attention for sequences that fill the lanes of a processor. The derivation is in attention/backward_rows, and
// common/attention_lanes says how rows are handed round. Two launches share the work, so that nothing is scattered. The first computes dq
// and delta_i = dy_i · y_i of its own queries. The second, with KEYS, computes dk and dv of its own keys.
//   p_ij = exp(s_ij − lse_i);  ds_ij = p_ij (keep_ij dy_i · v_j − delta_i) / √D;
//   dq_i = Σ_j ds_ij k_j;  dk_j = Σ_i ds_ij q_i;  dv_j = Σ_i p_ij keep_ij dy_i
// qkv and dqkv are (B, T, 3, H, D). With CROSS, q and dq are (B, T, H, D), and qkv and dqkv are (B, T, 2, H, D). y and dy are (B, T, H, D),
// lse and delta are (B, H, T), and D is a multiple of 4.
// One invocation has one row, in ⌈T / WG⌉ workgroups for each (b, h). The first launch overwrites delta, and dq or the queries of dqkv. The
// second overwrites the keys and values of dqkv.
// uses: common/attention_lanes, common/attention_rows, common/features_4, common/grid, common/math, common/random, common/state
const KEYS: u32 = 0u;

@group(0) @binding(3) var<storage, read> y: array<vec4<f32>>;          // (B, T, H, D)
@group(0) @binding(4) var<storage, read> lse: array<f32>;              // (B, H, T)
@group(0) @binding(5) var<storage, read> dy: array<vec4<f32>>;         // (B, T, H, D)
@group(0) @binding(6) var<storage, read_write> dqkv: array<vec4<f32>>; // (B, T, 3, H, D)
@group(0) @binding(7) var<storage, read_write> dq: array<vec4<f32>>;   // (B, T, H, D)
@group(0) @binding(8) var<storage, read_write> made: array<f32>;       // (B, H, T)
@group(0) @binding(9) var<storage, read> delta: array<f32>;            // (B, H, T)

// dq and delta of query first + lane.
fn of_query(b: u32, h: u32, first: u32, lane: u32) {
    let i = min(first + lane, p.length - 1u);
    let row = (b * p.heads + h) * p.length + i;
    let scale = 1.0 / sqrt(f32(D));
    let own_lse = all_of(lse[row]);
    var q: array<vec4<f32>, V>;
    var d: array<vec4<f32>, V>;
    var grad: array<vec4<f32>, V>;
    var parts = vec4<f32>(0.0);
    for (var c = 0u; c < V; c++) {
        q[c] = query(b, i, h, c);
        d[c] = dy[out_of(b, i, h) + c];
        parts = fma(d[c], y[out_of(b, i, h) + c], parts);
    }
    let own_delta = sum(parts);
    let last = select(p.length - 1u, i, CAUSAL == 1u);
    let end = select(p.length, min(first + WG, p.length), CAUSAL == 1u);
    for (var start = 0u; start < end; start += WG) {
        let j = min(start + lane, p.length - 1u);
        let key = row_of(b, j, 1u, h);
        let value = row_of(b, j, 2u, h);
        var keys: array<vec4<f32>, V>;
        var scores = mat4x4<f32>();
        var products = mat4x4<f32>();
        for (var c = 0u; c < V; c++) {
            keys[c] = qkv[key + c];
            scores = add_dots(scores, q[c], keys[c]);
            products = add_dots(products, d[c], qkv[value + c]);
        }
        let prob = within(exps(scores, scale, own_lse), start, 0u, last, 0.0);
        let dp = times(products, kept(row * p.length + start, 1u));
        let ds = times(prob, dp - all_of(own_delta)) * scale;
        for (var c = 0u; c < V; c++) {
            grad[c] = add_rows(grad[c], ds, keys[c]);
        }
    }
    if (first + lane >= p.length) {
        return;
    }
    made[row] = own_delta;
    for (var c = 0u; c < V; c++) {
        if (CROSS == 1u) {
            dq[out_of(b, i, h) + c] = grad[c];
        } else {
            dqkv[row_of(b, i, 0u, h) + c] = grad[c];
        }
    }
}

// dk and dv of key first + lane.
fn of_key(b: u32, h: u32, first: u32, lane: u32) {
    let i = min(first + lane, p.length - 1u);
    let head = b * p.heads + h;
    let scale = 1.0 / sqrt(f32(D));
    var k: array<vec4<f32>, V>;
    var v: array<vec4<f32>, V>;
    var dk: array<vec4<f32>, V>;
    var dv: array<vec4<f32>, V>;
    for (var c = 0u; c < V; c++) {
        k[c] = qkv[row_of(b, i, 1u, h) + c];
        v[c] = qkv[row_of(b, i, 2u, h) + c];
    }
    for (var start = select(0u, first, CAUSAL == 1u); start < p.length; start += WG) {
        let t = min(start + lane, p.length - 1u);
        var queries: array<vec4<f32>, V>;
        var d: array<vec4<f32>, V>;
        var scores = mat4x4<f32>();
        var products = mat4x4<f32>();
        for (var c = 0u; c < V; c++) {
            queries[c] = query(b, t, h, c);
            d[c] = dy[out_of(b, t, h) + c];
            scores = add_dots(scores, k[c], queries[c]);
            products = add_dots(products, v[c], d[c]);
        }
        let lses = of_lanes(lse[head * p.length + t]);
        let deltas = of_lanes(delta[head * p.length + t]);
        let prob = within(exps(scores, scale, lses), start, select(0u, i, CAUSAL == 1u), p.length - 1u, 0.0);
        let keeps = kept((head * p.length + start) * p.length + i, p.length);
        let ds = times(prob, times(products, keeps) - deltas) * scale;
        let weights = times(prob, keeps);
        for (var c = 0u; c < V; c++) {
            dk[c] = add_rows(dk[c], ds, queries[c]);
            dv[c] = add_rows(dv[c], weights, d[c]);
        }
    }
    if (first + lane >= p.length) {
        return;
    }
    for (var c = 0u; c < V; c++) {
        dqkv[row_of(b, i, 1u, h) + c] = dk[c];
        dqkv[row_of(b, i, 2u, h) + c] = dv[c];
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let place = place_of(flat_group(group, groups));
    if (place.x >= p.batch * p.heads) {
        return;
    }
    if (KEYS == 1u) {
        of_key(place.x / p.heads, place.x % p.heads, place.y, lane);
    } else {
        of_query(place.x / p.heads, place.x % p.heads, place.y, lane);
    }
}
