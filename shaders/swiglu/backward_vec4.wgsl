// Gradient of SwiGLU as in swiglu/backward, which has the derivation, four columns at a time, for columns that are a multiple of 4.
// x and dx are (rows, 2, cols), and dy is (rows, cols). One invocation takes one vector of dy. dx is overwritten.
// uses: common/grid, common/math, common/swiglu
const WG: u32 = 64u;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;        // (rows, 2, cols)
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>;       // (rows, cols)
@group(0) @binding(2) var<storage, read_write> dx: array<vec4<f32>>; // (rows, 2, cols)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    let cols = p.cols / 4u;
    if (i >= p.rows * cols) {
        return;
    }
    let at = gate_at(i, cols);
    let g = x[at];
    let upstream = dy[i];
    dx[at] = times_sigmoid4(upstream * x[at + cols] * (1.0 + times_sigmoid4(g, -g)), g);
    dx[at + cols] = times_sigmoid4(upstream * g, g);
}
