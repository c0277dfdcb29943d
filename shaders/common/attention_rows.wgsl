// What the kernels for attention by rows share: sizes, options, and where rows lie. Rows are read in steps of FEATURES features.
const WG: u32 = 16u;
const D: u32 = 16u;
const CAUSAL: u32 = 1u;
const DROPOUT: u32 = 1u;
const CROSS: u32 = 0u;

const V: u32 = D / FEATURES;

struct Params { batch: u32, length: u32, heads: u32, stream: u32, rate: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> qkv: array<Features>;     // (B, T, 3, H, D)
@group(0) @binding(2) var<storage, read> q_other: array<Features>; // (B, T, H, D)

// First step of part 0, 1, 2 (query, key, value) of a position.
fn row_of(b: u32, t: u32, part: u32, h: u32) -> u32 {
    return (((b * p.length + t) * (3u - CROSS) + part - min(part, CROSS)) * p.heads + h) * V;
}

fn out_of(b: u32, t: u32, h: u32) -> u32 {
    return ((b * p.length + t) * p.heads + h) * V;
}

// Step c of a query.
fn query(b: u32, t: u32, h: u32, c: u32) -> Features {
    if (CROSS == 1u) {
        return q_other[out_of(b, t, h) + c];
    }
    return qkv[row_of(b, t, 0u, h) + c];
}
