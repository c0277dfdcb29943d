// A selective state space over whole sequences, chunk after chunk, with the state in registers (Dao & Gu 2024, section 6). On cards it
// takes the place of the other passes.
//   S_0 = 0;  y_i = Σ_{j ≤ i} g_ij exp(α_i − α_j) δ_j x_j + exp(α_i) S_c C_i + D x_i;
//   S_{c+1} = exp(α_last) S_c + Σ_j exp(α_last − α_j) δ_j x_j B_jᵀ
// With REVERSED, it goes from the last chunk to the first with the gradient of the state after each.
//   R_last = 0;  R_{c−1} = exp(α_last) R_c + Σ_i exp(α_i) ȳ_i C_iᵀ
// xbc is (batch, length, width) = x (heads, features), B and C (groups, states). decay is (3, chunk, head, position) = α, δ, slope. g is
// (chunk, group, i, j) = C_i · B_j, and d is (heads). y and dy are (batch, length, heads, features), and border is (chunk, head, features,
// states) = S_c or R_c. Features, states and positions of a chunk are multiples of 4, up to 64.
// One workgroup computes one head of a sequence. y and border are overwritten.
// uses: common/grid, common/ssd, common/math, common/across, common/ssd_tiles
const REVERSED: u32 = 0u;

@group(0) @binding(0) var<storage, read> xbc: array<vec4<f32>>;          // (batch, length, width)
@group(0) @binding(1) var<storage, read> decay: array<f32>;              // (3, chunk, head, position)
@group(0) @binding(2) var<storage, read_write> border: array<vec4<f32>>; // (chunk, head, features, states)
@group(0) @binding(3) var<storage, read> g: array<vec4<f32>>;            // (chunk, group, i, j)
@group(0) @binding(4) var<storage, read> d: array<f32>;                  // (heads)
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;      // (batch, length, heads, features)
@group(0) @binding(6) var<storage, read> dy: array<vec4<f32>>;           // (batch, length, heads, features)

var<workgroup> tiles: array<f32, 3 * SIZE>;

// Numbers of the factors of the products.
const WEIGHTS: u32 = 0u;
const QUERIES: u32 = 1u;
// What is added to the state: x, or with REVERSED ȳ.
const VALUES: u32 = 2u;
// Keys times what is left of them after the chunk, or queries times what is left of the state before it.
const KEYS: u32 = 3u;

fn factor_of(factor: u32, place: Place, row: u32, v: u32) -> vec4<f32> {
    if (REVERSED == 0u) {
        if (factor == WEIGHTS) {
            return scores_of(place, row, v) * weights_of(row, v * 4u);
        }
    }
    if (factor == QUERIES) {
        return key_of(place, place.queries, row, v);
    }
    if (factor == VALUES) {
        if (REVERSED == 1u) {
            return upstream_of(place, row, v);
        }
        return x_of(place, row, v);
    }
    if (REVERSED == 1u) {
        return key_of(place, place.queries, row, v) * exp_accurate(alphas[row]);
    }
    return key_of(place, place.keys, row, v) * (left(TILE - 1u, row) * deltas[row]);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let head = flat_group(group, groups) % p.heads;
    let b = flat_group(group, groups) / p.heads;
    if (b >= p.batch) {
        return;
    }
    let row0 = local / SIDE * ROWS;
    let v = local % SIDE;
    var kept: Part; // (features, states)
    for (var step = 0u; step < p.chunks; step++) {
        var chunk = b * p.chunks + step;
        if (REVERSED == 1u) {
            chunk = b * p.chunks + p.chunks - 1u - step;
        }
        let place = place_of(chunk, head);
        workgroupBarrier();
        load_decay(place, local);
        for (var r = 0u; r < ROWS; r++) {
            if (in_state(row0 + r, v)) {
                border[state_at(place, row0 + r, v)] = kept[r];
            }
        }
        workgroupBarrier();
        var out: Part;
        if (REVERSED == 0u) {
            for (var first = 0u; first < STATES; first += STEP) {
                load_across(0u, QUERIES, place, first, local);
                if (v / 4u == first / STEP) {
                    for (var c = 0u; c < 4u; c++) {
                        for (var r = 0u; r < ROWS; r++) {
                            tiles[SIZE + (v % 4u * 4u + c) * PITCH + row0 + r] = kept[r][c];
                        }
                    }
                }
                workgroupBarrier();
                multiply(0u, SIZE, local, &out);
                workgroupBarrier();
            }
            for (var r = 0u; r < ROWS; r++) {
                out[r] *= exp_accurate(alphas[row0 + r]);
            }
        }
        let remains = exp_accurate(alphas[TILE - 1u]);
        for (var r = 0u; r < ROWS; r++) {
            kept[r] *= remains;
        }
        for (var first = 0u; first < POSITIONS; first += STEP) {
            load_along(SIZE, VALUES, place, first, local);
            load_along(2u * SIZE, KEYS, place, first, local);
            if (REVERSED == 0u) {
                load_across(0u, WEIGHTS, place, first, local);
            }
            workgroupBarrier();
            if (REVERSED == 0u) {
                multiply(0u, SIZE, local, &out);
            }
            multiply(SIZE, 2u * SIZE, local, &kept);
            workgroupBarrier();
        }
        if (REVERSED == 0u) {
            for (var r = 0u; r < ROWS; r++) {
                if (row0 + r < place.there && v < FEATURES / 4u) {
                    y[output_at(place, row0 + r, v)] = fma(vec4<f32>(d[head]), x_of(place, row0 + r, v), out[r]);
                }
            }
        }
    }
}
