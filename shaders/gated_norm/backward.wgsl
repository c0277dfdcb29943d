// Gradient of the gated RMS normalisation. The forward pass was, with means over the n columns of a group:
//   g = y ⊙ silu(z), out = w ⊙ g r, r = (mean g² + eps)^(−½)
// The gradient follows from ∂r/∂g_c = −r³ g_c / n and silu'(z) = σ(z) (1 + z σ(−z)).
//   dg = r (w ⊙ dout − g r² mean(g ⊙ w ⊙ dout));  dy = dg ⊙ silu(z);  dz = dg ⊙ y ⊙ silu'(z)
// y, dout and dy are (rows, cols), w is (cols), and stats is (rows, groups) = r. z and dz are the first cols columns of (rows, width).
// LANES invocations share a row, which is a group of a row. dy and dz are overwritten, and the other columns beside dz are left as they
// are.
// uses: common/grid, common/reduce, common/math

struct Params { rows: u32, cols: u32, width: u32, groups: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> y: array<f32>;        // (rows, cols)
@group(0) @binding(1) var<storage, read> z: array<f32>;        // (rows, width)
@group(0) @binding(2) var<storage, read> w: array<f32>;        // (cols)
@group(0) @binding(3) var<storage, read> stats: array<f32>;    // (rows, groups)
@group(0) @binding(4) var<storage, read> dout: array<f32>;     // (rows, cols)
@group(0) @binding(5) var<storage, read_write> dy: array<f32>; // (rows, cols)
@group(0) @binding(6) var<storage, read_write> dz: array<f32>; // (rows, width)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let part = flat_group(group, groups) * (WG / LANES) + local / LANES;
    let lane = local % LANES;
    let safe = min(part, p.rows * p.groups - 1u);
    let size = p.cols / p.groups;
    let row = safe / p.groups;
    let first = safe % p.groups * size;
    var sum = 0.0;
    for (var c = lane; c < size; c += LANES) {
        let at = row * p.cols + first + c;
        let z_c = z[row * p.width + first + c];
        sum = fma(y[at] * times_sigmoid(z_c, z_c), w[first + c] * dout[at], sum);
    }
    sum = row_sum(sum, local);
    if (part >= p.rows * p.groups) {
        return;
    }
    let r = stats[part];
    let mean = sum / f32(size);
    for (var c = lane; c < size; c += LANES) {
        let at = row * p.cols + first + c;
        let z_c = z[row * p.width + first + c];
        let gate = times_sigmoid(z_c, z_c);
        let dg = r * (w[first + c] * dout[at] - (y[at] * gate * r) * (r * mean));
        dy[at] = dg * gate;
        dz[row * p.width + first + c] = dg * y[at] * (sigmoid(z_c) * (1.0 + z_c * sigmoid(-z_c)));
    }
}
