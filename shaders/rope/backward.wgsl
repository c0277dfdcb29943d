// Gradient of rope/rotate. For y = R x with a rotation R, dx = Rᵀ dy, and Rᵀ = R⁻¹ is R with −sin for sin. A head of keys or values that
// serves several heads of queries has the sum of their gradients, and as all are rotated by the same angle, the sum is rotated back.
//   dx_c = s_c cos + s_{c+D/2} sin,  dx_{c+D/2} = s_{c+D/2} cos − s_c sin,  s = Σ dy over the heads that x serves
// dy is (rows, 3, H, D). dx is (rows, H + 2 KV, D). table is (limit, D/2, 2), cos and sin, from the host in f64.
// One invocation computes one pair of dx, with the heads of its sum in their order. dx is overwritten.
// uses: common/grid, common/rope, common/state
const WG: u32 = 64u;

@group(0) @binding(1) var<storage, read> dy: array<f32>;       // (rows, 3, H, D)
@group(0) @binding(2) var<storage, read> table: array<f32>;    // (limit, D/2, 2)
@group(0) @binding(3) var<storage, read_write> dx: array<f32>; // (rows, H + 2 KV, D)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    let half = p.head_dim / 2u;
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
    var a = 0.0;
    var b = 0.0;
    for (var k = 0u; k < served; k++) {
        a += dy[at + k * 2u * half];
        b += dy[at + k * 2u * half + half];
    }
    let angle = angle_at(row, i, half);
    let copied = part == 2u;
    let cosine = select(table[angle], 1.0, copied);
    let sine = select(table[angle + 1u], 0.0, copied);
    let to = pair_at(i, half);
    dx[to] = a * cosine + b * sine;
    dx[to + half] = b * cosine - a * sine;
}
