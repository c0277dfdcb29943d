// Gradient of a slice, y[r] = x[first + r · stride]. With LENGTHS, first = lengths[r] − 1, where lengths are from 1 to stride. y is S x
// with a matrix S of zeros and ones, so dx = Sᵀ dy, and a row of x is copied at most once.
//   dx[first + r · stride] = dy[r], 0 in all other rows
// dy is (picked, cols), lengths is (picked), and dx is (rows, cols). One invocation computes one element of dx. dx is overwritten.
// uses: common/grid
const WG: u32 = 64u;
const LENGTHS: u32 = 0u;

struct Params { rows: u32, cols: u32, picked: u32, first: u32, stride: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> dy: array<f32>;       // (picked, cols)
@group(0) @binding(1) var<storage, read_write> dx: array<f32>; // (rows, cols)
@group(0) @binding(2) var<storage, read> lengths: array<u32>;  // (picked)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    if (i >= p.rows * p.cols) {
        return;
    }
    let row = i / p.cols;
    var first = p.first;
    if (LENGTHS == 1u) {
        first = clamp(lengths[min(row / p.stride, p.picked - 1u)], 1u, p.stride) - 1u;
    }
    let picked = (row - min(row, first)) / p.stride;
    var value = 0.0;
    if (picked < p.picked && first + picked * p.stride == row) {
        value = dy[picked * p.cols + i % p.cols];
    }
    dx[i] = value;
}
