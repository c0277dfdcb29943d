// Gradient of rope/rotate as in rope/backward, which has the derivation, four pairs at a time, for heads of a multiple of 8 features.
// dy is (rows, 3, H, D). dx is (rows, H + 2 KV, D). table is (limit, D/2, 2), cos and sin, from the host in f64.
// One invocation computes four pairs of dx, with the heads of their sum in their order. dx is overwritten.
// uses: common/grid, common/rope, common/state
const WG: u32 = 64u;

@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>;       // (rows, 3, H, D)
@group(0) @binding(2) var<storage, read> table: array<vec4<f32>>;    // (limit, D/2, 2)
@group(0) @binding(3) var<storage, read_write> dx: array<vec4<f32>>; // (rows, H + 2 KV, D)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    let half = p.head_dim / 8u;
    let parts = p.heads + 2u * p.kv_heads;
    if (i >= p.rows * parts * half) {
        return;
    }
    let row = i / half / parts;
    let own = i / half % parts;
    let of_keys = own >= p.heads;
    let served = select(1u, p.heads / p.kv_heads, of_keys);
    let part = select(0u, 1u + (own - p.heads) / p.kv_heads, of_keys);
    let head = select(own, (own - p.heads) % p.kv_heads * served, of_keys);
    let at = ((row * 3u + part) * p.heads + head) * 2u * half + i % half;
    var a = vec4<f32>(0.0);
    var b = vec4<f32>(0.0);
    for (var k = 0u; k < served; k++) {
        a += dy[at + k * 2u * half];
        b += dy[at + k * 2u * half + half];
    }
    let angle = angle_at(row, i, half);
    let copied = part == 2u;
    let first = table[angle];
    let second = table[angle + 1u];
    let cosine = select(vec4<f32>(first.xz, second.xz), vec4<f32>(1.0), copied);
    let sine = select(vec4<f32>(first.yw, second.yw), vec4<f32>(0.0), copied);
    let to = pair_at(i, half);
    dx[to] = a * cosine + b * sine;
    dx[to + half] = b * cosine - a * sine;
}
