// Divergence of the posterior from N(0, 1), mean over the latents (Kingma & Welling 2014, app. B). Its gradient is in vae/backward.
//   kl = −½ mean_c (1 + s − μ² − exp s)
// x is (rows, 2, width), μ then s = ln σ², and y is (rows, cols). One invocation computes one row.
// y[column] is overwritten with kl, and weight · kl is added to y[0]. In rows that do not count kl is 0.
// uses: common/grid, common/math, common/state
const WG: u32 = 64u;

struct Params { rows: u32, width: u32, cols: u32, column: u32, weight: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> x: array<f32>;       // (rows, 2, width)
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // (rows, cols)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = flat_group(group, groups) * WG + local;
    if (row >= p.rows) {
        return;
    }
    var sum = 0.0;
    for (var c = 0u; c < p.width; c++) {
        let m = x[row * 2u * p.width + c];
        let s = x[(row * 2u + 1u) * p.width + c];
        sum += 0.5 * (m * m + (exp_accurate(s) - 1.0 - s));
    }
    let kl = select(0.0, sum / f32(p.width), row < state.rows);
    y[row * p.cols + p.column] = kl;
    y[row * p.cols] += p.weight * kl;
}
