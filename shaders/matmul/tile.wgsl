// Matrix product for GPUs. The formula, the shapes and the epilogue are those of common/matmul.
// A workgroup of 8 × 8 invocations computes a tile of (8·ROWS) × (32·VECS) outputs. Each invocation holds ROWS × (4·VECS) of them in
// registers, and 16 steps of k at a time go through workgroup memory.
// One workgroup computes one tile. Tiles go along n fastest, then m, then batch.
// uses: common/grid, common/matmul_options, common/matmul, common/activation, common/math, common/random, common/state, common/sum
const ROWS: u32 = 8u;
const VECS: u32 = 2u;
const STEP: u32 = 16u;
const TILE_M: u32 = 8u * ROWS;
const TILE_N: u32 = 32u * VECS;
// Padding keeps the transposing stores out of each other's banks.
const PITCH_M: u32 = TILE_M + 4u;
const PITCH_N: u32 = TILE_N + 4u;

@group(0) @binding(1) var<storage, read> a: array<f32>; // (batch, M, K)
@group(0) @binding(2) var<storage, read> b: array<f32>; // (batch, K, N)

var<workgroup> tile_a: array<f32, STEP * PITCH_M>; // [k][m]
var<workgroup> tile_b: array<f32, STEP * PITCH_N>; // [k][n]

// What y[i] already holds of the sum of this step.
fn sum_before(i: u32) -> f32 {
    if (accumulates()) {
        return y[i];
    }
    return 0.0;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let tiles_n = (p.n + TILE_N - 1u) / TILE_N;
    let tiles_m = (p.m + TILE_M - 1u) / TILE_M;
    let tile = flat_group(group, groups);
    let batch = tile / (tiles_n * tiles_m);
    if (batch >= p.batch) {
        return;
    }
    let m0 = (tile / tiles_n) % tiles_m * TILE_M;
    let n0 = tile % tiles_n * TILE_N;
    let tm = local / 8u * ROWS;
    let tn = local % 8u * 4u * VECS;
    var acc: array<vec4<f32>, ROWS * VECS>;
    var sums: array<f32, ROWS>;
    for (var k0 = 0u; k0 < p.k; k0 += STEP) {
        // As often in every invocation, and without a branch: drivers unroll these loops, and the loads of a step are under way together.
        for (var i = 0u; i < STEP * TILE_M / 64u; i++) {
            let e = local + i * 64u;
            // The index that is contiguous in memory runs fastest.
            let m = select(e / STEP, e % TILE_M, TRANS_A == 1u);
            let k = select(e % STEP, e / TILE_M, TRANS_A == 1u);
            let v = a[index_a(batch, min(m0 + m, p.m - 1u), min(k0 + k, p.k - 1u))];
            tile_a[k * PITCH_M + m] = select(0.0, v, m0 + m < p.m && k0 + k < p.k);
        }
        for (var i = 0u; i < STEP * TILE_N / 64u; i++) {
            let e = local + i * 64u;
            let n = select(e % TILE_N, e / STEP, TRANS_B == 1u);
            let k = select(e / TILE_N, e % STEP, TRANS_B == 1u);
            let v = b[index_b(batch, min(k0 + k, p.k - 1u), min(n0 + n, p.n - 1u))];
            tile_b[k * PITCH_N + n] = select(0.0, v, n0 + n < p.n && k0 + k < p.k);
        }
        workgroupBarrier();
        for (var k = 0u; k < STEP; k++) {
            var bv: array<vec4<f32>, VECS>;
            for (var c = 0u; c < VECS; c++) {
                let at = k * PITCH_N + tn + c * 4u;
                bv[c] = vec4<f32>(tile_b[at], tile_b[at + 1u], tile_b[at + 2u], tile_b[at + 3u]);
            }
            for (var r = 0u; r < ROWS; r++) {
                let av = tile_a[k * PITCH_M + tm + r];
                if (ROW_SUM == 1u) {
                    sums[r] += av;
                }
                for (var c = 0u; c < VECS; c++) {
                    acc[r * VECS + c] = fma(vec4<f32>(av), bv[c], acc[r * VECS + c]);
                }
            }
        }
        workgroupBarrier();
    }
    for (var r = 0u; r < ROWS; r++) {
        for (var c = 0u; c < VECS; c++) {
            let v = acc[r * VECS + c];
            let n = n0 + tn + c * 4u;
            store(batch, m0 + tm + r, n, v.x + bias_of(n));
            store(batch, m0 + tm + r, n + 1u, v.y + bias_of(n + 1u));
            store(batch, m0 + tm + r, n + 2u, v.z + bias_of(n + 2u));
            store(batch, m0 + tm + r, n + 3u, v.w + bias_of(n + 3u));
        }
        if (ROW_SUM == 1u) {
            if (n0 == 0u && local % 8u == 0u) {
                store_row_sum(m0 + tm + r, sums[r]);
            }
        }
    }
}
