// Rows at a fixed distance: y[r] = x[first + r · stride].
// x: (rows, cols); y: (picked, cols). Grid: one invocation an element of y. y is `=`.
// uses: common/grid
const WG: u32 = 64u;

struct Params { rows: u32, cols: u32, picked: u32, first: u32, stride: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;       // (rows, cols)
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // (picked, cols)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    if (i >= p.picked * p.cols) {
        return;
    }
    y[i] = x[(p.first + i / p.cols * p.stride) * p.cols + i % p.cols];
}
