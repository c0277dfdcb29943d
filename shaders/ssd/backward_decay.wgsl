// Gradient of the steps of each head. α_k, k ≤ i, is in whatever reaches position i from before k. So a = δ A of position k has, with the
// sums of ssd/pairs:
//   da_k = Σ_{i ≥ k} (exp(α_i) ȳ_i · S C_i + Σ_{j < k} T_ij) + exp(α_last) ⟨R, S⟩ + Σ_{j < k} δ_j q_j,
//   q_j = exp(α_last − α_j) x_j · R B_j;
//   dδ_k = Σ_{i ≥ k} dm_ik g_ik exp(α_i − α_k) + q_k + A da_k;   dd_k = dδ_k slope_k
// S is the state before the chunk, and R the gradient of the one after it. Without STATES there are none. Each is a sum of positive and
// negative terms, never a difference of two long sums.
// decay is (3, chunk, head, position) = α, δ, slope, a_log is (heads), and sums is (chunk, head, r, size + 1). dots is (3, chunk, head,
// position) = ȳ · S C, x · R B, ȳ · x, and then (chunk, head) = ⟨R, S⟩. dzx is (batch, length, width), whose last `heads` columns are dd.
// terms is (2, chunk, head, position) = δ da, dd.
// One invocation computes one position of a head. terms and these columns of dzx are overwritten, and its other columns are left as they
// are.
// uses: common/grid, common/ssd, common/math
const WG: u32 = 64u;
const STATES: u32 = 1u;

@group(0) @binding(0) var<storage, read> decay: array<f32>;       // (3, chunk, head, position)
@group(0) @binding(1) var<storage, read> a_log: array<f32>;       // (heads)
@group(0) @binding(2) var<storage, read> sums: array<f32>;        // (chunk, head, r, size + 1)
@group(0) @binding(3) var<storage, read> dots: array<f32>;        // (3, chunk, head, position), (chunk, head)
@group(0) @binding(4) var<storage, read_write> dzx: array<f32>;   // (batch, length, width)
@group(0) @binding(5) var<storage, read_write> terms: array<f32>; // (2, chunk, head, position)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = flat_group(group, groups) * WG + local;
    if (row >= rows()) {
        return;
    }
    let k = row % p.size;
    let head = row / p.size % p.heads;
    let chunk = row / p.size / p.heads;
    let first = row - k;
    let last = decay[first + p.size - 1u];
    var da = 0.0;
    var ddelta = 0.0;
    for (var i = 0u; i < p.size; i++) {
        if (i >= k) {
            da += sums[(first + i) * (p.size + 1u) + k];
            ddelta += sums[row * (p.size + 1u) + i + 1u];
            if (STATES == 1u) {
                da = fma(exp_accurate(decay[first + i]), dots[first + i], da);
            }
        } else if (STATES == 1u) {
            da = fma(decay[rows() + first + i] * exp_accurate(last - decay[first + i]), dots[rows() + first + i], da);
        }
    }
    if (STATES == 1u) {
        da = fma(exp_accurate(last), dots[3u * rows() + chunk * p.heads + head], da);
        ddelta = fma(exp_accurate(last - decay[row]), dots[rows() + row], ddelta);
    }
    ddelta = fma(-exp_accurate(a_log[head]), da, ddelta);
    let dd = ddelta * decay[2u * rows() + row];
    terms[row] = decay[rows() + row] * da;
    terms[rows() + row] = dd;
    let t = chunk % p.chunks * p.size + k;
    if (t < p.length) {
        dzx[(chunk / p.chunks * p.length + t + 1u) * p.width - p.heads + head] = dd;
    }
}
