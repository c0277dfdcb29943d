// Gradient of the mean over positions: as y[b] = Σ_t x[b, t] / length, dx[b, t] = dy[b] / length.
// dy: (batch, cols); dx: (batch, length, cols). Grid: one invocation an element of dx. dx is `=`.
// uses: common/grid
const WG: u32 = 64u;

struct Params { batch: u32, length: u32, cols: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> dy: array<f32>;       // (batch, cols)
@group(0) @binding(1) var<storage, read_write> dx: array<f32>; // (batch, length, cols)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    if (i >= p.batch * p.length * p.cols) {
        return;
    }
    dx[i] = dy[i / (p.length * p.cols) * p.cols + i % p.cols] / f32(p.length);
}
