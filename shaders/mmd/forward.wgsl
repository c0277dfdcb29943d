// One half of the maximum mean discrepancy (Gretton et al. 2012) between unit vectors, from their products s = x · yᵀ. The kernel is k:
//   k_ij = exp(−‖x_i − y_j‖² / 2σ²) = exp(min(s_ij − 1, 0) / σ²);  loss_i = offset + sign · Σ_j k_ij / m
// With SELF, y is x, and only the n rows that count are averaged (m = n). Each pair then counts from both sides in the gradient. Without
// SELF, m = M.
// The whole discrepancy is mean k(x, x) − 2 mean k(x, y) + mean k(y, y). One pass with SELF and sign 1 gives the first term, and another
// with sign −2 the second. An offset is the third, which has no gradient.
// As x and y are unit vectors, ‖x_i − y_j‖² = 2 − 2 s_ij and ∂k_ij/∂s_ij = k_ij / σ². The loss is the mean of loss_i over n rows.
//   ds_ij = scale · weight / n · sign · (2 with SELF) · k_ij / (m σ²)
// The gradient by x_i is Σ_j ds_ij y_j. Normalisation removes what that misses along x_i.
// s and ds are (rows, M), and y is (rows, cols). Rows that do not count get 0.
// LANES invocations share a row. y[column] is overwritten with loss_i, or added to with ACCUMULATE. weight · loss_i is added to y[0], and
// ds is overwritten.
// uses: common/grid, common/reduce, common/math, common/state
const SELF: u32 = 0u;
const GRADIENT: u32 = 1u;
const ACCUMULATE: u32 = 0u;

struct Params { rows: u32, count: u32, cols: u32, column: u32, weight: f32, sign: f32, offset: f32, inverse: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> s: array<f32>;        // (rows, M)
@group(0) @binding(2) var<storage, read_write> y: array<f32>;  // (rows, cols)
@group(0) @binding(3) var<storage, read_write> ds: array<f32>; // (rows, M)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = flat_group(group, groups) * (WG / LANES) + local / LANES;
    let lane = local % LANES;
    let safe = min(row, p.rows - 1u);
    let n = min(p.rows, state.rows);
    let m = select(p.count, n, SELF == 1u);
    let factor = state.scale * p.weight * p.sign * select(1.0, 2.0, SELF == 1u) * p.inverse / (f32(n) * f32(m));
    var sum = 0.0;
    for (var j = lane; j < p.count; j += LANES) {
        // No distance is below 0, whatever rounding makes of a product.
        let k = exp_accurate(min(s[safe * p.count + j] - 1.0, 0.0) * p.inverse);
        let counts = j < m && row < n;
        sum += select(0.0, k, counts);
        if (GRADIENT == 1u) {
            if (row < p.rows) {
                ds[row * p.count + j] = select(0.0, factor * k, counts);
            }
        }
    }
    let loss = select(0.0, p.offset + p.sign * row_sum(sum, local) / f32(m), row < n);
    if (row >= p.rows || lane > 0u) {
        return;
    }
    var value = loss;
    if (ACCUMULATE == 1u) {
        value += y[row * p.cols + p.column];
    }
    y[row * p.cols + p.column] = value;
    y[row * p.cols] += p.weight * loss;
}
