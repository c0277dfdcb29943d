// Surroundings of positions, so that a convolution over time is a matrix product with its weights (Cout, C, K) as they lie.
//   y[b, t, (c, k)] = x[b, t + k · dilation − before, c], 0 outside of the sequence
// x is (at least x_at / (length · C) + batch, length, C), of which the sequences from element x_at on are taken. y is (at least batch,
// length, C · K). One invocation copies one element of y, whose first batch sequences are overwritten.
// uses: common/grid
const WG: u32 = 64u;
const K: u32 = 3u;

struct Params { batch: u32, length: u32, channels: u32, dilation: u32, before: u32, x_at: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;       // (at least x_at / (length · C) + batch, length, C)
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // (at least batch, length, C · K)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let n = flat_group(group, groups) * WG + local;
    let inputs = p.channels * K;
    if (n >= p.batch * p.length * inputs) {
        return;
    }
    let row = n / inputs;
    // Unsigned: positions before the sequence wrap round and are out of range as those after it.
    let t = row % p.length + n % K * p.dilation - p.before;
    var v = 0.0;
    if (t < p.length) {
        v = x[p.x_at + (row / p.length * p.length + t) * p.channels + n % inputs / K];
    }
    y[n] = v;
}
