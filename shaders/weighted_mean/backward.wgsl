// Gradient of the mean by weight, by the scores s and by x. The forward pass was a = softmax(s) over the positions, and y_c = Σ_t a_t x_tc
// over the features c of a head.
//   da_t = Σ_c dy_c x_tc;  ∂a_t/∂s_r = a_t (δ_tr − a_r) (Bishop 2006, eq. 4.106), so ds_t = a_t (da_t − Σ_r a_r da_r),
//   and Σ_r a_r da_r = Σ_c dy_c y_c: ds_t = a_t Σ_c dy_c (x_tc − y_c);  dx_tc = a_t dy_c
// Where a is 0, after the end of a sequence, both are 0.
// a and ds are (batch, length, heads), x and dx are (batch, length, cols), and y and dy are (batch, cols).
// LANES invocations share a row, which is a position of a head. ds and dx are overwritten.
// uses: common/grid, common/reduce

struct Params { batch: u32, length: u32, heads: u32, cols: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> a: array<f32>;        // (batch, length, heads)
@group(0) @binding(1) var<storage, read> x: array<f32>;        // (batch, length, cols)
@group(0) @binding(2) var<storage, read> y: array<f32>;        // (batch, cols)
@group(0) @binding(3) var<storage, read> dy: array<f32>;       // (batch, cols)
@group(0) @binding(4) var<storage, read_write> ds: array<f32>; // (batch, length, heads)
@group(0) @binding(5) var<storage, read_write> dx: array<f32>; // (batch, length, cols)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = flat_group(group, groups) * (WG / LANES) + local / LANES;
    let lane = local % LANES;
    let rows = p.batch * p.length * p.heads;
    let safe = min(row, rows - 1u);
    let width = p.cols / p.heads;
    let weight = a[safe];
    // First feature of the head in the sequence's row, and at this position.
    let of_row = safe / (p.length * p.heads) * p.cols + safe % p.heads * width;
    let first = safe / p.heads * p.cols + safe % p.heads * width;
    var sum = 0.0;
    for (var c = lane; c < width; c += LANES) {
        let upstream = dy[of_row + c];
        sum = fma(upstream, x[first + c] - y[of_row + c], sum);
        if (row < rows) {
            dx[first + c] = weight * upstream;
        }
    }
    sum = row_sum(sum, local);
    if (row < rows && lane == 0u) {
        ds[row] = weight * sum;
    }
}
