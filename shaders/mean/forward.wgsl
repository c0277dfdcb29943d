// Mean over the positions of each sequence: y[b] = Σ_t x[b, t] / n. n is the length. With LENGTHS, the mean is over the first
// n = lengths[b] positions, from 1 to the length.
// x is (batch, length, cols), lengths is (batch), and y is (batch, cols). One invocation computes one element of y. y is overwritten.
// uses: common/grid
const WG: u32 = 64u;
const LENGTHS: u32 = 0u;

struct Params { batch: u32, length: u32, cols: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;       // (batch, length, cols)
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // (batch, cols)
@group(0) @binding(2) var<storage, read> lengths: array<u32>; // (batch)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    if (i >= p.batch * p.cols) {
        return;
    }
    let first = i / p.cols * p.length * p.cols + i % p.cols;
    var n = p.length;
    if (LENGTHS == 1u) {
        n = clamp(lengths[i / p.cols], 1u, p.length);
    }
    var sum = 0.0;
    for (var t = 0u; t < p.length; t++) {
        if (t < n) {
            sum += x[first + t * p.cols];
        }
    }
    y[i] = sum / f32(n);
}
