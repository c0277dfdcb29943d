// Gradient of the surroundings of positions, y[b, u, (c, k)] = x[b, u + k · dilation − before, c]. These are copies, so each position
// gathers dy from the rows that hold it. They are u = t − k · dilation + before within the sequence, in a fixed order.
//   dx[b, t, c] = Σ_k dy[b, t − k · dilation + before, (c, k)]
// dy is (at least batch, length, C · K), and dx is (at least dx_at / (length · C) + batch, length, C). One invocation computes one element
// of dx, which is overwritten from element dx_at on.
// uses: common/grid
const WG: u32 = 64u;
const K: u32 = 3u;

struct Params { batch: u32, length: u32, channels: u32, dilation: u32, before: u32, dx_at: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> dy: array<f32>;       // (at least batch, length, C · K)
@group(0) @binding(1) var<storage, read_write> dx: array<f32>; // (at least dx_at / (length · C) + batch, length, C)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let n = flat_group(group, groups) * WG + local;
    if (n >= p.batch * p.length * p.channels) {
        return;
    }
    let row = n / p.channels;
    var sum = 0.0;
    for (var k = 0u; k < K; k++) {
        let u = row % p.length + p.before - k * p.dilation;
        if (u < p.length) {
            sum += dy[((row / p.length * p.length + u) * p.channels + n % p.channels) * K + k];
        }
    }
    dx[p.dx_at + n] = sum;
}
