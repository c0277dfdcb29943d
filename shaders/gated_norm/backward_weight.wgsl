// Gradient of the gated RMS normalisation by its weight, which all rows share. The forward pass was out = w ⊙ g r with g = y ⊙ silu(z).
//   dw = Σ_rows dout ⊙ g r
// The rows `start` to `end` − 1 are summed. y and dout are (rows, cols), z is the first cols columns of (rows, width), stats is (rows,
// groups) = r, and dw is (cols).
// A workgroup computes COLS columns. The WG / COLS invocations of a column stride over the rows, and their sums are added in a fixed order.
// dw is added to (common/sum).
// uses: common/grid, common/columns, common/math, common/state, common/sum
alias Sum = f32;

struct Params { start: u32, end: u32, cols: u32, width: u32, groups: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> y: array<f32>;        // (rows, cols)
@group(0) @binding(1) var<storage, read> z: array<f32>;        // (rows, width)
@group(0) @binding(2) var<storage, read> stats: array<f32>;    // (rows, groups)
@group(0) @binding(3) var<storage, read> dout: array<f32>;     // (rows, cols)
@group(0) @binding(4) var<storage, read_write> dw: array<f32>; // (cols)
@group(0) @binding(5) var<storage, read> state: State;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let col = flat_group(group, groups) * COLS + local % COLS;
    let safe = min(col, p.cols - 1u);
    let part = safe / (p.cols / p.groups);
    var sum = 0.0;
    for (var row = p.start + local / COLS; row < p.end; row += WG / COLS) {
        let z_c = z[row * p.width + safe];
        let g = y[row * p.cols + safe] * times_sigmoid(z_c, z_c) * stats[row * p.groups + part];
        sum = fma(dout[row * p.cols + safe], g, sum);
    }
    sum = column_sum(sum, local);
    if (local < COLS && col < p.cols) {
        if (accumulates()) {
            sum += dw[col];
        }
        dw[col] = sum;
    }
}
