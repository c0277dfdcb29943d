// Gradient of SwiGLU, y = g s ⊙ u with s = σ(g) (Shazeer 2020, eq. 5 and 6, without the products around it). It follows from
// s' = s (1 − s).
//   ∂(g s)/∂g = s + g s (1 − s):  dg = dy ⊙ u · s (1 + g (1 − s));  du = dy ⊙ g s
// x and dx are (rows, 2, cols), and dy is (rows, cols). One invocation takes one element of dy. dx is overwritten.
// uses: common/grid, common/math, common/swiglu
const WG: u32 = 64u;

@group(0) @binding(0) var<storage, read> x: array<f32>;        // (rows, 2, cols)
@group(0) @binding(1) var<storage, read> dy: array<f32>;       // (rows, cols)
@group(0) @binding(2) var<storage, read_write> dx: array<f32>; // (rows, 2, cols)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    if (i >= p.rows * p.cols) {
        return;
    }
    let at = gate_at(i, p.cols);
    let g = x[at];
    dx[at] = times_sigmoid(dy[i] * x[at + p.cols] * (1.0 + times_sigmoid(g, -g)), g);
    dx[at + p.cols] = times_sigmoid(dy[i] * g, g);
}
