// Gradient of InfoNCE by the products s (van den Oord et al. 2018, eq. 4, with exp(s / τ) for f). The loss is the mean of
// lse_row_i + lse_col_i − 2 s_ii / τ over the n rows that count. These are two softmax cross-entropies, and s_ij is in the sums of row i
// and of column j.
//   ∂lse_row_i/∂s_ij = exp(s_ij / τ − lse_row_i) / τ;  ∂lse_col_j/∂s_ij = exp(s_ij / τ − lse_col_j) / τ
//   ds_ij = scale · weight / (n τ) · (exp(s_ij / τ − lse_row_i) + exp(s_ij / τ − lse_col_j) − 2 δ_ij), 0 outside the n rows
// s and ds are (rows, rows), and lse is (rows, 2). One invocation computes one element. ds is overwritten.
// uses: common/grid, common/math, common/state
const WG: u32 = 64u;

struct Params { rows: u32, weight: f32, temperature: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> s: array<f32>;        // (rows, rows)
@group(0) @binding(2) var<storage, read> lse: array<f32>;      // (rows, 2)
@group(0) @binding(3) var<storage, read_write> ds: array<f32>; // (rows, rows)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let e = flat_group(group, groups) * WG + local;
    if (e >= p.rows * p.rows) {
        return;
    }
    let i = e / p.rows;
    let j = e % p.rows;
    let n = min(p.rows, state.rows);
    let logit = s[e] / p.temperature;
    let both = exp_accurate(logit - lse[i * 2u]) + exp_accurate(logit - lse[j * 2u + 1u]) - select(0.0, 2.0, i == j);
    ds[e] = select(0.0, state.scale * p.weight / (f32(n) * p.temperature) * both, i < n && j < n);
}
