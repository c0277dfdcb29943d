// gather/forward for tables of 32-bit floats whose cols is a multiple of 4. The formula and the shapes are the same.
// One invocation copies four elements of y. y is overwritten.
// uses: common/grid
const WG: u32 = 64u;
const TIME_MAJOR: u32 = 0u;

struct Params { batch: u32, length: u32, cols: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>;       // (N, length, cols)
@group(0) @binding(1) var<storage, read> index: array<u32>;         // (batch)
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>; // (rows, cols)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    let steps = p.cols / 4u;
    if (i >= p.batch * p.length * steps) {
        return;
    }
    let row = i / steps;
    let b = select(row / p.length, row % p.batch, TIME_MAJOR == 1u);
    let t = select(row % p.length, row / p.batch, TIME_MAJOR == 1u);
    y[i] = bitcast<vec4<f32>>(x[(index[b] * p.length + t) * steps + i % steps]);
}
