// SwiGLU (Shazeer 2020) of a gate g and what it lets through, u: y = g · σ(g) ⊙ u.
// x is (rows, 2, cols), g then u, and y is (rows, cols). One invocation computes one element of y. y is overwritten.
// uses: common/grid, common/math, common/swiglu
const WG: u32 = 64u;

@group(0) @binding(0) var<storage, read> x: array<f32>;       // (rows, 2, cols)
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // (rows, cols)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    if (i >= p.rows * p.cols) {
        return;
    }
    let at = gate_at(i, p.cols);
    let g = x[at];
    y[i] = times_sigmoid(g * x[at + p.cols], g);
}
