// Matrix product for processors that run shaders with subgroups of 8 or 16 (LANES), for sizes that are multiples of 4. The formula, the
// shapes and the epilogue are those of common/matmul_vec4.
// A workgroup is one subgroup and computes a tile of 32 × (4·LANES) outputs, held as eight matrices per lane. Lane l owns columns
// 4l … 4l + 3. The A of eight steps of k comes as eight vectors per lane, four of them with 16 lanes, and is handed round by broadcast. The
// products are written out, as an array that the driver does not unroll would live in memory.
// One workgroup computes one tile. Tiles go along n fastest, then m, then batch.
// uses: common/grid, common/matmul_options, common/matmul_vec4, common/activation, common/math, common/random, common/state, common/sum

const LANES: u32 = 8u;
// First of the lanes that hold the rows given by load_next.
const NEXT: u32 = LANES - 8u;

@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>; // (batch, M, K)
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>; // (batch, K, N)

// With TRANS_A rows m … m + 3 of step k + lane, and of the last eight of 16 lanes the four rows after them; without, steps k + 4·(lane mod
// 2) … + 3 of row m + lane / 2. Zero past the last step.
fn load_a(base: u32, m: u32, k: u32, lane: u32) -> vec4<f32> {
    if (TRANS_A == 1u) {
        let step = k + lane % 8u;
        return a[(base + min(step, p.k - 1u) * p.m + min(m + lane / 8u * 4u, p.m - 4u)) / 4u] * select(0.0, 1.0, step < p.k);
    }
    let kk = k + lane % 2u * 4u;
    return a[(base + min(m + lane / 2u, p.m - 1u) * p.k + min(kk, p.k - 4u)) / 4u] * select(0.0, 1.0, kk < p.k);
}

// Steps k … k + 3 of columns n … n + 3. A column of the matrix is one step.
fn load_b(base: u32, k: u32, n: u32) -> mat4x4<f32> {
    if (TRANS_B == 1u) {
        let at = (base + n * p.k + k) / 4u;
        let pitch = p.k / 4u;
        return transpose(mat4x4<f32>(b[at], b[at + pitch], b[at + 2u * pitch], b[at + 3u * pitch]));
    }
    let at = (base + k * p.n + n) / 4u;
    let pitch = p.n / 4u;
    return mat4x4<f32>(b[at], b[at + pitch], b[at + 2u * pitch], b[at + 3u * pitch]);
}

// A of four rows and the first four of the eight steps. A column of the matrix is one row.
fn early(v: vec4<f32>) -> mat4x4<f32> {
    if (TRANS_A == 1u) {
        return transpose(mat4x4<f32>(subgroupBroadcast(v, 0u), subgroupBroadcast(v, 1u), subgroupBroadcast(v, 2u), subgroupBroadcast(v, 3u)));
    }
    return mat4x4<f32>(subgroupBroadcast(v, 0u), subgroupBroadcast(v, 2u), subgroupBroadcast(v, 4u), subgroupBroadcast(v, 6u));
}

// The same for the last four steps.
fn late(v: vec4<f32>) -> mat4x4<f32> {
    if (TRANS_A == 1u) {
        return transpose(mat4x4<f32>(subgroupBroadcast(v, 4u), subgroupBroadcast(v, 5u), subgroupBroadcast(v, 6u), subgroupBroadcast(v, 7u)));
    }
    return mat4x4<f32>(subgroupBroadcast(v, 1u), subgroupBroadcast(v, 3u), subgroupBroadcast(v, 5u), subgroupBroadcast(v, 7u));
}

// What load_a gives for the four rows after those of `v`. If there are 16 lanes, the last eight have it already.
fn load_next(v: vec4<f32>, base: u32, m: u32, k: u32, lane: u32) -> vec4<f32> {
    if (LANES == 16u) {
        return v;
    }
    return load_a(base, m, k, lane);
}

// early and late for what load_next gave. They are written out, as a lane to broadcast from must be a constant, not an argument.
fn early_next(v: vec4<f32>) -> mat4x4<f32> {
    if (TRANS_A == 1u) {
        return transpose(mat4x4<f32>(subgroupBroadcast(v, NEXT), subgroupBroadcast(v, NEXT + 1u), subgroupBroadcast(v, NEXT + 2u), subgroupBroadcast(v, NEXT + 3u)));
    }
    return mat4x4<f32>(subgroupBroadcast(v, NEXT), subgroupBroadcast(v, NEXT + 2u), subgroupBroadcast(v, NEXT + 4u), subgroupBroadcast(v, NEXT + 6u));
}

fn late_next(v: vec4<f32>) -> mat4x4<f32> {
    if (TRANS_A == 1u) {
        return transpose(mat4x4<f32>(subgroupBroadcast(v, NEXT + 4u), subgroupBroadcast(v, NEXT + 5u), subgroupBroadcast(v, NEXT + 6u), subgroupBroadcast(v, NEXT + 7u)));
    }
    return mat4x4<f32>(subgroupBroadcast(v, NEXT + 1u), subgroupBroadcast(v, NEXT + 3u), subgroupBroadcast(v, NEXT + 5u), subgroupBroadcast(v, NEXT + 7u));
}

// Four sums of a row, over eight steps of which the row of A has four in `early` and four in `late`, with one rounding each.
fn add_row(sum: vec4<f32>, b0: mat4x4<f32>, b1: mat4x4<f32>, early: vec4<f32>, late: vec4<f32>) -> vec4<f32> {
    let half = fma(b0[3], vec4<f32>(early.w), fma(b0[2], vec4<f32>(early.z), fma(b0[1], vec4<f32>(early.y), fma(b0[0], vec4<f32>(early.x), sum))));
    return fma(b1[3], vec4<f32>(late.w), fma(b1[2], vec4<f32>(late.z), fma(b1[1], vec4<f32>(late.y), fma(b1[0], vec4<f32>(late.x), half))));
}

// The sixteen sums of four rows, row by row: four of them are in registers at a time, of which processors without AVX-512 have sixteen.
// Step by step, all sixteen would leave them and come back with each step.
fn add_product(sum: mat4x4<f32>, b0: mat4x4<f32>, b1: mat4x4<f32>, early: mat4x4<f32>, late: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(
        add_row(sum[0], b0, b1, early[0], late[0]),
        add_row(sum[1], b0, b1, early[1], late[1]),
        add_row(sum[2], b0, b1, early[2], late[2]),
        add_row(sum[3], b0, b1, early[3], late[3])
    );
}

// `b` where `second` is true, else `a`.
fn either(second: bool, a: mat4x4<f32>, b: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(select(a[0], b[0], second), select(a[1], b[1], second), select(a[2], b[2], second), select(a[3], b[3], second));
}

fn store_sums(m: u32, lane: u32, sums: vec4<f32>) {
    if (TRANS_A == 1u) {
        // Each lane has the sums over its own steps of four rows; eight lanes have the same rows.
        var sum = sums;
        if (LANES == 8u) {
            sum = subgroupAdd(sums);
        } else {
            sum += subgroupShuffleXor(sum, 1u);
            sum += subgroupShuffleXor(sum, 2u);
            sum += subgroupShuffleXor(sum, 4u);
        }
        if (lane % 8u == 0u) {
            let first = m + lane / 8u * 4u;
            store_row_sum(first, sum.x);
            store_row_sum(first + 1u, sum.y);
            store_row_sum(first + 2u, sum.z);
            store_row_sum(first + 3u, sum.w);
        }
        return;
    }
    // Lanes 2j and 2j + 1 have the two halves of the steps of row m + j.
    let half = dot(sums, vec4<f32>(1.0));
    let sum = half + subgroupShuffleXor(half, 1u);
    if (lane % 2u == 0u) {
        store_row_sum(m + lane / 2u, sum);
    }
}

// What y[i] already holds of the sum of this step. A branch would mask every store on a processor.
fn sum_before(i: u32) -> vec4<f32> {
    return select(vec4<f32>(0.0), y[i], accumulates());
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
    // Out of range along n or m the results are not stored: clamping is enough.
    let n = n0 + lane * 4u;
    let safe_n = min(n, p.n - 4u);
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
    var sums4 = vec4<f32>(0.0);
    var sums5 = vec4<f32>(0.0);
    var sums6 = vec4<f32>(0.0);
    var sums7 = vec4<f32>(0.0);
    for (var k = 0u; k < p.k; k += 8u) {
        let a0 = load_a(base_a, m0 + 0u, k, lane);
        let a1 = load_next(a0, base_a, m0 + 4u, k, lane);
        let a2 = load_a(base_a, m0 + 8u, k, lane);
        let a3 = load_next(a2, base_a, m0 + 12u, k, lane);
        let a4 = load_a(base_a, m0 + 16u, k, lane);
        let a5 = load_next(a4, base_a, m0 + 20u, k, lane);
        let a6 = load_a(base_a, m0 + 24u, k, lane);
        let a7 = load_next(a6, base_a, m0 + 28u, k, lane);
        if (ROW_SUM == 1u) {
            sums0 += a0;
            sums1 += a1;
            sums2 += a2;
            sums3 += a3;
            sums4 += a4;
            sums5 += a5;
            sums6 += a6;
            sums7 += a7;
        }
        let b0 = load_b(base_b, min(k, p.k - 4u), safe_n);
        let b1 = load_b(base_b, min(k + 4u, p.k - 4u), safe_n);
        acc0 = add_product(acc0, b0, b1, early(a0), late(a0));
        acc1 = add_product(acc1, b0, b1, early_next(a1), late_next(a1));
        acc2 = add_product(acc2, b0, b1, early(a2), late(a2));
        acc3 = add_product(acc3, b0, b1, early_next(a3), late_next(a3));
        acc4 = add_product(acc4, b0, b1, early(a4), late(a4));
        acc5 = add_product(acc5, b0, b1, early_next(a5), late_next(a5));
        acc6 = add_product(acc6, b0, b1, early(a6), late(a6));
        acc7 = add_product(acc7, b0, b1, early_next(a7), late_next(a7));
    }
    // In a loop, and the rows by select: the driver's compiler takes most of its time for an epilogue that is written out 32 times.
    for (var r = 0u; r < 8u; r++) {
        let odd = r % 2u == 1u;
        let pair = r / 2u % 2u == 1u;
        let rows = either(r >= 4u, either(pair, either(odd, acc0, acc1), either(odd, acc2, acc3)), either(pair, either(odd, acc4, acc5), either(odd, acc6, acc7)));
        for (var c = 0u; c < 4u; c++) {
            store(batch, m0 + 4u * r + c, n, select(select(rows[0], rows[1], c == 1u), select(rows[2], rows[3], c == 3u), c >= 2u));
        }
    }
    if (ROW_SUM == 1u) {
        if (n0 == 0u) {
            store_sums(m0 + 0u, lane, sums0);
            store_sums(m0 + 8u, lane, sums2);
            store_sums(m0 + 16u, lane, sums4);
            store_sums(m0 + 24u, lane, sums6);
            if (LANES == 8u) {
                store_sums(m0 + 4u, lane, sums1);
                store_sums(m0 + 12u, lane, sums3);
                store_sums(m0 + 20u, lane, sums5);
                store_sums(m0 + 28u, lane, sums7);
            }
        }
    }
}
