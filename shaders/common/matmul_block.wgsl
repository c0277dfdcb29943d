// Tiles of a matrix product on GPUs, for sizes that are multiples of 4, and what the kernels that make them share.
// A workgroup computes a tile of (8·ROWS) × (32·VECS) outputs and takes STEP steps of k at a time through workgroup memory. While it
// multiplies them, the next ones are on their way to registers. Each of SLICES waves of 64 takes its part of k. In the end the waves add up
// their sums, each for its share of the rows, so that few tiles still fill the card. An invocation holds ROWS rows of VECS vectors. The
// vectors are 32 columns apart, which keeps the lanes' accesses next to each other.
// With FULL, k is a multiple of STEP·SLICES, so that no load needs to be checked. A kernel gives load_a, row_of_b and store.
const WG: u32 = 64u;
const ROWS: u32 = 8u;
const VECS: u32 = 2u;
const STEP: u32 = 16u;
const SLICES: u32 = 1u;
const FULL: u32 = 0u;
// Number of rows that a slice finishes, and number of slices that finish any.
const OWN: u32 = (ROWS + SLICES - 1u) / SLICES;
const FINISH: u32 = ROWS / OWN;
const TILE_M: u32 = 8u * ROWS;
const TILE_N: u32 = 32u * VECS;
// Padding keeps the transposing stores out of each other's banks.
const PITCH_M: u32 = TILE_M + 4u;
const PITCH_N: u32 = TILE_N + 4u;
const SIZE_A: u32 = STEP * PITCH_M;
const SIZE: u32 = STEP * (PITCH_M + PITCH_N);
// Vectors that an invocation loads of each side.
const LOADS_A: u32 = TILE_M * STEP / 256u;
const LOADS_B: u32 = TILE_N * STEP / 256u;
// Vectors along the contiguous axis of a tile as it lies in memory.
const ALONG_A: u32 = TRANS_A * (TILE_M / 4u) + (1u - TRANS_A) * (STEP / 4u);
const ALONG_B: u32 = TRANS_B * (STEP / 4u) + (1u - TRANS_B) * (TILE_N / 4u);

@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>; // (batch, K, N)

// Holds [k][m] and then [k][n] of each slice, and in the end the sums of the slices.
var<workgroup> tiles: array<f32, SLICES * SIZE>;

// Tiles of a panel of rows. Tiles go down a panel, then along n, so that those at work at one time, some hundreds, lie in a square rather
// than in rows: they read half as many different rows of A and columns of B, which stay in the L2 cache meanwhile.
const PANEL: u32 = 16u;

// First row and column of a tile, and its product of the batch: panel by panel, then batch.
fn place_of(tile: u32) -> vec3<u32> {
    let tiles_n = (p.n + TILE_N - 1u) / TILE_N;
    let tiles_m = (p.m + TILE_M - 1u) / TILE_M;
    let at = tile % (tiles_n * tiles_m);
    let first = at / (PANEL * tiles_n) * PANEL;
    let rows = min(PANEL, tiles_m - first);
    let inside = at - first * tiles_n;
    return vec3<u32>((first + inside % rows) * TILE_M, inside / rows * TILE_N, tile / (tiles_n * tiles_m));
}

// Makes the tile at a place and stores it; with ROW_SUM adds up what this invocation loads of A: of four rows, or of one row an element.
fn multiply(place: vec3<u32>, local: u32, row_sums: ptr<function, vec4<f32>>) {
    let m0 = place.x;
    let n0 = place.y;
    let batch = place.z;
    let slice = local / 64u;
    let lane = local % 64u;
    let rounds = (p.k + STEP * SLICES - 1u) / (STEP * SLICES);
    let first_k = slice * rounds * STEP;
    let in_a = slice * SIZE;
    let in_b = in_a + SIZE_A;
    // Where each load begins: out of range along m or n the results are not stored, so clamping is enough.
    var at_a: array<u32, LOADS_A>;
    var at_b: array<u32, LOADS_B>;
    for (var i = 0u; i < LOADS_A; i++) {
        let e = lane + i * 64u;
        let along = e % ALONG_A * 4u;
        let across = e / ALONG_A;
        if (TRANS_A == 1u) {
            at_a[i] = (p.a_at + batch * p.m * p.k + (first_k + across) * p.m + min(m0 + along, p.m - 4u)) / 4u;
        } else {
            at_a[i] = (p.a_at + batch * p.m * p.k + min(m0 + across, p.m - 1u) * p.k + first_k + along) / 4u;
        }
    }
    for (var i = 0u; i < LOADS_B; i++) {
        let e = lane + i * 64u;
        let along = e % ALONG_B * 4u;
        let across = e / ALONG_B;
        if (TRANS_B == 1u) {
            at_b[i] = (p.b_at + batch * p.k * p.n + row_of_b(min(n0 + across, p.n - 1u)) * p.k + first_k + along) / 4u;
        } else {
            at_b[i] = (p.b_at + batch * p.k * p.n + (first_k + across) * p.n + min(n0 + along, p.n - 4u)) / 4u;
        }
    }
    let stride_a = STEP / 4u * select(1u, p.m, TRANS_A == 1u);
    let stride_b = STEP / 4u * select(p.n, 1u, TRANS_B == 1u);
    let last_a = (p.a_at + (batch + 1u) * p.m * p.k) / 4u - 1u;
    let last_b = (p.b_at + (batch + 1u) * p.k * p.n) / 4u - 1u;
    var next_a: array<vec4<f32>, LOADS_A>;
    var next_b: array<vec4<f32>, LOADS_B>;
    var acc: array<vec4<f32>, ROWS * VECS>;
    // What was loaded in the round before goes to workgroup memory; the loads of this round are under way while it is multiplied.
    for (var round = 0u; round <= rounds; round++) {
        if (round > 0u) {
            for (var i = 0u; i < LOADS_A; i++) {
                let along = (lane + i * 64u) % ALONG_A;
                let across = (lane + i * 64u) / ALONG_A;
                let v = next_a[i];
                if (TRANS_A == 1u) {
                    put_along(in_a + across * PITCH_M + along * 4u, v);
                    if (ROW_SUM == 1u) {
                        *row_sums += v;
                    }
                } else {
                    put_across(in_a + along * 4u * PITCH_M + across, PITCH_M, v);
                    if (ROW_SUM == 1u) {
                        (*row_sums)[i] += dot(v, vec4<f32>(1.0));
                    }
                }
            }
            for (var i = 0u; i < LOADS_B; i++) {
                let along = (lane + i * 64u) % ALONG_B;
                let across = (lane + i * 64u) / ALONG_B;
                let v = next_b[i];
                if (TRANS_B == 1u) {
                    put_across(in_b + along * 4u * PITCH_N + across, PITCH_N, v);
                } else {
                    put_along(in_b + across * PITCH_N + along * 4u, v);
                }
            }
            workgroupBarrier();
        }
        if (round < rounds) {
            for (var i = 0u; i < LOADS_A; i++) {
                if (FULL == 1u) {
                    next_a[i] = load_a(at_a[i] + round * stride_a);
                } else {
                    // Past the last step, zeros are stored.
                    let k = first_k + round * STEP + select((lane + i * 64u) % ALONG_A * 4u, (lane + i * 64u) / ALONG_A, TRANS_A == 1u);
                    next_a[i] = load_a(min(at_a[i] + round * stride_a, last_a)) * select(0.0, 1.0, k < p.k);
                }
            }
            for (var i = 0u; i < LOADS_B; i++) {
                if (FULL == 1u) {
                    next_b[i] = b[at_b[i] + round * stride_b];
                } else {
                    next_b[i] = b[min(at_b[i] + round * stride_b, last_b)];
                }
            }
        }
        if (round == 0u) {
            continue;
        }
        // Four steps at a time, so that their addresses are constants of the instructions.
        for (var k0 = 0u; k0 < STEP; k0 += 4u) {
            // With four rows or eight an invocation's begin at a multiple of four.
            let row_a = in_a + k0 * PITCH_M + select(0u, lane / 8u * ROWS, ROWS >= 4u);
            let row_b = in_b + k0 * PITCH_N + lane % 8u * 4u;
            for (var step = 0u; step < 4u; step++) {
                var bv: array<vec4<f32>, VECS>;
                for (var c = 0u; c < VECS; c++) {
                    bv[c] = tile(row_b + (step * PITCH_N + c * 32u));
                }
                for (var r = 0u; r < ROWS; r += 2u) {
                    let row = select(lane / 8u * ROWS + r, r, ROWS >= 4u);
                    let av = tile(row_a + (step * PITCH_M + row / 4u * 4u));
                    let pair = select(av.xy, av.zw, row % 4u == 2u);
                    for (var c = 0u; c < VECS; c++) {
                        acc[r * VECS + c] = fma(vec4<f32>(pair.x), bv[c], acc[r * VECS + c]);
                        acc[(r + 1u) * VECS + c] = fma(vec4<f32>(pair.y), bv[c], acc[(r + 1u) * VECS + c]);
                    }
                }
            }
        }
        workgroupBarrier();
    }
    // Each slice finishes OWN rows: it gives the others its sums of theirs, and adds theirs to its own, in order.
    var own: array<vec4<f32>, OWN * VECS>;
    for (var to = 0u; to < FINISH; to++) {
        let part = to * (SLICES - 1u) + slice - select(0u, 1u, slice > to);
        for (var i = 0u; i < OWN * VECS; i++) {
            if (slice == to || SLICES == 1u) {
                own[i] = acc[to * OWN * VECS + i];
            } else {
                put_along(((part * OWN * VECS + i) * 64u + lane) * 4u, acc[to * OWN * VECS + i]);
            }
        }
    }
    if (SLICES > 1u) {
        workgroupBarrier();
    }
    if (slice < FINISH) {
        for (var other = 0u; other < SLICES - 1u; other++) {
            for (var i = 0u; i < OWN * VECS; i++) {
                own[i] += tile((((slice * (SLICES - 1u) + other) * OWN * VECS + i) * 64u + lane) * 4u);
            }
        }
        for (var r = 0u; r < OWN; r++) {
            for (var c = 0u; c < VECS; c++) {
                store(batch, m0 + lane / 8u * ROWS + slice * OWN + r, n0 + lane % 8u * 4u + c * 32u, own[r * VECS + c]);
            }
        }
    }
}
