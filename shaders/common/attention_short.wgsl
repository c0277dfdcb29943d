// What the kernels for attention of short sequences share: sizes, options, and the rows of HEADS heads in workgroup memory.
const T: u32 = 8u;
const D: u32 = 16u;
const HEADS: u32 = 1u;
const CAUSAL: u32 = 1u;
const DROPOUT: u32 = 1u;
const CROSS: u32 = 0u;
const ROPE: u32 = 0u;
// Distance between the two features of a pair that is rotated.
const HALF: u32 = max(D / 2u, 1u);
// An odd pitch keeps lanes with different rows out of each other's banks.
const PITCH: u32 = D + 1u - D % 2u;

struct Params { batch: u32, length: u32, heads: u32, stream: u32, rate: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> qkv: array<f32>;     // (B, T, 3, H, D)
@group(0) @binding(2) var<storage, read> q_other: array<f32>; // (B, T, H, D)
@group(0) @binding(3) var<storage, read> table: array<f32>;   // (limit, D/2, 2)

var<workgroup> queries: array<f32, HEADS * T * PITCH>;
var<workgroup> keys: array<f32, HEADS * T * PITCH>;
var<workgroup> values: array<f32, HEADS * T * PITCH>;

// First element of part 0, 1, 2 (query, key, value) of a position of head number `head`.
fn row_of(head: u32, t: u32, part: u32) -> u32 {
    let row = head / p.heads * T + t;
    return ((row * (3u - CROSS) + part - min(part, CROSS)) * p.heads + head % p.heads) * D;
}

fn out_of(head: u32, t: u32) -> u32 {
    return ((head / p.heads * T + t) * p.heads + head % p.heads) * D;
}

// Feature c of a query or key that begins at `row`, rotated by its position (rope/rotate).
fn turned(row: u32, t: u32, c: u32) -> f32 {
    let x = qkv[row + c];
    if (ROPE == 1u) {
        let angle = (t * HALF + c % HALF) * 2u;
        let sine = table[angle + 1u];
        return x * table[angle] + qkv[row + (c + HALF) % D] * select(sine, -sine, c < HALF);
    }
    return x;
}

// Loads element e of the rows, which are of this head; gives its place in workgroup memory.
fn load(e: u32, head: u32) -> u32 {
    let t = e / D % T;
    let c = e % D;
    let at = e / D * PITCH + c;
    if (CROSS == 1u) {
        queries[at] = q_other[out_of(head, t) + c];
    } else {
        queries[at] = turned(row_of(head, t, 0u), t, c);
    }
    keys[at] = turned(row_of(head, t, 1u), t, c);
    values[at] = qkv[row_of(head, t, 2u) + c];
    return at;
}
