// Gradient of the position table. Every sequence b has y[b, t] = … + positions[t], so ∂y[b, t]/∂positions[t] = 1. The sum is over the
// sequences first … end − 1.
//   dpositions[t] = Σ_b dy[b, t]
// dy is (batch, length, cols), and dpositions is (length, cols). One invocation computes one element of a position. dpositions is added to
// (common/sum).
// uses: common/grid, common/state, common/sum
const WG: u32 = 64u;

struct Params { first: u32, end: u32, n: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> dy: array<f32>;               // (batch, n), n = length · cols
@group(0) @binding(1) var<storage, read_write> dpositions: array<f32>; // (n)
@group(0) @binding(2) var<storage, read> state: State;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    if (i >= p.n) {
        return;
    }
    var sum = 0.0;
    for (var b = p.first; b < p.end; b++) {
        sum += dy[b * p.n + i];
    }
    if (accumulates()) {
        sum += dpositions[i];
    }
    dpositions[i] = sum;
}
