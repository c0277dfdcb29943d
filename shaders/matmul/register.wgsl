// Matrix product for processors that run shaders, and sizes that matmul/lanes cannot take. The formula, the shapes and the epilogue are
// those of common/matmul.
// Such a processor reads storage lane by lane, so loads cost far more than products, and barriers more than both. So an invocation computes
// TILE_M × TILE_N outputs in registers and shares nothing.
// One invocation computes one tile. Tiles go along n fastest, then m, then batch.
// uses: common/grid, common/matmul_options, common/matmul, common/activation, common/math, common/random, common/state, common/sum
const WG: u32 = 8u;
const TILE_M: u32 = 4u;
const TILE_N: u32 = 4u;

@group(0) @binding(1) var<storage, read> a: array<f32>; // (batch, M, K)
@group(0) @binding(2) var<storage, read> b: array<f32>; // (batch, K, N)

// What y[i] already holds of the sum of this step. A branch would mask every store on a processor.
fn sum_before(i: u32) -> f32 {
    return select(0.0, y[i], accumulates());
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let tiles_n = (p.n + TILE_N - 1u) / TILE_N;
    let tiles_m = (p.m + TILE_M - 1u) / TILE_M;
    let tile = flat_group(group, groups) * WG + local;
    let batch = tile / (tiles_n * tiles_m);
    if (batch >= p.batch) {
        return;
    }
    let m0 = (tile / tiles_n) % tiles_m * TILE_M;
    let n0 = tile % tiles_n * TILE_N;
    var acc: array<f32, TILE_M * TILE_N>;
    var sums: array<f32, TILE_M>;
    for (var k = 0u; k < p.k; k++) {
        // Out of range along m or n the results are not stored: clamping is enough.
        var column: array<f32, TILE_N>;
        for (var c = 0u; c < TILE_N; c++) {
            column[c] = b[index_b(batch, k, min(n0 + c, p.n - 1u))];
        }
        for (var r = 0u; r < TILE_M; r++) {
            let v = a[index_a(batch, min(m0 + r, p.m - 1u), k)];
            if (ROW_SUM == 1u) {
                sums[r] += v;
            }
            for (var c = 0u; c < TILE_N; c++) {
                acc[r * TILE_N + c] = fma(v, column[c], acc[r * TILE_N + c]);
            }
        }
    }
    for (var c = 0u; c < TILE_N; c++) {
        let offset = bias_of(n0 + c);
        for (var r = 0u; r < TILE_M; r++) {
            store(batch, m0 + r, n0 + c, acc[r * TILE_N + c] + offset);
        }
    }
    if (ROW_SUM == 1u) {
        if (n0 == 0u) {
            for (var r = 0u; r < TILE_M; r++) {
                store_row_sum(m0 + r, sums[r]);
            }
        }
    }
}
