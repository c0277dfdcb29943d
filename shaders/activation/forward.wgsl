// An activation by itself, y = f(x) element by element. KIND, of common/activation, chooses f. After a matrix product, the epilogue of the
// product does this instead.
// x and y are (n). One invocation computes one element. y is overwritten.
// uses: common/grid, common/activation, common/math
const WG: u32 = 64u;
const KIND: u32 = 1u;

struct Params { n: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;       // (n)
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // (n)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    if (i >= p.n) {
        return;
    }
    y[i] = activate(KIND, x[i]);
}
