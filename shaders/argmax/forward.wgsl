// Index of the largest element of each row. Of equal elements the lowest index is taken.
// x is (rows, cols) and y is (rows). LANES invocations share a row. y is overwritten.
// uses: common/grid, common/reduce
struct Params { rows: u32, cols: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;       // (rows, cols)
@group(0) @binding(1) var<storage, read_write> y: array<u32>; // (rows)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = flat_group(group, groups) * (WG / LANES) + local / LANES;
    let lane = local % LANES;
    let start = min(row, p.rows - 1u) * p.cols;
    var best = x[start];
    for (var c = lane; c < p.cols; c += LANES) {
        best = max(best, x[start + c]);
    }
    best = row_max(best, local);
    var first = p.cols;
    for (var c = lane; c < p.cols; c += LANES) {
        if (x[start + c] == best) {
            first = min(first, c);
        }
    }
    // The lowest index is the highest negative one; indices below 2^24 are exact in f32.
    let index = u32(-row_max(-f32(first), local));
    if (row < p.rows && lane == 0u) {
        y[row] = index;
    }
}
