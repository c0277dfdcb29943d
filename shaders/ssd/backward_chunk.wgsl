// Gradients of ssd/scan for a chunk, one head of its group after the other, on cards. S is the state before the chunk, and R the gradient
// of the one after it. Of each head:
//   L_ij = exp(α_i − α_j) (i ≥ j), w_j = exp(α_last − α_j) δ_j, dM_ij = ȳ_i · x_j, M_ij = g_ij L_ij δ_j, T_ij = dM_ij M_ij (i > j):
//   dx_j = Σ_{i ≥ j} M_ij ȳ_i + w_j R B_j + D ȳ_j
//   dC_i = Σ_heads exp(α_i) Sᵀ ȳ_i + Σ_j dg_ij B_j;  dB_j = Σ_heads w_j Rᵀ x_j + Σ_i dg_ij C_i;  dg_ij = Σ_heads dM_ij L_ij δ_j
// The gradients of a = δ A and of the steps are sums without differences of long sums. They use p_i = exp(α_i) C_i · Sᵀ ȳ_i and
// q_j = exp(α_last − α_j) B_j · Rᵀ x_j.
//   da_k = Σ_{i ≥ k} p_i + exp(α_last) ⟨R, S⟩ + Σ_{j < k} δ_j q_j + Σ_{i ≥ k > j} T_ij
//   dδ_k = Σ_i dM_ik g_ik L_ik + q_k + A da_k;  dd_k = dδ_k slope_k
// xbc and dxbc are (batch, length, width), decay is (3, chunk, head, position), and g is (chunk, group, i, j). states and dstates are S and
// R, (chunk, head, features, states). dy is (batch, length, heads, features), and d and a_log are (heads). terms is (3, chunk, head,
// position) = δ da, dd, ȳ · x. The sizes are as in ssd/scan.
// One workgroup computes one group of a chunk. dxbc and terms are overwritten.
// uses: common/grid, common/ssd, common/math, common/across, common/ssd_tiles

@group(0) @binding(0) var<storage, read> xbc: array<vec4<f32>>;        // (batch, length, width)
@group(0) @binding(1) var<storage, read> decay: array<f32>;            // (3, chunk, head, position)
@group(0) @binding(2) var<storage, read> g: array<vec4<f32>>;          // (chunk, group, i, j)
@group(0) @binding(3) var<storage, read> states: array<vec4<f32>>;     // (chunk, head, features, states)
@group(0) @binding(4) var<storage, read> dstates: array<vec4<f32>>;    // (chunk, head, features, states)
@group(0) @binding(5) var<storage, read> dy: array<vec4<f32>>;         // (batch, length, heads, features)
@group(0) @binding(6) var<storage, read> d: array<f32>;                // (heads)
@group(0) @binding(7) var<storage, read> a_log: array<f32>;            // (heads)
@group(0) @binding(8) var<storage, read_write> dxbc: array<vec4<f32>>; // (batch, length, width)
@group(0) @binding(9) var<storage, read_write> terms: array<f32>;      // (3, chunk, head, position)

// Holds two factors of a product, and behind them [i][j] of what belongs to pairs of positions.
const PAIRS: u32 = 2u * SIZE;
var<workgroup> tiles: array<f32, PAIRS + TILE * PITCH>;
// Holds p_i of each position, and then q_j.
var<workgroup> dots: array<f32, 2 * TILE>;

// Numbers of the factors of the products.
const VALUES: u32 = 0u;
const UPSTREAM: u32 = 1u;
const KEYS: u32 = 2u;
const QUERIES: u32 = 3u;
// The state before the chunk, and the gradient of that after it.
const BEFORE: u32 = 4u;
const AFTER: u32 = 5u;

fn factor_of(factor: u32, place: Place, row: u32, v: u32) -> vec4<f32> {
    if (factor == VALUES) {
        return x_of(place, row, v);
    }
    if (factor == UPSTREAM) {
        return upstream_of(place, row, v);
    }
    if (factor == KEYS) {
        return key_of(place, place.keys, row, v);
    }
    if (factor == QUERIES) {
        return key_of(place, place.queries, row, v);
    }
    let at = state_at(place, row, v);
    if (factor == BEFORE) {
        return select(vec4<f32>(0.0), states[at], in_state(row, v));
    }
    return select(vec4<f32>(0.0), dstates[at], in_state(row, v));
}

// Sum of a number of each of the columns of row `local`, after all invocations have put theirs, by row and column.
fn put_dot(row: u32, column: u32, value: f32) {
    tiles[row * (SIDE + 1u) + column] = value;
}

fn sum_of_dots(row: u32) -> f32 {
    var sum = 0.0;
    for (var column = 0u; column < SIDE; column++) {
        sum += tiles[row * (SIDE + 1u) + column];
    }
    return sum;
}

// Puts rows of an invocation's part beside each other, or across.
fn put_pairs(local: u32, values: ptr<function, Part>, turned: bool) {
    for (var r = 0u; r < ROWS; r++) {
        let row = local / SIDE * ROWS + r;
        if (turned) {
            put_across(PAIRS + local % SIDE * 4u * PITCH + row, PITCH, (*values)[r]);
        } else {
            put_along(PAIRS + row * PITCH + local % SIDE * 4u, (*values)[r]);
        }
    }
}

// Adds STEP terms, from `first` on, of Σ_k a[row][k] b[k][column], or with `turned` of Σ_k a[row][k] b[column][k]. The loop over them stays
// with the caller: its end must be a const for the length of loops to be known.
fn add_terms(a: u32, b: u32, turned: bool, place: Place, first: u32, local: u32, sums: ptr<function, Part>) {
    load_across(0u, a, place, first, local);
    if (turned) {
        load_across(SIZE, b, place, first, local);
    } else {
        load_along(SIZE, b, place, first, local);
    }
    workgroupBarrier();
    multiply(0u, SIZE, local, sums);
    workgroupBarrier();
}

// Adds Σ_k pairs[k][row] factor[k][column].
fn multiply_pairs(factor: u32, place: Place, local: u32, sums: ptr<function, Part>) {
    for (var first = 0u; first < POSITIONS; first += STEP) {
        load_along(0u, factor, place, first, local);
        workgroupBarrier();
        multiply(PAIRS + first * PITCH, 0u, local, sums);
        workgroupBarrier();
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let chunk = flat_group(group, groups) / p.groups;
    let own_group = flat_group(group, groups) % p.groups;
    if (chunk >= p.batch * p.chunks) {
        return;
    }
    let row0 = local / SIDE * ROWS;
    let v = local % SIDE;
    var dkeys: Part;
    var dqueries: Part;
    var dg: Part;
    for (var h = 0u; h < p.heads / p.groups; h++) {
        let head = own_group * (p.heads / p.groups) + h;
        let place = place_of(chunk, head);
        workgroupBarrier();
        load_decay(place, local);
        var part: Part; // dM, T
        for (var first = 0u; first < FEATURES; first += STEP) {
            add_terms(UPSTREAM, VALUES, true, place, first, local, &part);
        }
        var m: Part;
        var column = vec4<f32>(0.0); // Σ_i dM_ij g_ij L_ij of these rows
        for (var r = 0u; r < ROWS; r++) {
            let i = row0 + r;
            let scores = scores_of(place, i, v);
            for (var c = 0u; c < 4u; c++) {
                let j = v * 4u + c;
                let decayed = select(0.0, left(i, j), j <= i);
                let weight = decayed * deltas[j];
                column[c] = fma(part[r][c], scores[c] * decayed, column[c]);
                dg[r][c] = fma(part[r][c], weight, dg[r][c]);
                m[r][c] = scores[c] * weight;
                part[r][c] = select(0.0, part[r][c] * m[r][c], j < i);
            }
        }
        put_pairs(local, &part, false);
        put_along(local / SIDE * PITCH + v * 4u, column);
        workgroupBarrier();
        // Gradients of position `local`, where there is one.
        var dstep = 0.0;
        var da = 0.0;
        if (local < TILE) {
            for (var r = 0u; r < TILE / ROWS; r++) {
                dstep += tiles[r * PITCH + local];
            }
        } else {
            // Σ_{j < k} T_ij of row i.
            var sum = 0.0;
            for (var k = 0u; k < TILE; k++) {
                let at = PAIRS + (local - TILE) * PITCH + k;
                let t = tiles[at];
                tiles[at] = sum;
                sum += t;
            }
        }
        workgroupBarrier();
        if (local < TILE) {
            for (var i = 0u; i < TILE; i++) {
                da += select(0.0, tiles[PAIRS + i * PITCH + local], i >= local);
            }
        }
        workgroupBarrier();
        put_pairs(local, &m, false);

        part = Part(); // exp(α_i) Sᵀ ȳ_i
        for (var first = 0u; first < FEATURES; first += STEP) {
            add_terms(UPSTREAM, BEFORE, false, place, first, local, &part);
        }
        for (var r = 0u; r < ROWS; r++) {
            part[r] *= exp_accurate(alphas[row0 + r]);
            dqueries[r] += part[r];
            put_dot(row0 + r, v, dot(part[r], key_of(place, place.queries, row0 + r, v)));
        }
        workgroupBarrier();
        if (local < TILE) {
            dots[local] = sum_of_dots(local);
        }
        workgroupBarrier();

        part = Part(); // exp(α_last − α_j) Rᵀ x_j
        for (var first = 0u; first < FEATURES; first += STEP) {
            add_terms(VALUES, AFTER, false, place, first, local, &part);
        }
        for (var r = 0u; r < ROWS; r++) {
            part[r] *= left(TILE - 1u, row0 + r);
            dkeys[r] = fma(part[r], vec4<f32>(deltas[row0 + r]), dkeys[r]);
            put_dot(row0 + r, v, dot(part[r], key_of(place, place.keys, row0 + r, v)));
        }
        workgroupBarrier();
        if (local < TILE) {
            dots[TILE + local] = sum_of_dots(local);
        }
        workgroupBarrier();

        for (var r = 0u; r < ROWS; r++) {
            let both = factor_of(BEFORE, place, row0 + r, v) * factor_of(AFTER, place, row0 + r, v);
            put_dot(row0 + r, v, both.x + both.y + both.z + both.w);
        }
        workgroupBarrier();
        let of_row = sum_of_dots(local % TILE); // ⟨R, S⟩ of a feature
        workgroupBarrier();
        for (var r = 0u; r < ROWS; r++) {
            let both = factor_of(UPSTREAM, place, row0 + r, v) * x_of(place, row0 + r, v);
            put_dot(row0 + r, v, both.x + both.y + both.z + both.w);
        }
        if (local < TILE) {
            tiles[SIZE + local] = of_row;
        }
        workgroupBarrier();
        if (local < POSITIONS) {
            var of_states = 0.0;
            for (var i = 0u; i < TILE; i++) {
                of_states += tiles[SIZE + i];
                da += select(deltas[i] * dots[TILE + i], dots[i], i >= local);
            }
            da = fma(exp_accurate(alphas[TILE - 1u]), of_states, da);
            dstep += fma(-exp_accurate(a_log[head]), da, dots[TILE + local]);
            let at = by_head(place.chunk, place.head, local);
            terms[at] = deltas[local] * da;
            terms[rows() + at] = dstep * decay[2u * rows() + at];
            terms[2u * rows() + at] = sum_of_dots(local);
        }
        workgroupBarrier();

        part = Part(); // dx
        for (var first = 0u; first < STATES; first += STEP) {
            add_terms(KEYS, AFTER, true, place, first, local, &part);
        }
        for (var r = 0u; r < ROWS; r++) {
            part[r] *= left(TILE - 1u, row0 + r) * deltas[row0 + r];
        }
        multiply_pairs(UPSTREAM, place, local, &part);
        for (var r = 0u; r < ROWS; r++) {
            if (row0 + r < place.there && v < FEATURES / 4u) {
                let at = (place.row + row0 + r) * (p.width / 4u) + place.x + v;
                dxbc[at] = fma(vec4<f32>(d[head]), factor_of(UPSTREAM, place, row0 + r, v), part[r]);
            }
        }
    }
    let place = place_of(chunk, own_group * (p.heads / p.groups));
    put_pairs(local, &dg, true);
    workgroupBarrier();
    multiply_pairs(KEYS, place, local, &dqueries);
    put_pairs(local, &dg, false);
    workgroupBarrier();
    multiply_pairs(QUERIES, place, local, &dkeys);
    for (var r = 0u; r < ROWS; r++) {
        if (row0 + r < place.there && v < STATES / 4u) {
            let at = (place.row + row0 + r) * (p.width / 4u) + v;
            dxbc[at + place.keys] = dkeys[r];
            dxbc[at + place.queries] = dqueries[r];
        }
    }
}
