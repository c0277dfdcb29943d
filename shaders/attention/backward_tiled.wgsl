// Gradient of attention for long sequences, on cards, and where rows would loop too often. The derivation is in attention/backward_rows,
// and the tiles are those of common/attention_tiled. Two launches share the work, so that nothing is scattered and few registers are
// needed. The first computes dq and delta_i = dy_i · y_i of its own queries. The second, with KEYS, computes dk and dv of its own keys.
//   p_ij = exp(s_ij − lse_i);  ds_ij = p_ij (keep_ij dy_i · v_j − delta_i) / √D;
//   dq_i = Σ_j ds_ij k_j;  dk_j = Σ_i ds_ij q_i;  dv_j = Σ_i p_ij keep_ij dy_i
// qkv and dqkv are (B, T, 3, H, D). With CROSS, q and dq are (B, T, H, D), and qkv and dqkv are (B, T, 2, H, D). y and dy are (B, T, H, D),
// lse and delta are (B, H, T), and D is a multiple of 4.
// There are ⌈T / TILE⌉ workgroups for each (b, h). The first launch overwrites delta, and dq or the queries of dqkv. The second overwrites
// the keys and values of dqkv.
// uses: common/across, common/attention_tiled, common/grid, common/math, common/random, common/state
const KEYS: u32 = 0u;
const PRODUCTS: u32 = 2u;

@group(0) @binding(3) var<storage, read> y: array<vec4<f32>>;          // (B, T, H, D)
@group(0) @binding(4) var<storage, read> lse: array<f32>;              // (B, H, T)
@group(0) @binding(5) var<storage, read> dy: array<vec4<f32>>;         // (B, T, H, D)
@group(0) @binding(6) var<storage, read_write> dqkv: array<vec4<f32>>; // (B, T, 3, H, D)
@group(0) @binding(7) var<storage, read_write> dq: array<vec4<f32>>;   // (B, T, H, D)
@group(0) @binding(8) var<storage, read_write> made: array<f32>;       // (B, H, T)
@group(0) @binding(9) var<storage, read> delta: array<f32>;            // (B, H, T)

// lse and delta of the queries of the tile.
var<workgroup> lses: array<f32, TILE>;
var<workgroup> deltas: array<f32, TILE>;

// Vector v of a query for the first product, and of dy for the second.
fn of_query(product: u32, head: u32, t: u32, v: u32) -> vec4<f32> {
    if (product == 0u) {
        return query(head, t, v);
    }
    return dy[out_of(head, t) + v];
}

// Vector v of a key for the first product, and of a value for the second.
fn of_key(product: u32, head: u32, t: u32, v: u32) -> vec4<f32> {
    return qkv[row_of(head, t, 1u + product) + v];
}

fn own_of(product: u32, head: u32, t: u32, v: u32) -> vec4<f32> {
    if (KEYS == 1u) {
        return of_key(product, head, t, v);
    }
    return of_query(product, head, t, v);
}

fn other_of(product: u32, head: u32, t: u32, v: u32) -> vec4<f32> {
    if (KEYS == 1u) {
        return of_query(product, head, t, v);
    }
    return of_key(product, head, t, v);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let place = place_of(flat_group(group, groups));
    let head = place.x;
    let own0 = place.y;
    if (head >= p.batch * p.heads) {
        return;
    }
    let scale = 1.0 / sqrt(f32(D));
    if (KEYS == 0u) {
        if (local < TILE) {
            let at = out_of(head, inside(own0 + local));
            var sum = 0.0;
            for (var v = 0u; v < WIDE; v++) {
                sum += dot(dy[at + v], y[at + v]);
            }
            lses[local] = lse[head * p.length + inside(own0 + local)];
            deltas[local] = sum;
            if (own0 + local < p.length) {
                made[head * p.length + own0 + local] = sum;
            }
        }
    }
    var first_sums: array<vec4<f32>, ROWS * VECS>;  // dq, or dk
    var second_sums: array<vec4<f32>, ROWS * VECS>; // dv
    let begin = select(0u, own0, CAUSAL == 1u && KEYS == 1u);
    let end = select(p.length, min(p.length, own0 + TILE), CAUSAL == 1u && KEYS == 0u);
    for (var other0 = begin; other0 < end; other0 += OTHER) {
        if (KEYS == 1u) {
            if (local < OTHER) {
                lses[local] = lse[head * p.length + inside(other0 + local)];
                deltas[local] = delta[head * p.length + inside(other0 + local)];
            }
        }
        var scores: array<vec4<f32>, ROWS>; // s_ij √D, then p_ij keep_ij
        var slopes: array<vec4<f32>, ROWS>; // dy_i · v_j, then ds_ij
        for (var first = 0u; first < D; first += STEP) {
            load(0u, head, own0, other0, first, local);
            load(1u, head, own0, other0, first, local);
            workgroupBarrier();
            multiply(0u, local, &scores);
            multiply(1u, local, &slopes);
            workgroupBarrier();
        }
        for (var r = 0u; r < ROWS; r++) {
            let own = local / SIDE * ROWS + r;
            for (var c = 0u; c < 4u; c++) {
                let other = local % SIDE * 4u + c;
                let query = select(own0 + own, other0 + other, KEYS == 1u);
                let key = select(other0 + other, own0 + own, KEYS == 1u);
                let number = select(own, other, KEYS == 1u);
                let seen = max(query, key) < p.length && (CAUSAL == 0u || key <= query);
                let prob = select(0.0, exp_accurate(scores[r][c] * scale - lses[number]), seen);
                var kept = 1.0;
                if (DROPOUT == 1u) {
                    kept = keep(state.seed, p.stream, state.tick, (head * p.length + query) * p.length + key, p.rate);
                }
                scores[r][c] = prob * kept;
                slopes[r][c] = prob * (kept * slopes[r][c] - deltas[number]) * scale;
            }
        }
        if (KEYS == 1u) {
            put(local, &scores);
            add(1u, head, other0, local, &second_sums);
        }
        put(local, &slopes);
        add(0u, head, other0, local, &first_sums);
    }
    for (var r = 0u; r < ROWS; r++) {
        let t = own0 + local / SIDE * ROWS + r;
        for (var c = 0u; c < VECS; c++) {
            let v = local % SIDE + c * SIDE;
            if (t < p.length && v < WIDE) {
                if (KEYS == 1u) {
                    dqkv[row_of(head, t, 1u) + v] = first_sums[r * VECS + c];
                    dqkv[row_of(head, t, 2u) + v] = second_sums[r * VECS + c];
                } else if (CROSS == 1u) {
                    dq[out_of(head, t) + v] = first_sums[r * VECS + c];
                } else {
                    dqkv[row_of(head, t, 0u) + v] = first_sums[r * VECS + c];
                }
            }
        }
    }
}
