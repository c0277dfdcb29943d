// Rotary positions as in rope/rotate, four pairs at a time, for heads of a multiple of 8 features.
// x is (rows, H + 2 KV, D): queries, keys, values. y is (rows, 3, H, D). table is (limit, D/2, 2), cos and sin, from the host in f64.
// One invocation computes four pairs of y. y is overwritten.
// uses: common/grid, common/rope, common/state
const WG: u32 = 64u;

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;       // (rows, H + 2 KV, D)
@group(0) @binding(2) var<storage, read> table: array<vec4<f32>>;   // (limit, D/2, 2)
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>; // (rows, 3, H, D)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    let half = p.head_dim / 8u;
    let parts = 3u * p.heads;
    if (i >= p.rows * parts * half) {
        return;
    }
    let row = i / half / parts;
    let part = i / half / p.heads % 3u;
    let head = i / half % p.heads;
    var source = head;
    if (part > 0u) {
        source = p.heads + (part - 1u) * p.kv_heads + head / (p.heads / p.kv_heads);
    }
    let at = (row * (p.heads + 2u * p.kv_heads) + source) * 2u * half + i % half;
    let a = x[at];
    let b = x[at + half];
    let angle = angle_at(row, i, half);
    let copied = part == 2u;
    let first = table[angle];
    let second = table[angle + 1u];
    let cosine = select(vec4<f32>(first.xz, second.xz), vec4<f32>(1.0), copied);
    let sine = select(vec4<f32>(first.yw, second.yw), vec4<f32>(0.0), copied);
    let to = pair_at(i, half);
    y[to] = a * cosine - b * sine;
    y[to + half] = b * cosine + a * sine;
}
