// Matrix product for processors that run shaders with subgroups of 8 or 16, for sizes that are no multiples of 4, as matmul/lanes is for
// those that are: it loads and stores number by number. The formula, the shapes and the epilogue are those of common/matmul.
// One workgroup computes one tile. Tiles go along n fastest, then m, then batch.
// uses: common/grid, common/matmul_options, common/matmul, common/matmul_lanes, common/activation, common/math, common/random, common/state, common/sum
@group(0) @binding(1) var<storage, read> a: array<f32>; // (batch, M, K)
@group(0) @binding(2) var<storage, read> b: array<f32>; // (batch, K, N)

// A[m, k], zero past the last step. Out of range along n or m the results are not stored: clamping is enough.
fn one_of_a(base: u32, m: u32, k: u32) -> f32 {
    let row = min(m, p.m - 1u);
    let step = min(k, p.k - 1u);
    return select(0.0, a[base + select(row * p.k + step, step * p.m + row, TRANS_A == 1u)], k < p.k);
}

fn one_of_b(base: u32, k: u32, n: u32) -> f32 {
    let column = min(n, p.n - 1u);
    let step = min(k, p.k - 1u);
    return b[base + select(step * p.n + column, column * p.k + step, TRANS_B == 1u)];
}

// Four steps of k and LANES rows: with TRANS_A rows m + 4·(lane / 4) … + 3 of step k + lane mod 4; without, steps k … k + 3 of row
// m + lane.
fn load_a(base: u32, m: u32, k: u32, lane: u32) -> vec4<f32> {
    if (TRANS_A == 1u) {
        let row = m + lane / 4u * 4u;
        let step = k + lane % 4u;
        return vec4<f32>(one_of_a(base, row, step), one_of_a(base, row + 1u, step), one_of_a(base, row + 2u, step), one_of_a(base, row + 3u, step));
    }
    let row = m + lane;
    return vec4<f32>(one_of_a(base, row, k), one_of_a(base, row, k + 1u), one_of_a(base, row, k + 2u), one_of_a(base, row, k + 3u));
}

// Step k of columns n … n + 3.
fn step_of_b(base: u32, k: u32, n: u32) -> vec4<f32> {
    return vec4<f32>(one_of_b(base, k, n), one_of_b(base, k, n + 1u), one_of_b(base, k, n + 2u), one_of_b(base, k, n + 3u));
}

// Steps k … k + 3 of columns n … n + 3. A column of the matrix is one step.
fn load_b(base: u32, k: u32, n: u32) -> mat4x4<f32> {
    return mat4x4<f32>(step_of_b(base, k, n), step_of_b(base, k + 1u, n), step_of_b(base, k + 2u, n), step_of_b(base, k + 3u, n));
}

fn store_four(batch: u32, m: u32, n: u32, sums: vec4<f32>) {
    for (var c = 0u; c < 4u; c++) {
        let sum = select(select(sums.x, sums.y, c == 1u), select(sums.z, sums.w, c == 3u), c >= 2u);
        store(batch, m, n + c, sum + bias_of(n + c));
    }
}

// What y[i] already holds of the sum of this step. A branch would mask every store on a processor.
fn sum_before(i: u32) -> f32 {
    return select(0.0, y[i], accumulates());
}
