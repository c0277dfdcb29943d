// Vectors in a kernel's `tiles`, whose numbers are stored one by one. Metal and DirectX may store a component of a vector in shared memory
// by writing the whole vector. That would undo what other invocations store meanwhile. RADV merges four neighbouring accesses into one.
fn tile(at: u32) -> vec4<f32> {
    return vec4<f32>(tiles[at], tiles[at + 1u], tiles[at + 2u], tiles[at + 3u]);
}

fn put_along(at: u32, v: vec4<f32>) {
    tiles[at] = v.x;
    tiles[at + 1u] = v.y;
    tiles[at + 2u] = v.z;
    tiles[at + 3u] = v.w;
}

// Numbers `pitch` apart: what lies along a row comes to lie down a column.
fn put_across(at: u32, pitch: u32, v: vec4<f32>) {
    tiles[at] = v.x;
    tiles[at + pitch] = v.y;
    tiles[at + 2u * pitch] = v.z;
    tiles[at + 3u * pitch] = v.w;
}
