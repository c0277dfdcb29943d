// InfoNCE (van den Oord et al. 2018) in both directions over the n rows that count. The logits are s / τ, with the pairs on the diagonal.
//   lse_row_i = ln Σ_j exp(s_ij / τ), lse_col_i = ln Σ_j exp(s_ji / τ), loss_i = lse_row_i + lse_col_i − 2 s_ii / τ
// s is (rows, rows) = p · t̂ᵀ, lse is (rows, 2), and y is (rows, cols). Rows that do not count get 0.
// LANES invocations share a row. lse is overwritten, y[column] is overwritten with loss_i, and weight · loss_i is added to y[0].
// uses: common/grid, common/reduce, common/math, common/state
struct Params { rows: u32, cols: u32, column: u32, weight: f32, temperature: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> s: array<f32>;         // (rows, rows)
@group(0) @binding(2) var<storage, read_write> lse: array<f32>; // (rows, 2)
@group(0) @binding(3) var<storage, read_write> y: array<f32>;   // (rows, cols)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = flat_group(group, groups) * (WG / LANES) + local / LANES;
    let lane = local % LANES;
    let safe = min(row, p.rows - 1u);
    let n = min(p.rows, state.rows);
    var best = vec2<f32>(-3.0e38);
    for (var j = lane; j < n; j += LANES) {
        best = max(best, vec2<f32>(s[safe * p.rows + j], s[j * p.rows + safe]));
    }
    best = vec2<f32>(row_max(best.x, local), row_max(best.y, local));
    var sum = vec2<f32>(0.0);
    for (var j = lane; j < n; j += LANES) {
        sum.x += exp_accurate((s[safe * p.rows + j] - best.x) / p.temperature);
        sum.y += exp_accurate((s[j * p.rows + safe] - best.y) / p.temperature);
    }
    sum = vec2<f32>(row_sum(sum.x, local), row_sum(sum.y, local));
    if (row >= p.rows || lane > 0u) {
        return;
    }
    let own = s[row * p.rows + row];
    let out = vec2<f32>(log_accurate(sum.x), log_accurate(sum.y));
    let loss = select(0.0, out.x + (best.x - own) / p.temperature + out.y + (best.y - own) / p.temperature, row < n);
    lse[row * 2u] = select(0.0, out.x + best.x / p.temperature, row < n);
    lse[row * 2u + 1u] = select(0.0, out.y + best.y / p.temperature, row < n);
    y[row * p.cols + p.column] = loss;
    y[row * p.cols] += p.weight * loss;
}
