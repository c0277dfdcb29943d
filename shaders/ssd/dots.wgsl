// Products of rows with rows over the features, for each position of each head: dots[at + row] = Σ a_row b_row.
// a is (chunk, head, position, features), and so is b. With GROUPED, the rows of b lie by group, (chunk, group, position, head in the
// group, features). dots is at + (chunk, head, position).
// LANES invocations share a row. These elements of dots are overwritten, and others are left as they are.
// uses: common/grid, common/reduce, common/ssd
const GROUPED: u32 = 0u;

@group(0) @binding(0) var<storage, read> a: array<f32>;          // (chunk, head, position, features)
@group(0) @binding(1) var<storage, read> b: array<f32>;          // (chunk, head, position, features)
@group(0) @binding(2) var<storage, read_write> dots: array<f32>; // at + (chunk, head, position)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = flat_group(group, groups) * (WG / LANES) + local / LANES;
    let lane = local % LANES;
    let safe = min(row, rows() - 1u);
    var other = safe;
    if (GROUPED == 1u) {
        other = by_group(safe / p.size / p.heads, safe / p.size % p.heads, safe % p.size);
    }
    var sum = 0.0;
    for (var c = lane; c < p.features; c += LANES) {
        sum = fma(a[safe * p.features + c], b[other * p.features + c], sum);
    }
    sum = row_sum(sum, local);
    if (row < rows() && lane == 0u) {
        dots[p.at + row] = sum;
    }
}
