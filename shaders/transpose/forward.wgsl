// Rows in the other order of their two axes: y[b, a] = x[a, b], each a row of cols numbers. The gradient is the same pass with the axes
// exchanged: dx[a, b] = dy[b, a].
// x: (first, second, cols); y: (second, first, cols). Grid: one invocation an element of y. y is `=`.
// uses: common/grid
const WG: u32 = 64u;

struct Params { first: u32, second: u32, cols: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;       // (first, second, cols)
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // (second, first, cols)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    if (i >= p.first * p.second * p.cols) {
        return;
    }
    let row = i / p.cols;
    let source = row % p.first * p.second + row / p.first;
    y[i] = x[source * p.cols + i % p.cols];
}
