// Tiles of a matrix product on processors that run shaders with subgroups of 8 or 16 (LANES), and what the kernels that make them share.
// A workgroup is one subgroup and computes a tile of 32 × (4·LANES) outputs, held as eight matrices per lane. Lane l owns columns
// 4l … 4l + 3. The A of four steps of k comes as four vectors per lane, two of them with 16 lanes, and is handed round by broadcast. The
// products are written out, as an array that the driver does not unroll would live in memory. With more steps in the loop its code would
// be longer than the instruction cache.
// One workgroup computes one tile. Tiles go along n fastest, then m, then batch.
// A kernel has load_a, load_b and store_four.

const LANES: u32 = 8u;
// First of the lanes that hold the rows given by load_next.
const NEXT: u32 = LANES - 8u;

// What load_a gives for the eight rows after the first eight of `v`. If there are 16 lanes, the last eight have it already.
fn load_next(v: vec4<f32>, base: u32, m: u32, k: u32, lane: u32) -> vec4<f32> {
    if (LANES == 16u) {
        return v;
    }
    return load_a(base, m, k, lane);
}

// Four rows, a column each, of what four lanes hold.
fn rows_of(v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>) -> mat4x4<f32> {
    if (TRANS_A == 1u) {
        return transpose(mat4x4<f32>(v0, v1, v2, v3));
    }
    return mat4x4<f32>(v0, v1, v2, v3);
}

// Rows 0 … 3 and 4 … 7 of what load_a gives. They are written out, as a lane to broadcast from must be a constant, not an argument.
fn rows_0(v: vec4<f32>) -> mat4x4<f32> {
    return rows_of(subgroupBroadcast(v, 0u), subgroupBroadcast(v, 1u), subgroupBroadcast(v, 2u), subgroupBroadcast(v, 3u));
}

fn rows_4(v: vec4<f32>) -> mat4x4<f32> {
    return rows_of(subgroupBroadcast(v, 4u), subgroupBroadcast(v, 5u), subgroupBroadcast(v, 6u), subgroupBroadcast(v, 7u));
}

// The same of what load_next gives.
fn next_0(v: vec4<f32>) -> mat4x4<f32> {
    return rows_of(subgroupBroadcast(v, NEXT), subgroupBroadcast(v, NEXT + 1u), subgroupBroadcast(v, NEXT + 2u), subgroupBroadcast(v, NEXT + 3u));
}

fn next_4(v: vec4<f32>) -> mat4x4<f32> {
    return rows_of(subgroupBroadcast(v, NEXT + 4u), subgroupBroadcast(v, NEXT + 5u), subgroupBroadcast(v, NEXT + 6u), subgroupBroadcast(v, NEXT + 7u));
}

// Four sums of a row, over four steps, with one rounding each.
fn add_row(sum: vec4<f32>, b: mat4x4<f32>, row: vec4<f32>) -> vec4<f32> {
    return fma(b[3], vec4<f32>(row.w), fma(b[2], vec4<f32>(row.z), fma(b[1], vec4<f32>(row.y), fma(b[0], vec4<f32>(row.x), sum))));
}

// The sixteen sums of four rows, row by row: four of them are in registers at a time, of which processors without AVX-512 have sixteen.
// Step by step, all sixteen would leave them and come back with each step.
fn add_product(sum: mat4x4<f32>, b: mat4x4<f32>, rows: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(add_row(sum[0], b, rows[0]), add_row(sum[1], b, rows[1]), add_row(sum[2], b, rows[2]), add_row(sum[3], b, rows[3]));
}

// `b` where `second` is true, else `a`.
fn either(second: bool, a: mat4x4<f32>, b: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(select(a[0], b[0], second), select(a[1], b[1], second), select(a[2], b[2], second), select(a[3], b[3], second));
}

// The sums of A that the lanes hold, of rows m … m + LANES − 1.
fn store_sums(m: u32, lane: u32, sums: vec4<f32>) {
    if (TRANS_A == 1u) {
        // Each lane has the sums over its own steps of four rows; four lanes have the same rows.
        var sum = sums;
        sum += subgroupShuffleXor(sum, 1u);
        sum += subgroupShuffleXor(sum, 2u);
        if (lane % 4u == 0u) {
            let first = m + lane;
            store_row_sum(first, sum.x);
            store_row_sum(first + 1u, sum.y);
            store_row_sum(first + 2u, sum.z);
            store_row_sum(first + 3u, sum.w);
        }
        return;
    }
    store_row_sum(m + lane, dot(sums, vec4<f32>(1.0)));
}

// Row and column of a tile: in strips of `wide` columns, row by row, so that what a strip reads of B stays in the caches.
fn tile_at(tile: u32, tiles_m: u32, tiles_n: u32, wide: u32) -> vec2<u32> {
    let strip = tile / (tiles_m * wide);
    let width = min(wide, tiles_n - strip * wide);
    let rest = tile - strip * tiles_m * wide;
    return vec2<u32>(rest / width, strip * wide + rest % width);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let tiles_n = (p.n + 4u * LANES - 1u) / (4u * LANES);
    let tiles_m = (p.m + 31u) / 32u;
    let tile = flat_group(group, groups);
    let batch = tile / (tiles_n * tiles_m);
    if (batch >= p.batch) {
        return;
    }
    // A strip reads 512 KiB of B.
    let at = tile_at(tile % (tiles_n * tiles_m), tiles_m, tiles_n, clamp(32768u / LANES / p.k, 1u, tiles_n));
    let m0 = at.x * 32u;
    let n0 = at.y * (4u * LANES);
    let n = n0 + lane * 4u;
    let base_a = p.a_at + batch * p.m * p.k;
    let base_b = p.b_at + batch * p.k * p.n;
    var acc0 = mat4x4<f32>();
    var acc1 = mat4x4<f32>();
    var acc2 = mat4x4<f32>();
    var acc3 = mat4x4<f32>();
    var acc4 = mat4x4<f32>();
    var acc5 = mat4x4<f32>();
    var acc6 = mat4x4<f32>();
    var acc7 = mat4x4<f32>();
    var sums0 = vec4<f32>(0.0);
    var sums1 = vec4<f32>(0.0);
    var sums2 = vec4<f32>(0.0);
    var sums3 = vec4<f32>(0.0);
    for (var k = 0u; k < p.k; k += 4u) {
        let a0 = load_a(base_a, m0 + 0u, k, lane);
        let a1 = load_next(a0, base_a, m0 + 8u, k, lane);
        let a2 = load_a(base_a, m0 + 16u, k, lane);
        let a3 = load_next(a2, base_a, m0 + 24u, k, lane);
        if (ROW_SUM == 1u) {
            sums0 += a0;
            sums1 += a1;
            sums2 += a2;
            sums3 += a3;
        }
        let b = load_b(base_b, k, n);
        acc0 = add_product(acc0, b, rows_0(a0));
        acc1 = add_product(acc1, b, rows_4(a0));
        acc2 = add_product(acc2, b, next_0(a1));
        acc3 = add_product(acc3, b, next_4(a1));
        acc4 = add_product(acc4, b, rows_0(a2));
        acc5 = add_product(acc5, b, rows_4(a2));
        acc6 = add_product(acc6, b, next_0(a3));
        acc7 = add_product(acc7, b, next_4(a3));
    }
    // In a loop, and the rows by select: the driver's compiler takes most of its time for an epilogue that is written out 32 times.
    for (var r = 0u; r < 8u; r++) {
        let odd = r % 2u == 1u;
        let pair = r / 2u % 2u == 1u;
        let rows = either(r >= 4u, either(pair, either(odd, acc0, acc1), either(odd, acc2, acc3)), either(pair, either(odd, acc4, acc5), either(odd, acc6, acc7)));
        for (var c = 0u; c < 4u; c++) {
            store_four(batch, m0 + 4u * r + c, n, select(select(rows[0], rows[1], c == 1u), select(rows[2], rows[3], c == 3u), c >= 2u));
        }
    }
    if (ROW_SUM == 1u) {
        if (n0 == 0u) {
            store_sums(m0, lane, sums0);
            store_sums(m0 + 16u, lane, sums2);
            if (LANES == 8u) {
                store_sums(m0 + 8u, lane, sums1);
                store_sums(m0 + 24u, lane, sums3);
            }
        }
    }
}
