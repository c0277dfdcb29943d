// Gradient of an activation: dx = dy ⊙ f'(x).
// x dy dx: (n). Grid: one invocation an element. dx is `=`.
// uses: common/grid, common/activation, common/math
const WG: u32 = 64u;
const KIND: u32 = 1u;

struct Params { n: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;        // (n)
@group(0) @binding(1) var<storage, read> dy: array<f32>;       // (n)
@group(0) @binding(2) var<storage, read_write> dx: array<f32>; // (n)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    if (i >= p.n) {
        return;
    }
    dx[i] = dy[i] * activation_derivative(KIND, x[i]);
}
