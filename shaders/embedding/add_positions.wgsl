// Learned positions added to vectors: y[m] = x[m] + positions[m mod length]. The gradient of x passes through.
// x and y are (rows, cols), and positions is (length, cols). One invocation computes one element. y is overwritten.
// uses: common/grid
const WG: u32 = 64u;

struct Params { rows: u32, cols: u32, length: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;         // (rows, cols)
@group(0) @binding(1) var<storage, read> positions: array<f32>; // (length, cols)
@group(0) @binding(2) var<storage, read_write> y: array<f32>;   // (rows, cols)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    if (i >= p.rows * p.cols) {
        return;
    }
    y[i] = x[i] + positions[i % (p.length * p.cols)];
}
