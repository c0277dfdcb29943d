// Rotary positions (Su et al. 2021, eq. 34) in the rotate-half form of Llama. In queries and keys each pair (x_c, x_{c + D/2}) is rotated
// by the angle t · θ^(−2c/D) with t = first + m mod length. Values are copied.
//   y_c = x_c cos − x_{c+D/2} sin,  y_{c+D/2} = x_{c+D/2} cos + x_c sin
// The gradient is this kernel on dy with sign −1, which rotates back. For y = R x with a rotation R, dx = Rᵀ dy, and Rᵀ = R⁻¹ is R with
// −sin for sin.
// x and y are (rows, 3, H, D). table is (limit, D/2, 2), cos and sin, from the host in f64. One invocation computes one pair. y is
// overwritten.
// uses: common/grid, common/rope, common/state
const WG: u32 = 64u;

@group(0) @binding(1) var<storage, read> x: array<f32>;       // (rows, 3, H, D)
@group(0) @binding(2) var<storage, read> table: array<f32>;   // (limit, D/2, 2)
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // (rows, 3, H, D)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    let half = p.head_dim / 2u;
    if (i >= p.rows * 3u * p.heads * half) {
        return;
    }
    let at = pair_at(i, half);
    let a = x[at];
    let b = x[at + half];
    let angle = angle_at(i, half);
    let copied = is_value(i, half);
    let cosine = select(table[angle], 1.0, copied);
    let sine = select(p.sign * table[angle + 1u], 0.0, copied);
    y[at] = a * cosine - b * sine;
    y[at + half] = b * cosine + a * sine;
}
