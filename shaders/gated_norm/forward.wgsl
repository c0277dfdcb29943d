// Gated RMS normalisation by groups of the columns (Dao & Gu 2024, section 7.2; RMS norm: Zhang & Sennrich 2019, eq. 4).
//   g = y ⊙ silu(z), silu(z) = z σ(z);  r = (mean g² over the group + eps)^(−½);  out = w ⊙ g r
// y and out are (rows, cols), z is the first cols columns of (rows, width), w is (cols), and stats is (rows, groups) = r.
// LANES invocations share a row, which is a group of a row. out and stats are overwritten.
// uses: common/grid, common/reduce, common/math

struct Params { rows: u32, cols: u32, width: u32, groups: u32, eps: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> y: array<f32>;           // (rows, cols)
@group(0) @binding(1) var<storage, read> z: array<f32>;           // (rows, width)
@group(0) @binding(2) var<storage, read> w: array<f32>;           // (cols)
@group(0) @binding(3) var<storage, read_write> out: array<f32>;   // (rows, cols)
@group(0) @binding(4) var<storage, read_write> stats: array<f32>; // (rows, groups)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let part = flat_group(group, groups) * (WG / LANES) + local / LANES;
    let lane = local % LANES;
    let safe = min(part, p.rows * p.groups - 1u);
    let size = p.cols / p.groups;
    let row = safe / p.groups;
    let first = safe % p.groups * size;
    var squares = 0.0;
    for (var c = lane; c < size; c += LANES) {
        let z_c = z[row * p.width + first + c];
        let g = y[row * p.cols + first + c] * times_sigmoid(z_c, z_c);
        squares = fma(g, g, squares);
    }
    squares = row_sum(squares, local);
    let r = inverseSqrt(squares / f32(size) + p.eps);
    if (part >= p.rows * p.groups) {
        return;
    }
    for (var c = lane; c < size; c += LANES) {
        let z_c = z[row * p.width + first + c];
        out[row * p.cols + first + c] = w[first + c] * (y[row * p.cols + first + c] * times_sigmoid(z_c, z_c) * r);
    }
    if (lane == 0u) {
        stats[part] = r;
    }
}
