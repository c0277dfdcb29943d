// Gradient of the posterior from that of the latents and from the divergence (Kingma & Welling 2014, section 2.4 and appendix B). The
// forward pass was z = μ + ε exp(s / 2) with s = ln σ². The loss has weight · the mean of kl over the n rows that count.
//   kl = mean_c ½ (μ² + exp s − 1 − s)
//   ∂z/∂μ = 1, ∂z/∂s = ½ ε exp(s / 2);  ∂kl/∂μ = μ / cols, ∂kl/∂s = ½ (exp s − 1) / cols
//   dμ = dz + k μ;  ds = ½ dz ε exp(s / 2) + ½ k (exp s − 1)
// Here k = weight · scale / (n · cols), and 0 in the rows that do not count. Without NOISE, ε = 0. With SCALED, k is multiplied by the loss
// scale, records[slot, SCALE_AT].
// x and dx are (rows, 2, cols), and dz is (rows, cols). One invocation computes one element of dz. dx is overwritten.
// uses: common/grid, common/math, common/random, common/normal, common/record, common/state
const WG: u32 = 64u;
const NOISE: u32 = 1u;
const SCALED: u32 = 0u;

struct Params { rows: u32, cols: u32, stream: u32, weight: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> state: State;
@group(0) @binding(1) var<storage, read> x: array<f32>;        // (rows, 2, cols)
@group(0) @binding(2) var<storage, read> dz: array<f32>;       // (rows, cols)
@group(0) @binding(3) var<storage, read_write> dx: array<f32>; // (rows, 2, cols)
@group(0) @binding(4) var<storage, read> records: array<f32>;  // (slots, RECORD)

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = flat_group(group, groups) * WG + local;
    if (i >= p.rows * p.cols) {
        return;
    }
    let valid = min(p.rows, state.rows);
    var k = select(0.0, p.weight * state.scale / f32(valid) / f32(p.cols), i / p.cols < valid);
    if (SCALED == 1u) {
        k *= records[state.slot * RECORD + SCALE_AT];
    }
    let at = i + i / p.cols * p.cols;
    let s = x[at + p.cols];
    var noise = 0.0;
    if (NOISE == 1u) {
        noise = normal(state.seed, p.stream, state.tick, i);
    }
    dx[at] = fma(k, x[at], dz[i]);
    dx[at + p.cols] = 0.5 * (dz[i] * noise * exp_accurate(0.5 * s) + k * (exp_accurate(s) - 1.0));
}
