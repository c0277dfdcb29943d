// Rows of two tensors beside each other: y[r] = [a[r], b[r]].
// a is (rows, A), b is (rows, B), and y is (rows, A + B). One invocation copies one element of y. y is overwritten.
// uses: common/grid
const WG: u32 = 64u;

struct Params { rows: u32, left: u32, right: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> a: array<f32>;       // (rows, A)
@group(0) @binding(1) var<storage, read> b: array<f32>;       // (rows, B)
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // (rows, A + B)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    let cols = p.left + p.right;
    if (i >= p.rows * cols) {
        return;
    }
    let row = i / cols;
    let c = i % cols;
    if (c < p.left) {
        y[i] = a[row * p.left + c];
    } else {
        y[i] = b[row * p.right + c - p.left];
    }
}
