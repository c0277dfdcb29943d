// What the kernels of the state-space dual share (Dao & Gu 2024, section 6). A sequence is cut into chunks of `size` positions, the last of
// which may be filled up. Chunk number k = b · chunks + c is chunk c of sequence b. Head h has the keys and queries (B and C) of group
// ⌊h · groups / heads⌋.
struct Params {
    batch: u32, length: u32, chunks: u32, size: u32, heads: u32, groups: u32, features: u32, states: u32, width: u32, at: u32, limit: u32, low: f32, high: f32
}
var<immediate> p: Params;

// Row of position i of a head where rows lie as (chunk, head, position).
fn by_head(chunk: u32, head: u32, i: u32) -> u32 {
    return (chunk * p.heads + head) * p.size + i;
}

// The same where rows lie as (chunk, group, position, head within the group).
fn by_group(chunk: u32, head: u32, i: u32) -> u32 {
    let heads = p.heads / p.groups;
    return ((chunk * p.groups + head / heads) * p.size + i) * heads + head % heads;
}

// Row of position i of the head's group where rows lie as (chunk, group, position).
fn of_group(chunk: u32, head: u32, i: u32) -> u32 {
    return (chunk * p.groups + head / (p.heads / p.groups)) * p.size + i;
}

// Number of rows of all heads; decay holds α, δ and the slope of δ for each, one after another.
fn rows() -> u32 {
    return p.batch * p.chunks * p.heads * p.size;
}
