// L2 normalisation of rows, as in torch.nn.functional.normalize: y = x / max(‖x‖, 1e-12).
// x and y are (rows, cols), and norm is (rows) = max(‖x‖, 1e-12). LANES invocations share a row. y and norm are overwritten.
// uses: common/grid, common/norm, common/reduce
struct Params { rows: u32, cols: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;          // (rows, cols)
@group(0) @binding(1) var<storage, read_write> y: array<f32>;    // (rows, cols)
@group(0) @binding(2) var<storage, read_write> norm: array<f32>; // (rows)

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
            let v = x[safe * p.cols + c];
            part = fma(v, v, part);
        }
        sum += part;
    }
    let length = norm_of(row_sum(sum, local));
    if (row >= p.rows) {
        return;
    }
    for (var c = lane; c < p.cols; c += LANES) {
        y[row * p.cols + c] = x[row * p.cols + c] / length;
    }
    if (lane == 0u) {
        norm[row] = length;
    }
}
