// Rotary positions (Su et al. 2021, eq. 34) in the rotate-half form of Llama, for grouped queries (Ainslie et al. 2023). In queries and
// keys each pair (x_c, x_{c + D/2}) is rotated by the angle t · θ^(−2c/D) with t = first + m mod length. Values are copied.
//   y_c = x_c cos − x_{c+D/2} sin,  y_{c+D/2} = x_{c+D/2} cos + x_c sin
// Each of the KV heads of keys and values serves H / KV heads of queries, and is written once for each of them.
// x is (rows, H + 2 KV, D): queries, keys, values. y is (rows, 3, H, D). table is (limit, D/2, 2), cos and sin, from the host in f64.
// One invocation computes one pair of y. y is overwritten.
// uses: common/grid, common/rope, common/state
const WG: u32 = 64u;

@group(0) @binding(1) var<storage, read> x: array<f32>;       // (rows, H + 2 KV, D)
@group(0) @binding(2) var<storage, read> table: array<f32>;   // (limit, D/2, 2)
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // (rows, 3, H, D)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    let half = p.head_dim / 2u;
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
    let cosine = select(table[angle], 1.0, copied);
    let sine = select(table[angle + 1u], 0.0, copied);
    let to = pair_at(i, half);
    y[to] = a * cosine - b * sine;
    y[to + half] = b * cosine + a * sine;
}
