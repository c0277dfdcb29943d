// Sum over the heads of a group of what the gradients of the scores give. It is the gradient of g in m_ij = g_ij exp(α_i − α_j) δ_j
// (ssd/scores), as all heads of the group have the same g.
//   dg_ij = Σ_h dm_ij exp(α_i − α_j) δ_j for j ≤ i, else 0
// dm is (chunk, head, i, j), decay is (3, chunk, head, position) = α, δ, slope, and dg is (chunk, group, i, j).
// One invocation computes one element of dg. dg is overwritten.
// uses: common/grid, common/ssd, common/math
const WG: u32 = 64u;

@group(0) @binding(0) var<storage, read> dm: array<f32>;       // (chunk, head, i, j)
@group(0) @binding(1) var<storage, read> decay: array<f32>;    // (3, chunk, head, position)
@group(0) @binding(2) var<storage, read_write> dg: array<f32>; // (chunk, group, i, j)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let e = flat_group(group, groups) * WG + local;
    if (e >= p.batch * p.chunks * p.groups * p.size * p.size) {
        return;
    }
    let j = e % p.size;
    let i = e / p.size % p.size;
    let heads = p.heads / p.groups;
    let first = e / p.size / p.size % p.groups * heads;
    let chunk = e / p.size / p.size / p.groups;
    var sum = 0.0;
    if (j <= i) {
        for (var head = 0u; head < heads; head++) {
            let row = by_head(chunk, first + head, i);
            let other = row - i + j;
            sum = fma(dm[row * p.size + j] * exp_accurate(decay[row] - decay[other]), decay[rows() + other], sum);
        }
    }
    dg[e] = sum;
}
