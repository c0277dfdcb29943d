// Scaled dot-product attention for long sequences, on cards, and where rows would loop too often. It is attention/forward_rows with scores
// and sums as products of tiles in workgroup memory and registers (Dao et al. 2022, algorithm 1).
//   s_ij = q_i · k_j / √D (j ≤ i when CAUSAL), p_i = softmax_j s_i, y_i = Σ_j p_ij · keep_ij · v_j, lse_i = ln Σ_j exp s_ij
// qkv is (B, T, 3, H, D). With CROSS, q is (B, T, H, D) and qkv is (B, T, 2, H, D). y is (B, T, H, D), lse is (B, H, T), and D is a
// multiple of 4.
// The scores of a tile pass through workgroup memory, where one invocation per query turns them into weights. When the largest score so far
// grows, the sums are scaled down.
// There are ⌈T / TILE⌉ workgroups for each (b, h). All outputs are overwritten.
// uses: common/across, common/attention_tiled, common/grid, common/math, common/random, common/state
const PRODUCTS: u32 = 1u;

@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>; // (B, T, H, D)
@group(0) @binding(4) var<storage, read_write> lse: array<f32>;     // (B, H, T)

// Factor of the sums so far, for each query. In the end it is 1 / Σ_j exp(s_ij − max s_i).
var<workgroup> factors: array<f32, TILE>;

// Vector v of a query.
fn own_of(product: u32, head: u32, t: u32, v: u32) -> vec4<f32> {
    return query(head, t, v);
}

// Vector v of a key for the first product, and of a value for the second.
fn other_of(product: u32, head: u32, t: u32, v: u32) -> vec4<f32> {
    return qkv[row_of(head, t, 1u + product) + v];
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
    let i = inside(own0 + local);
    var sums: array<vec4<f32>, ROWS * VECS>;
    var best = -3.0e38;
    var total = 0.0;
    let last = select(p.length, min(p.length, own0 + TILE), CAUSAL == 1u);
    for (var other0 = 0u; other0 < last; other0 += OTHER) {
        var scores: array<vec4<f32>, ROWS>;
        for (var first = 0u; first < D; first += STEP) {
            load(0u, head, own0, other0, first, local);
            workgroupBarrier();
            multiply(0u, local, &scores);
            workgroupBarrier();
        }
        put(local, &scores);
        workgroupBarrier();
        if (local < TILE) {
            let end = min(other0 + OTHER, select(p.length, i + 1u, CAUSAL == 1u));
            let seen = max(end, other0) - other0;
            var top = best;
            for (var k = 0u; k < OTHER; k++) {
                let s = weights[k * PITCH + local] * scale;
                top = max(top, select(top, s, k < seen));
            }
            let shrink = exp_accurate(best - top);
            total *= shrink;
            for (var k = 0u; k < OTHER; k++) {
                let s = weights[k * PITCH + local] * scale;
                var weight = select(0.0, exp_accurate(s - top), k < seen);
                total += weight;
                if (DROPOUT == 1u) {
                    weight *= keep(state.seed, p.stream, state.tick, (head * p.length + i) * p.length + other0 + k, p.rate);
                }
                weights[k * PITCH + local] = weight;
            }
            factors[local] = shrink;
            best = top;
        }
        workgroupBarrier();
        for (var r = 0u; r < ROWS; r++) {
            let factor = factors[local / SIDE * ROWS + r];
            for (var c = 0u; c < VECS; c++) {
                sums[r * VECS + c] *= factor;
            }
        }
        add(1u, head, other0, local, &sums);
    }
    if (local < TILE) {
        factors[local] = 1.0 / total;
        if (own0 + local < p.length) {
            lse[head * p.length + i] = best + log_accurate(total);
        }
    }
    workgroupBarrier();
    for (var r = 0u; r < ROWS; r++) {
        let t = own0 + local / SIDE * ROWS + r;
        for (var c = 0u; c < VECS; c++) {
            let v = local % SIDE + c * SIDE;
            if (t < p.length && v < WIDE) {
                y[out_of(head, t) + v] = sums[r * VECS + c] * factors[local / SIDE * ROWS + r];
            }
        }
    }
}
