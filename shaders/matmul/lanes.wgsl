// Matrix product for processors that run shaders with subgroups of 8 or 16, for sizes that are multiples of 4. The formula, the shapes and
// the epilogue are those of common/matmul_vec4.
// One workgroup computes one tile. Tiles go along n fastest, then m, then batch.
// uses: common/grid, common/matmul_options, common/matmul_vec4, common/matmul_lanes, common/activation, common/math, common/random, common/state, common/sum
@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>; // (batch, M, K)
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>; // (batch, K, N)

// Four steps of k and LANES rows: with TRANS_A rows m + 4·(lane / 4) … + 3 of step k + lane mod 4; without, steps k … k + 3 of row
// m + lane.
fn load_a(base: u32, m: u32, k: u32, lane: u32) -> vec4<f32> {
    if (TRANS_A == 1u) {
        return a[(base + (k + lane % 4u) * p.m + min(m + lane / 4u * 4u, p.m - 4u)) / 4u];
    }
    return a[(base + min(m + lane, p.m - 1u) * p.k + k) / 4u];
}

// Steps k … k + 3 of columns first … first + 3. A column of the matrix is one step. Out of range along n or m the results are not stored:
// clamping is enough.
fn load_b(base: u32, k: u32, first: u32) -> mat4x4<f32> {
    let n = min(first, p.n - 4u);
    if (TRANS_B == 1u) {
        let at = (base + n * p.k + k) / 4u;
        let pitch = p.k / 4u;
        return transpose(mat4x4<f32>(b[at], b[at + pitch], b[at + 2u * pitch], b[at + 3u * pitch]));
    }
    let at = (base + k * p.n + n) / 4u;
    let pitch = p.n / 4u;
    return mat4x4<f32>(b[at], b[at + pitch], b[at + 2u * pitch], b[at + 3u * pitch]);
}

fn store_four(batch: u32, m: u32, n: u32, sums: vec4<f32>) {
    store(batch, m, n, sums);
}

// What y[i] already holds of the sum of this step. A branch would mask every store on a processor.
fn sum_before(i: u32) -> vec4<f32> {
    return select(vec4<f32>(0.0), y[i], accumulates());
}
