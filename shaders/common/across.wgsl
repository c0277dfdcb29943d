// Puts the numbers of a vector into component `lane` of four vectors of a kernel's `tiles`, `pitch` apart: what lies along a row comes to lie down a column.
fn put_across(at: u32, pitch: u32, lane: u32, v: vec4<f32>) {
    tiles[at][lane] = v.x;
    tiles[at + pitch][lane] = v.y;
    tiles[at + 2u * pitch][lane] = v.z;
    tiles[at + 3u * pitch][lane] = v.w;
}
