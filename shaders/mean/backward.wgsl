// Gradient of the mean over positions, y[b] = Σ_t x[b, t] / n over the first n. n is the length, or with LENGTHS lengths[b], from 1 to the
// length.
//   dx[b, t] = dy[b] / n for t < n, else 0
// dy is (batch, cols), lengths is (batch), and dx is (batch, length, cols). One invocation computes one element of dx. dx is overwritten.
// uses: common/grid
const WG: u32 = 64u;
const LENGTHS: u32 = 0u;

struct Params { batch: u32, length: u32, cols: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> dy: array<f32>;       // (batch, cols)
@group(0) @binding(1) var<storage, read_write> dx: array<f32>; // (batch, length, cols)
@group(0) @binding(2) var<storage, read> lengths: array<u32>;  // (batch)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    if (i >= p.batch * p.length * p.cols) {
        return;
    }
    let b = i / (p.length * p.cols);
    var n = p.length;
    if (LENGTHS == 1u) {
        n = clamp(lengths[b], 1u, p.length);
    }
    dx[i] = select(0.0, dy[b * p.cols + i % p.cols] / f32(n), i / p.cols % p.length < n);
}
