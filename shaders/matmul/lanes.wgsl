// Matrix product for processors that run shaders with subgroups of 8; formula, shapes and epilogue in common/matmul. A workgroup is one
// subgroup and makes a tile of ROWS × 32 outputs: lane l holds columns 4l … 4l + 3 in registers, loads A of step k + l and hands it round
// by broadcast. No workgroup memory and no barrier, which cost more there than loads.
// Grid: one workgroup a tile, tiles along n fastest, then m, then batch.
// uses: common/grid, common/matmul, common/activation, common/math, common/random, common/state
const ROWS: u32 = 16u;


fn load_b(batch: u32, k: u32, n: u32) -> vec4<f32> {
    // Out of range along n the value is unused, out of range along k it meets a zero of A: clamping is enough.
    let kk = min(k, p.k - 1u);
    return vec4<f32>(
        b[index_b(batch, kk, min(n, p.n - 1u))],
        b[index_b(batch, kk, min(n + 1u, p.n - 1u))],
        b[index_b(batch, kk, min(n + 2u, p.n - 1u))],
        b[index_b(batch, kk, min(n + 3u, p.n - 1u))],
    );
}

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let tiles_n = (p.n + 31u) / 32u;
    let tiles_m = (p.m + ROWS - 1u) / ROWS;
    let tile = flat_group(group, groups);
    let batch = tile / (tiles_n * tiles_m);
    if (batch >= p.batch) {
        return;
    }
    let m0 = (tile / tiles_n) % tiles_m * ROWS;
    let n0 = tile % tiles_n * 32u;
    let n = n0 + lane * 4u;
    var acc: array<vec4<f32>, ROWS>;
    var sums: array<f32, ROWS>;
    for (var k0 = 0u; k0 < p.k; k0 += 8u) {
        let k = min(k0 + lane, p.k - 1u);
        let inside = select(0.0, 1.0, k0 + lane < p.k);
        var column: array<f32, ROWS>;
        for (var r = 0u; r < ROWS; r++) {
            column[r] = a[index_a(batch, min(m0 + r, p.m - 1u), k)] * inside;
            sums[r] += column[r]; // if ROW_SUM
        }
        for (var j = 0u; j < 8u; j++) {
            let bv = load_b(batch, k0 + j, n);
            for (var r = 0u; r < ROWS; r++) {
                acc[r] = fma(vec4<f32>(subgroupShuffle(column[r], j)), bv, acc[r]);
            }
        }
    }
    for (var r = 0u; r < ROWS; r++) {
        store(batch, m0 + r, n, acc[r].x);
        store(batch, m0 + r, n + 1u, acc[r].y);
        store(batch, m0 + r, n + 2u, acc[r].z);
        store(batch, m0 + r, n + 3u, acc[r].w);
        if (ROW_SUM == 1u && n0 == 0u) {
            let sum = subgroupAdd(sums[r]);
            if (lane == 0u) {
                store_row_sum(m0 + r, sum);
            }
        }
    }
}
