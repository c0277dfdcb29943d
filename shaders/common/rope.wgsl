// What the rotations of pairs share. Invocation i rotates pair i, or with vectors of pairs the i-th vector. `half` is half a head, in the
// same unit.
struct Params { rows: u32, length: u32, heads: u32, head_dim: u32, sign: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;

// First half of the pair.
fn pair_at(i: u32, half: u32) -> u32 {
    return i / half * 2u * half + i % half;
}

// Cosine and sine of its angle, one after the other.
fn angle_at(i: u32, half: u32) -> u32 {
    let row = i / half / (3u * p.heads);
    return ((state.position + row % p.length) * half + i % half) * 2u;
}

// Whether it is of a value, which is copied.
fn is_value(i: u32, half: u32) -> bool {
    return i / half / p.heads % 3u == 2u;
}
