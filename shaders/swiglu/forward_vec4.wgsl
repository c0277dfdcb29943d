// SwiGLU as in swiglu/forward, four columns at a time, for columns that are a multiple of 4.
// x is (rows, 2, cols), g then u, and y is (rows, cols). One invocation computes one vector of y. y is overwritten.
// uses: common/grid, common/math, common/swiglu
const WG: u32 = 64u;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;       // (rows, 2, cols)
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>; // (rows, cols)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    let cols = p.cols / 4u;
    if (i >= p.rows * cols) {
        return;
    }
    let at = gate_at(i, cols);
    let g = x[at];
    y[i] = times_sigmoid4(g * x[at + cols], g);
}
