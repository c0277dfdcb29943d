// Latents drawn from their posterior, reparameterised (Kingma & Welling 2014): z = μ + ε exp(s / 2) with s = ln σ². ε ~ N(0, 1) is a
// function of (seed, stream, tick, index). Without NOISE, z = μ. The gradient is in vae/backward.
// x is (rows, 2, cols), μ then s, and z is (rows, cols). One invocation computes one element of z. z is overwritten.
// uses: common/grid, common/math, common/random, common/normal, common/state
const WG: u32 = 64u;
const NOISE: u32 = 1u;

struct Params { rows: u32, cols: u32, stream: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> x: array<f32>;       // (rows, 2, cols)
@group(0) @binding(2) var<storage, read_write> z: array<f32>; // (rows, cols)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    if (i >= p.rows * p.cols) {
        return;
    }
    let at = i + i / p.cols * p.cols;
    var v = x[at];
    if (NOISE == 1u) {
        v += exp_accurate(0.5 * x[at + p.cols]) * normal(state.seed, p.stream, state.tick, i);
    }
    z[i] = v;
}
