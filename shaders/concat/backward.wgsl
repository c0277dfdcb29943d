// Gradient of rows beside each other, y[r] = [a[r], b[r]]. Each element of dy is that of one element of a or b, so da and db are the two
// parts of dy.
// dy is (rows, A + B), da is (rows, A), and db is (rows, B). One invocation copies one element of dy. da and db are overwritten.
// uses: common/grid
const WG: u32 = 64u;

struct Params { rows: u32, left: u32, right: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> dy: array<f32>;       // (rows, A + B)
@group(0) @binding(1) var<storage, read_write> da: array<f32>; // (rows, A)
@group(0) @binding(2) var<storage, read_write> db: array<f32>; // (rows, B)

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
        da[row * p.left + c] = dy[i];
    } else {
        db[row * p.right + c - p.left] = dy[i];
    }
}
