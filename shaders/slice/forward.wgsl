// Rows at a fixed distance: y[r] = x[first + r · stride]. With LENGTHS, y[r] = x[r · stride + lengths[r] − 1], where lengths are from 1 to
// stride.
// x is (rows, cols), lengths is (picked), and y is (picked, cols). One invocation copies one element of y. y is overwritten.
// uses: common/grid
const WG: u32 = 64u;
const LENGTHS: u32 = 0u;

struct Params { rows: u32, cols: u32, picked: u32, first: u32, stride: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;       // (rows, cols)
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // (picked, cols)
@group(0) @binding(2) var<storage, read> lengths: array<u32>; // (picked)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    if (i >= p.picked * p.cols) {
        return;
    }
    let r = i / p.cols;
    var first = p.first;
    if (LENGTHS == 1u) {
        first = clamp(lengths[r], 1u, p.stride) - 1u;
    }
    y[i] = x[(first + r * p.stride) * p.cols + i % p.cols];
}
