// What the kernels of the state-space dual share that keep a chunk of a head in registers and workgroup memory, on cards.
// A product has up to 64 × 64 results. Invocation l keeps four columns of ROWS rows of them: the rows from l / SIDE · ROWS on, and the
// columns from l % SIDE · 4 on. What goes beyond the sizes is 0. The factors of a product lie in workgroup memory with STEP terms of the
// sums at a time, as [term][row] and [term][column].
const WG: u32 = 128u;
// Number of invocations along the columns.
const SIDE: u32 = 16u;
const ROWS: u32 = 8u;
const TILE: u32 = 64u;
const STEP: u32 = 16u;
// Padding keeps the transposing stores out of each other's banks.
const PITCH: u32 = TILE + 4u;
const SIZE: u32 = STEP * PITCH;
const POSITIONS: u32 = 64u;
const FEATURES: u32 = 64u;
const STATES: u32 = 64u;

alias Part = array<vec4<f32>, ROWS>;

// Of the positions of the chunk at hand: α, that of the last from the end of the chunk on, and δ, 0 from there on.
var<workgroup> alphas: array<f32, TILE>;
var<workgroup> deltas: array<f32, TILE>;

// Where the rows of a head lie in a chunk: the first position where rows lie as (batch, length), and how many there are; vectors of a row
// before those of the head; its first vector where rows lie as (chunk, group, position), and where they lie as (chunk, head, feature).
struct Place { chunk: u32, head: u32, row: u32, there: u32, x: u32, keys: u32, queries: u32, scores: u32, state: u32 }

fn place_of(chunk: u32, head: u32) -> Place {
    let first = chunk % p.chunks * POSITIONS;
    let group = head / (p.heads / p.groups);
    let keys = (p.heads * FEATURES + group * STATES) / 4u;
    return Place(
        chunk, head, chunk / p.chunks * p.length + first, min(p.length - first, POSITIONS), head * FEATURES / 4u, keys, keys + p.groups * STATES / 4u,
        (chunk * p.groups + group) * POSITIONS * POSITIONS / 4u, (chunk * p.heads + head) * FEATURES * STATES / 4u
    );
}

fn load_decay(place: Place, local: u32) {
    if (local < TILE) {
        let at = by_head(place.chunk, place.head, min(local, POSITIONS - 1u));
        alphas[local] = decay[at];
        deltas[local] = select(0.0, decay[rows() + at], local < POSITIONS);
    }
}

// exp(α_i − α_j) of i ≥ j, which is at most 1.
fn left(i: u32, j: u32) -> f32 {
    return exp_accurate(min(alphas[i] - alphas[j], 0.0));
}

// Vector v of position i of x, and of the keys B or queries C, which begin at vector `first` of a row.
fn x_of(place: Place, i: u32, v: u32) -> vec4<f32> {
    let at = (place.row + min(i, place.there - 1u)) * (p.width / 4u) + place.x + min(v, FEATURES / 4u - 1u);
    return select(vec4<f32>(0.0), xbc[at], i < place.there && v < FEATURES / 4u);
}

fn key_of(place: Place, first: u32, i: u32, v: u32) -> vec4<f32> {
    let at = (place.row + min(i, place.there - 1u)) * (p.width / 4u) + first + min(v, STATES / 4u - 1u);
    return select(vec4<f32>(0.0), xbc[at], i < place.there && v < STATES / 4u);
}

// The same of what lies as (batch, length, heads, features).
fn output_at(place: Place, i: u32, v: u32) -> u32 {
    return (place.row + min(i, place.there - 1u)) * (p.heads * FEATURES / 4u) + place.x + min(v, FEATURES / 4u - 1u);
}

fn upstream_of(place: Place, i: u32, v: u32) -> vec4<f32> {
    return select(vec4<f32>(0.0), dy[output_at(place, i, v)], i < place.there && v < FEATURES / 4u);
}

// Vector v of row i of the scores C_i · B_j of the head's group.
fn scores_of(place: Place, i: u32, v: u32) -> vec4<f32> {
    let at = place.scores + min(i, POSITIONS - 1u) * (POSITIONS / 4u) + min(v, POSITIONS / 4u - 1u);
    return select(vec4<f32>(0.0), g[at], i < POSITIONS && v < POSITIONS / 4u);
}

// exp(α_i − α_j) δ_j of position i and the four from j on, 0 for later ones.
fn weights_of(i: u32, j: u32) -> vec4<f32> {
    var w = vec4<f32>(0.0);
    for (var c = 0u; c < 4u; c++) {
        w[c] = select(0.0, left(i, j + c) * deltas[j + c], j + c <= i);
    }
    return w;
}

// Vector v of row `feature` of a state.
fn state_at(place: Place, feature: u32, v: u32) -> u32 {
    return place.state + min(feature, FEATURES - 1u) * (STATES / 4u) + min(v, STATES / 4u - 1u);
}

fn in_state(feature: u32, v: u32) -> bool {
    return feature < FEATURES && v < STATES / 4u;
}

// Loads STEP terms, from `first` on, of a factor whose rows are the terms.
fn load_along(at: u32, factor: u32, place: Place, first: u32, local: u32) {
    for (var i = 0u; i < STEP * SIDE / WG; i++) {
        let e = local + i * WG;
        put_along(at + e / SIDE * PITCH + e % SIDE * 4u, factor_of(factor, place, first + e / SIDE, e % SIDE));
    }
}

// The same of a factor whose columns are the terms.
fn load_across(at: u32, factor: u32, place: Place, first: u32, local: u32) {
    for (var i = 0u; i < STEP * TILE / 4u / WG; i++) {
        let e = local + i * WG;
        put_across(at + e % (STEP / 4u) * 4u * PITCH + e / (STEP / 4u), PITCH, factor_of(factor, place, e / (STEP / 4u), first / 4u + e % (STEP / 4u)));
    }
}

// Adds the terms that were loaded.
fn multiply(rows_at: u32, columns_at: u32, local: u32, sums: ptr<function, Part>) {
    let own = rows_at + local / SIDE * ROWS;
    let other = columns_at + local % SIDE * 4u;
    for (var k = 0u; k < STEP; k++) {
        let columns = tile(other + k * PITCH);
        for (var r = 0u; r < ROWS; r += 4u) {
            let factors = tile(own + k * PITCH + r);
            (*sums)[r] = fma(vec4<f32>(factors.x), columns, (*sums)[r]);
            (*sums)[r + 1u] = fma(vec4<f32>(factors.y), columns, (*sums)[r + 1u]);
            (*sums)[r + 2u] = fma(vec4<f32>(factors.z), columns, (*sums)[r + 2u]);
            (*sums)[r + 3u] = fma(vec4<f32>(factors.w), columns, (*sums)[r + 3u]);
        }
    }
}
