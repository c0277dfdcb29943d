// What the rotations of pairs share. x and its gradient are (rows, H + 2 KV, D): queries, keys, values. y and its gradient are (rows, 3,
// H, D). A pair, or with vectors of pairs some of one head, is counted in the same unit as `half`, which is half a head.
struct Params { rows: u32, length: u32, heads: u32, kv_heads: u32, head_dim: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;

// First half of pair i.
fn pair_at(i: u32, half: u32) -> u32 {
    return i / half * 2u * half + i % half;
}

// Cosine and sine of the angle of pair i of a row, one after the other.
fn angle_at(row: u32, i: u32, half: u32) -> u32 {
    return ((state.position + row % p.length) * half + i % half) * 2u;
}
