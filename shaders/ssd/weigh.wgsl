// Rows of a chunk weighted by what they bring to its border, or have from it. The result is what is left of position i after the chunk.
// With FROM_START, it is what the state before the chunk has become at position i.
//   exp(α_last − α_i) δ_i x_i;  FROM_START: exp(α_i) x_i
// x is (chunk, head, position, features), and y is (chunk, group, position, head in the group, features). decay is (3, chunk, head,
// position) = α, δ, slope.
// One invocation computes EACH elements of x. y is overwritten.
// uses: common/grid, common/ssd, common/math
const WG: u32 = 64u;
// Number of elements that an invocation computes, which are of one row.
const EACH: u32 = 1u;
const FROM_START: u32 = 0u;

@group(0) @binding(0) var<storage, read> x: array<f32>;       // (chunk, head, position, features)
@group(0) @binding(1) var<storage, read> decay: array<f32>;   // (3, chunk, head, position)
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // (chunk, group, position, head in the group, features)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let e = (flat_group(group, groups) * WG + local) * EACH;
    if (e >= rows() * p.features) {
        return;
    }
    let row = e / p.features;
    let i = row % p.size;
    var weight = 1.0;
    if (FROM_START == 1u) {
        weight = exp_accurate(decay[row]);
    } else {
        weight = exp_accurate(decay[row - i + p.size - 1u] - decay[row]) * decay[rows() + row];
    }
    let at = by_group(row / p.size / p.heads, row / p.size % p.heads, i) * p.features + e % p.features;
    for (var k = 0u; k < EACH; k++) {
        y[at + k] = weight * x[e + k];
    }
}
