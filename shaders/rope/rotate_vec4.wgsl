// Rotary positions as in rope/rotate, which has the derivation, four pairs at a time, for heads of a multiple of 8 features.
// x and y are (rows, 3, H, D). table is (limit, D/2, 2), cos and sin, from the host in f64. One invocation computes four pairs. y is
// overwritten.
// uses: common/grid, common/rope, common/state
const WG: u32 = 64u;

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;       // (rows, 3, H, D)
@group(0) @binding(2) var<storage, read> table: array<vec4<f32>>;   // (limit, D/2, 2)
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>; // (rows, 3, H, D)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    let half = p.head_dim / 8u;
    if (i >= p.rows * 3u * p.heads * half) {
        return;
    }
    let at = pair_at(i, half);
    let a = x[at];
    let b = x[at + half];
    let angle = angle_at(i, half);
    let copied = is_value(i, half);
    let first = table[angle];
    let second = table[angle + 1u];
    let cosine = select(vec4<f32>(first.xz, second.xz), vec4<f32>(1.0), copied);
    let sine = select(p.sign * vec4<f32>(first.yw, second.yw), vec4<f32>(0.0), copied);
    y[at] = a * cosine - b * sine;
    y[at + half] = b * cosine + a * sine;
}
