// Weights of earlier positions within a chunk, for each head. g_ij = C_i · B_j is that of the head's group. Differences of α are never
// positive, so nothing overflows.
//   m_ij = g_ij exp(α_i − α_j) δ_j for j ≤ i, else 0
// g is (chunk, group, i, j), decay is (3, chunk, head, position) = α, δ, slope, and m is (chunk, head, i, j).
// One invocation computes EACH elements of m. m is overwritten.
// uses: common/grid, common/ssd, common/math
const WG: u32 = 64u;
// Number of elements that an invocation computes, which are of one row.
const EACH: u32 = 1u;

@group(0) @binding(0) var<storage, read> g: array<f32>;       // (chunk, group, i, j)
@group(0) @binding(1) var<storage, read> decay: array<f32>;   // (3, chunk, head, position)
@group(0) @binding(2) var<storage, read_write> m: array<f32>; // (chunk, head, i, j)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let e = (flat_group(group, groups) * WG + local) * EACH;
    if (e >= rows() * p.size) {
        return;
    }
    let row = e / p.size;
    let j = e % p.size;
    let i = row % p.size;
    let head = row / p.size % p.heads;
    let chunk = row / p.size / p.heads;
    let own = decay[row];
    let g_at = of_group(chunk, head, i) * p.size + j;
    let other = row - i + j;
    for (var k = 0u; k < EACH; k++) {
        var v = 0.0;
        if (j + k <= i) {
            v = g[g_at + k] * exp_accurate(own - decay[other + k]) * decay[rows() + other + k];
        }
        m[e + k] = v;
    }
}
