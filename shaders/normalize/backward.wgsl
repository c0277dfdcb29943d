// Gradient of L2 normalisation, y = x / ‖x‖. It follows from ∂‖x‖/∂x_j = x_j / ‖x‖ = y_j.
//   ∂y_i/∂x_j = δ_ij / ‖x‖ − x_i y_j / ‖x‖² = (δ_ij − y_i y_j) / ‖x‖, a symmetric matrix that takes off the part along y:
//   dx = (dy − y (y · dy)) / ‖x‖
// It is the gradient of weight normalisation (Salimans & Kingma 2016) with a length of 1.
// y, dy and dx are (rows, cols), and norm is (rows). LANES invocations share a row. dx is overwritten, or added to with ACCUMULATE.
// uses: common/grid, common/reduce
const ACCUMULATE: u32 = 0u;

struct Params { rows: u32, cols: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> y: array<f32>;        // (rows, cols)
@group(0) @binding(1) var<storage, read> norm: array<f32>;     // (rows)
@group(0) @binding(2) var<storage, read> dy: array<f32>;       // (rows, cols)
@group(0) @binding(3) var<storage, read_write> dx: array<f32>; // (rows, cols)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = flat_group(group, groups) * (WG / LANES) + local / LANES;
    let lane = local % LANES;
    let safe = min(row, p.rows - 1u);
    // The sum is taken in blocks, so that the rounding errors of a long row do not add up.
    var sum = 0.0;
    for (var block = lane; block < p.cols; block += LANES * 32u) {
        var part = 0.0;
        for (var c = block; c < min(block + LANES * 32u, p.cols); c += LANES) {
            part = fma(y[safe * p.cols + c], dy[safe * p.cols + c], part);
        }
        sum += part;
    }
    let along = row_sum(sum, local);
    if (row >= p.rows) {
        return;
    }
    for (var c = lane; c < p.cols; c += LANES) {
        let i = row * p.cols + c;
        var v = fma(-y[i], along, dy[i]) / norm[row];
        if (ACCUMULATE == 1u) {
            v += dx[i];
        }
        dx[i] = v;
    }
}
