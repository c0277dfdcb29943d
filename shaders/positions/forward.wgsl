// Sinusoidal positions (Vaswani et al. 2017) added to each row. The gradient passes through unchanged.
//   y[m, 2i] = x[m, 2i] + sin(t ω_i), y[m, 2i + 1] = x[m, 2i + 1] + cos(t ω_i), ω_i = 10000^(−2i / cols), t = m mod length
// x and y are (rows, cols). One invocation computes one element. y is overwritten.
// uses: common/grid, common/math
const WG: u32 = 64u;

struct Params { rows: u32, cols: u32, length: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;       // (rows, cols)
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // (rows, cols)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    if (i >= p.rows * p.cols) {
        return;
    }
    let c = i % p.cols;
    let t = f32(i / p.cols % p.length);
    let wave = sin_cos(t * exp_accurate(-9.21034037 * f32(c / 2u * 2u) / f32(p.cols)));
    y[i] = x[i] + select(wave.x, wave.y, c % 2u == 1u);
}
