// Gradient of layer normalisation (Ba et al. 2016, eq. 3 and 4) by its input. The forward pass was, over n columns:
//   c = x − mean(x), rstd = (mean(c²) + eps)^(−½), x̂ = c · rstd, y = x̂ ⊙ w + b
// The gradient by x̂ is g = dy ⊙ w.
//   ∂rstd/∂c_i = −rstd³ · c_i / n, so the gradient by c is g · rstd − c · rstd³ · mean(g ⊙ c) = rstd · (g − x̂ · mean(g ⊙ x̂))
//   c = x − mean(x) takes the mean off that, which is rstd · mean(g), as mean(x̂) = 0:
//   dx = rstd · (g − mean(g) − x̂ · mean(g ⊙ x̂))
// With two columns, the first two terms cancel the third but for the share of eps in the variance, x̂² = 1 − eps · rstd². What is left
// drowns in rounding unless it is written so:
//   dx₀ = −dx₁ = ½ (g₀ − g₁) · eps · rstd³
// x, dy and dx are (rows, cols), w is (cols), and stats is (rows, 2) from the forward pass.
// Without CENTER it is RMS normalisation (Zhang & Sennrich 2019, eq. 4). Then c = x, so x̂ = x · rstd, and mean(g) is left out. With
// DERIVATIVE, the result is multiplied by activation'(z). With RESIDUAL, the residual is added after that. With DROPPED, the result is also
// given as it passes a dropout below, dropped = dx · keep / (1 − rate) (dropout/apply).
// LANES invocations share a row, which they read in steps of FEATURES. dx is overwritten, and so is dropped.
// uses: common/features_4 | common/features_1, common/grid, common/reduce, common/activation, common/math, common/random, common/state
const CENTER: u32 = 1u;
const DERIVATIVE: u32 = 1u;
const RESIDUAL: u32 = 1u;
const DROPPED: u32 = 1u;

struct Params { rows: u32, cols: u32, eps: f32, stream: u32, rate: f32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<Features>;   // (rows, cols)
@group(0) @binding(1) var<storage, read> w: array<Features>;   // (cols)
@group(0) @binding(2) var<storage, read> stats: array<f32>;    // (rows, 2)
@group(0) @binding(3) var<storage, read> dy: array<Features>;  // (rows, cols)
@group(0) @binding(4) var<storage, read_write> dx: array<Features>; // (rows, cols)
@group(0) @binding(5) var<storage, read> z: array<Features>;   // (rows, cols)
@group(0) @binding(6) var<storage, read> residual: array<Features>; // (rows, cols)
@group(0) @binding(7) var<storage, read_write> dropped: array<Features>; // (rows, cols)
@group(0) @binding(8) var<storage, read> state: State;

fn store(i: u32, value: Features) {
    var v = value;
    if (DERIVATIVE != 0u) {
        for (var k = 0u; k < FEATURES; k++) {
            v = put(v, k, component(v, k) * activation_derivative(DERIVATIVE, component(z[i], k)));
        }
    }
    if (RESIDUAL == 1u) {
        v += residual[i];
    }
    dx[i] = v;
    if (DROPPED == 1u) {
        for (var k = 0u; k < FEATURES; k++) {
            v = put(v, k, component(v, k) * keep(state.seed, p.stream, state.tick, i * FEATURES + k, p.rate));
        }
        dropped[i] = v;
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = flat_group(group, groups) * (WG / LANES) + local / LANES;
    let lane = local % LANES;
    let safe = min(row, p.rows - 1u);
    let steps = p.cols / FEATURES;
    let start = safe * steps;
    var pivot = 0.0;
    if (CENTER == 1u) {
        pivot = first_of(x[start]);
    }
    let mean = stats[safe * 2u];
    let rstd = stats[safe * 2u + 1u];
    var gradients = 0.0;
    var products = 0.0;
    for (var c = lane; c < steps; c += LANES) {
        let g = dy[start + c] * w[c];
        gradients += sum(g);
        products += sum(g * (((x[start + c] - pivot) - mean) * rstd));
    }
    var mean_g = 0.0;
    if (CENTER == 1u) {
        mean_g = row_sum(gradients, local) / f32(p.cols);
    }
    let mean_gx = row_sum(products, local) / f32(p.cols);
    if (row >= p.rows) {
        return;
    }
    if (FEATURES == 1u) {
        if (CENTER == 1u && p.cols == 2u) {
            if (lane == 0u) {
                let half = 0.5 * (dy[start] * w[0] - dy[start + 1u] * w[1]) * p.eps * rstd * rstd * rstd;
                store(start, half);
                store(start + 1u, -half);
            }
            return;
        }
    }
    for (var c = lane; c < steps; c += LANES) {
        let hat = ((x[start + c] - pivot) - mean) * rstd;
        store(start + c, rstd * (dy[start + c] * w[c] - mean_g - hat * mean_gx));
    }
}
