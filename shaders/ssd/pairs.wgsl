// What the pairs of positions of a chunk contribute to the gradient of the decay between them, for each head. With T_ij = dm_ij g_ij
// exp(α_i − α_j) δ_j for i > j, row r holds:
//   k ≤ r: Σ_{j < k} T_rj, as far as position r looks back over the step from k − 1 to k;
//   k > r: dm_ir g_ir exp(α_i − α_r), i = k − 1, by which δ_r counts there
// Sums of sums need no differences of large numbers (ssd/backward_decay).
// dm is (chunk, head, i, j), g is (chunk, group, i, j), decay is (3, chunk, head, position) = α, δ, slope, and sums is (chunk, head, r,
// size + 1).
// One invocation computes one row. sums is overwritten.
// uses: common/grid, common/ssd, common/math
const WG: u32 = 64u;

@group(0) @binding(0) var<storage, read> dm: array<f32>;         // (chunk, head, i, j)
@group(0) @binding(1) var<storage, read> g: array<f32>;          // (chunk, group, i, j)
@group(0) @binding(2) var<storage, read> decay: array<f32>;      // (3, chunk, head, position)
@group(0) @binding(3) var<storage, read_write> sums: array<f32>; // (chunk, head, r, size + 1)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = flat_group(group, groups) * WG + local;
    if (row >= rows()) {
        return;
    }
    let r = row % p.size;
    let head = row / p.size % p.heads;
    let chunk = row / p.size / p.heads;
    let first = row - r;
    let own = decay[row];
    let at = row * (p.size + 1u);
    let g_first = of_group(chunk, head, 0u) * p.size;
    var sum = 0.0;
    for (var k = 0u; k < p.size; k++) {
        if (k < r) {
            sums[at + k] = sum;
            let t = dm[row * p.size + k] * g[g_first + r * p.size + k] * exp_accurate(own - decay[first + k]);
            sum = fma(t, decay[rows() + first + k], sum);
        } else {
            if (k == r) {
                sums[at + k] = sum;
            }
            sums[at + k + 1u] = dm[(first + k) * p.size + r] * g[g_first + k * p.size + r] * exp_accurate(decay[first + k] - own);
        }
    }
}
