// Outputs of all heads, position after position. within is what comes from the chunk itself, and before = S C_i what comes from the state
// before it.
//   y_t = within_i + D x_i, and with STATES + exp(α_i) before_i
// within and x are (chunk, head, position, features), and before is (chunk, group, position, head in the group, features). decay is (3,
// chunk, head, position) = α, δ, slope, d is (heads), and y is (batch, length, heads, features).
// One invocation computes EACH elements of y. y is overwritten.
// uses: common/grid, common/ssd, common/math
const WG: u32 = 64u;
// Number of elements that an invocation computes, which are of one row.
const EACH: u32 = 1u;
const STATES: u32 = 1u;

@group(0) @binding(0) var<storage, read> within: array<f32>;  // (chunk, head, position, features)
@group(0) @binding(1) var<storage, read> before: array<f32>;  // (chunk, group, position, head in the group, features)
@group(0) @binding(2) var<storage, read> x: array<f32>;       // (chunk, head, position, features)
@group(0) @binding(3) var<storage, read> decay: array<f32>;   // (3, chunk, head, position)
@group(0) @binding(4) var<storage, read> d: array<f32>;       // (heads)
@group(0) @binding(5) var<storage, read_write> y: array<f32>; // (batch, length, heads, features)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let e = (flat_group(group, groups) * WG + local) * EACH;
    let columns = p.heads * p.features;
    if (e >= p.batch * p.length * columns) {
        return;
    }
    let t = e / columns % p.length;
    let head = e % columns / p.features;
    let feature = e % p.features;
    let chunk = e / columns / p.length * p.chunks + t / p.size;
    let i = t % p.size;
    let row = by_head(chunk, head, i);
    let at = row * p.features + feature;
    let skip = d[head];
    var gain = 0.0;
    var before_at = 0u;
    if (STATES == 1u) {
        gain = exp_accurate(decay[row]);
        before_at = by_group(chunk, head, i) * p.features + feature;
    }
    for (var k = 0u; k < EACH; k++) {
        var sum = fma(skip, x[at + k], within[at + k]);
        if (STATES == 1u) {
            sum = fma(gain, before[before_at + k], sum);
        }
        y[e + k] = sum;
    }
}
