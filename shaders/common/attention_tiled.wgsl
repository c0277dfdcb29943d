// What the tiled kernels of attention share: sizes, options, and the two products of a tile.
// A workgroup computes what belongs to TILE positions of its own, which are queries or keys. It takes OTHER positions of the other side at
// a time. Invocation l keeps ROWS of its own positions, from l / 8 · ROWS on. Beside them it keeps four positions of the other side, from l
// % 8 · 4 on, or VECS vectors of features, l % 8 and every eighth after it.
const WG: u32 = 64u;
// Invocations of a workgroup along its own positions, and along those of the other side: WG = SIDE².
const SIDE: u32 = 8u;
const D: u32 = 16u;
const ROWS: u32 = 8u;
const CAUSAL: u32 = 1u;
const DROPOUT: u32 = 1u;
const CROSS: u32 = 0u;
const TILE: u32 = SIDE * ROWS;
const OTHER: u32 = 32u;
// Features, or positions of the other side, that workgroup memory holds at a time.
const STEP: u32 = 16u;
// Number of vectors in a row.
const WIDE: u32 = D / 4u;
const VECS: u32 = (WIDE + SIDE - 1u) / SIDE;
// Padding keeps the transposing stores out of each other's banks.
const PITCH: u32 = TILE + 4u;
const PITCH_OTHER: u32 = OTHER + 4u;
const SIZE: u32 = STEP * (PITCH + PITCH_OTHER);

struct Params { batch: u32, length: u32, heads: u32, stream: u32, rate: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> qkv: array<vec4<f32>>;     // (B, T, 3, H, D)
@group(0) @binding(2) var<storage, read> q_other: array<vec4<f32>>; // (B, T, H, D)

// Of each product [feature][own position], then [feature][other position]; in sums over positions [position][feature].
var<workgroup> tiles: array<f32, max(PRODUCTS * SIZE, STEP * D)>;
// [other position][own position].
var<workgroup> weights: array<f32, OTHER * PITCH>;

// First vector of part 0, 1, 2 (query, key, value) of a position of head number `head`.
fn row_of(head: u32, t: u32, part: u32) -> u32 {
    let row = head / p.heads * p.length + t;
    return ((row * (3u - CROSS) + part - min(part, CROSS)) * p.heads + head % p.heads) * WIDE;
}

fn out_of(head: u32, t: u32) -> u32 {
    return ((head / p.heads * p.length + t) * p.heads + head % p.heads) * WIDE;
}

// Vector v of a query.
fn query(head: u32, t: u32, v: u32) -> vec4<f32> {
    if (CROSS == 1u) {
        return q_other[out_of(head, t) + v];
    }
    return qkv[row_of(head, t, 0u) + v];
}

// Number of the head of a tile, and its first position.
fn place_of(tile: u32) -> vec2<u32> {
    let tiles_of_head = (p.length + TILE - 1u) / TILE;
    return vec2<u32>(tile / tiles_of_head, tile % tiles_of_head * TILE);
}

// Position t, or the last one where t is past the end.
fn inside(t: u32) -> u32 {
    return min(t, p.length - 1u);
}

// Loads STEP features of both factors of a product, from `first` on; those past D are 0.
fn load(product: u32, head: u32, own0: u32, other0: u32, first: u32, local: u32) {
    for (var i = 0u; i < TILE * STEP / (4u * WG); i++) {
        let row = (local + i * WG) / 4u;
        let along = (local + i * WG) % 4u;
        let v = own_of(product, head, inside(own0 + row), min(first / 4u + along, WIDE - 1u)) * select(0.0, 1.0, first / 4u + along < WIDE);
        put_across(product * SIZE + along * 4u * PITCH + row, PITCH, v);
    }
    for (var i = 0u; i < OTHER * STEP / (4u * WG); i++) {
        let row = (local + i * WG) / 4u;
        let along = (local + i * WG) % 4u;
        let v = other_of(product, head, inside(other0 + row), min(first / 4u + along, WIDE - 1u));
        put_across(product * SIZE + STEP * PITCH + along * 4u * PITCH_OTHER + row, PITCH_OTHER, v);
    }
}

// Adds the product of the features that were loaded.
fn multiply(product: u32, local: u32, sums: ptr<function, array<vec4<f32>, ROWS>>) {
    let row_own = product * SIZE + local / SIDE * ROWS;
    let row_other = product * SIZE + STEP * PITCH + local % SIDE * 4u;
    for (var k0 = 0u; k0 < STEP; k0 += 4u) {
        for (var step = 0u; step < 4u; step++) {
            let other = tile(row_other + (k0 + step) * PITCH_OTHER);
            for (var r = 0u; r < ROWS; r += 4u) {
                let own = tile(row_own + (k0 + step) * PITCH + r);
                (*sums)[r] = fma(vec4<f32>(own.x), other, (*sums)[r]);
                (*sums)[r + 1u] = fma(vec4<f32>(own.y), other, (*sums)[r + 1u]);
                (*sums)[r + 2u] = fma(vec4<f32>(own.z), other, (*sums)[r + 2u]);
                (*sums)[r + 3u] = fma(vec4<f32>(own.w), other, (*sums)[r + 3u]);
            }
        }
    }
}

// Puts an invocation's part of the weights into workgroup memory.
fn put(local: u32, values: ptr<function, array<vec4<f32>, ROWS>>) {
    for (var r = 0u; r < ROWS; r += 4u) {
        for (var c = 0u; c < 4u; c++) {
            let at = (local % SIDE * 4u + c) * PITCH + local / SIDE * ROWS + r;
            for (var i = 0u; i < 4u; i++) {
                weights[at + i] = (*values)[r + i][c];
            }
        }
    }
}

// Adds the features of the other side, of its factor of a product, by weight.
fn add(product: u32, head: u32, other0: u32, local: u32, sums: ptr<function, array<vec4<f32>, ROWS * VECS>>) {
    for (var first = 0u; first < OTHER; first += STEP) {
        workgroupBarrier();
        for (var e = local; e < STEP * WIDE; e += WG) {
            put_along(e * 4u, other_of(product, head, inside(other0 + first + e / WIDE), e % WIDE));
        }
        workgroupBarrier();
        for (var k = 0u; k < STEP; k++) {
            for (var r = 0u; r < ROWS; r += 4u) {
                let at = (first + k) * PITCH + local / SIDE * ROWS + r;
                let weight = vec4<f32>(weights[at], weights[at + 1u], weights[at + 2u], weights[at + 3u]);
                for (var c = 0u; c < VECS; c++) {
                    let v = tile((k * WIDE + min(local % SIDE + c * SIDE, WIDE - 1u)) * 4u);
                    (*sums)[r * VECS + c] = fma(vec4<f32>(weight.x), v, (*sums)[r * VECS + c]);
                    (*sums)[(r + 1u) * VECS + c] = fma(vec4<f32>(weight.y), v, (*sums)[(r + 1u) * VECS + c]);
                    (*sums)[(r + 2u) * VECS + c] = fma(vec4<f32>(weight.z), v, (*sums)[(r + 2u) * VECS + c]);
                    (*sums)[(r + 3u) * VECS + c] = fma(vec4<f32>(weight.w), v, (*sums)[(r + 3u) * VECS + c]);
                }
            }
        }
    }
    workgroupBarrier();
}
