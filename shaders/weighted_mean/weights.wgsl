// Weights of the positions of each sequence, by head (softmax; Bishop 2006, eq. 4.62).
//   a_t = exp(s_t − m) / Σ_r exp(s_r − m) with m = max s
// The sum is over all positions. With LENGTHS, it is over the first n = lengths[b] of them, from 1 to the length, and the others have the
// weight 0.
// s and a are (batch, length, heads), and lengths is (batch). LANES invocations share a row, which is a head of a sequence. a is
// overwritten.
// uses: common/grid, common/reduce, common/math
const LENGTHS: u32 = 0u;

struct Params { batch: u32, length: u32, heads: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> s: array<f32>;       // (batch, length, heads)
@group(0) @binding(1) var<storage, read_write> a: array<f32>; // (batch, length, heads)
@group(0) @binding(2) var<storage, read> lengths: array<u32>; // (batch)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = flat_group(group, groups) * (WG / LANES) + local / LANES;
    let lane = local % LANES;
    let safe = min(row, p.batch * p.heads - 1u);
    let first = safe / p.heads * p.length * p.heads + safe % p.heads;
    var n = p.length;
    if (LENGTHS == 1u) {
        n = clamp(lengths[safe / p.heads], 1u, p.length);
    }
    var most = -3.0e38;
    for (var t = lane; t < p.length; t += LANES) {
        if (t < n) {
            most = max(most, s[first + t * p.heads]);
        }
    }
    most = row_max(most, local);
    var total = 0.0;
    for (var t = lane; t < p.length; t += LANES) {
        if (t < n) {
            total += exp_accurate(s[first + t * p.heads] - most);
        }
    }
    total = row_sum(total, local);
    if (row >= p.batch * p.heads) {
        return;
    }
    for (var t = lane; t < p.length; t += LANES) {
        var weight = 0.0;
        if (t < n) {
            weight = exp_accurate(s[first + t * p.heads] - most) / total;
        }
        a[first + t * p.heads] = weight;
    }
}
