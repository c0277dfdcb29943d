// Gradient of a slice, y[r] = x[first + r · stride]: y = S x with a matrix S of zeros and ones, so dx = Sᵀ dy, and a row of x is copied
// at most once: dx[first + r · stride] = dy[r], 0 in all other rows.
// dy: (picked, cols); dx: (rows, cols). Grid: one invocation an element of dx. dx is `=`.
// uses: common/grid
const WG: u32 = 64u;

struct Params { rows: u32, cols: u32, picked: u32, first: u32, stride: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> dy: array<f32>;       // (picked, cols)
@group(0) @binding(1) var<storage, read_write> dx: array<f32>; // (rows, cols)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    if (i >= p.rows * p.cols) {
        return;
    }
    let row = i / p.cols;
    let picked = (row - min(row, p.first)) / p.stride;
    var value = 0.0;
    if (picked < p.picked && p.first + picked * p.stride == row) {
        value = dy[picked * p.cols + i % p.cols];
    }
    dx[i] = value;
}
